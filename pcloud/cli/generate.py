"""``pcloud generate``: generate jets by a trained generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from pcloud.cli.command import Command, Flag, Options
from pcloud.cli.options import CheckpointOption, OverwriteOption, ProgressOption, RunArgument
from pcloud.cli.output import progress_bar, say, suggest
from pcloud.training.config import NumJets, Seed


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(ProgressOption, OverwriteOption, RunArgument):
    """Generation."""

    number: Annotated[NumJets, Flag(short="-n")] = 10_000
    """Number of jets."""
    out: Annotated[str, Flag(short="-o")] = "jets.parquet"
    """File to write: .parquet, .npz, or .h5 (Landscape layout)."""
    classes: list[str] | None = None
    """Classes to generate, in equal numbers; by default all of them."""
    steps: Annotated[int, Interval(ge=1, le=10_000)] = 25
    """Number of steps from noise to jets, each with two passes through the network."""
    method: str = "midpoint"
    """Rule of a step: midpoint or heun."""
    seed: Seed = 0
    """Seed of the jets."""


def execute(options: Options) -> None:
    """Generate jets and write them to a file."""
    from pcloud.run import Run

    run = Run(options["run"], trust_code=options["trust_code"])
    names = ("overwrite", "classes", "steps", "method", "seed", "checkpoint")
    with progress_bar("jets", 1, quiet=options["quiet"]) as advance:
        found = run.generate_file(
            options["number"],
            options["out"],
            advance=advance,
            **{name: options[name] for name in names},
        )
    say(
        f"{found.jets:,} jets, {found.rate:,.1f} jets/s with {found.passes} passes through the "
        f"network: {found.path}"
    )
    suggest("inspect", found.path)


COMMAND = Command(
    "generate",
    "Generate jets by a trained generator.",
    execute,
    (GenerateOptions, CheckpointOption),
)
