"""``pcloud uncertainty``: estimate the uncertainty of the score of each test jet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from pcloud.cli.command import Command, Options
from pcloud.cli.options import NetworkOptions, ProgressOption, ResultOptions, open_run
from pcloud.cli.output import print_rows, progress_bar, say, suggest
from pcloud.training.config import NumJets, Seed


@dataclass(frozen=True, kw_only=True)
class UncertaintyOptions(ProgressOption, ResultOptions):
    """Uncertainty."""

    method: Literal["ensemble", "dropout", "laplace", "variational"] | None = None
    """Source of the predictive samples: members of an ensemble, dropout during prediction, or
    weights of the last layer drawn from their Laplace approximation or from trained Gaussians; by
    default ensemble where the run is one, otherwise laplace."""
    samples: Annotated[int, Ge(2), Le(10**6)] = 50
    """Number of predictive samples, where they are drawn."""
    jets: NumJets | None = None
    """Number of test jets; by default all, or as many as the network processes in a few minutes."""
    seed: Seed = 0
    """Seed of the samples."""


def execute(options: Options) -> None:
    """Estimate, write a row for each test jet, and print the summary."""
    from pcloud.run_files import UNCERTAINTY_TABLE

    run = open_run(options)
    chosen = {
        name: options[name] for name in options.keys() - {"run", "out", "quiet", "trust_code"}
    }
    with progress_bar("uncertainty", 1, quiet=options["quiet"]) as advance:
        stored = run.uncertainty(**chosen, advance=advance)
    noun = run.modality.noun
    print_rows(stored.rows(noun))
    values = {
        name.replace("_", " ").replace("jets", noun): f"{value:.3g}"
        if isinstance(value, float)
        else value
        for name, value in stored.facts.items()
    }
    facts = ", ".join(f"{name} {value}" for name, value in values.items())
    say(f"{facts}; entropies in nats")
    table = run.out / UNCERTAINTY_TABLE
    say(
        f"written to {table}, a row for each of {run.modality.number_of(len(stored.labels), 'test')}"
    )
    suggest("report", run.path)


COMMAND = Command(
    "uncertainty",
    "Estimate the uncertainty of each score.",
    execute,
    (UncertaintyOptions, NetworkOptions),
)
