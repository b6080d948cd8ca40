"""``pcloud evaluate``: evaluate a run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from pcloud.cli.command import Command, Options, Switch
from pcloud.cli.options import (
    NetworkOptions,
    ReadingOptions,
    ResultOptions,
    open_run,
    reading,
)
from pcloud.cli.output import print_rows, print_whole, progress_bar, say
from pcloud.errors import InputError
from pcloud.training.config import Fraction, NumJets, Seed

if TYPE_CHECKING:
    from pcloud.run import Run


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ResultOptions):
    """Jets."""

    data: list[str] | None = None
    """Jets other than those of the run: name of a data set, or files. The results are written to
    evaluations/ in the folder of the run."""
    split: str = "test"
    """Split of the data of the run, or of the data set."""
    name: str | None = None
    """Name of the evaluation in the folder evaluations/; by default that of the first file. A name
    that holds the results of other jets is refused."""
    data_root: str | None = None
    """Folder of the public data sets."""


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """Metrics."""

    efficiencies: list[Fraction] = field(default_factory=lambda: [0.3, 0.5])
    """Signal efficiencies at which the background rejection is measured."""
    signal: str | None = None
    """Signal class; by default the second of two, or each in turn."""
    background: str | None = None
    """Background class with which each other class is compared, of more than two classes."""
    bootstrap: Annotated[int, Ge(0), Le(10**6)] = 200
    """Number of bootstrap samples for the errors."""
    seed: Seed = 0
    """Seed of the bootstrap samples."""


@dataclass(frozen=True, kw_only=True)
class RobustnessOptions:
    """Robustness."""

    robustness: Switch = False
    """Also modify the test jets of the run (energies, particles, angles) and measure the change of
    the metrics, the efficiencies against pT, mass and multiplicity, and the sculpting of the
    mass."""
    robustness_jets: NumJets | None = None
    """Number of jets to modify; by default 2000, more where fewer than 25 background jets pass the
    cut, or as many as the network processes in a few minutes."""
    simulations: Annotated[int, Ge(0), Le(10**7)] = 0
    """Number of jets to simulate with each of several other settings of Pythia."""


def execute(options: Options) -> None:
    """Print the table of metrics and write it to the folder of the run."""
    run = open_run(options)
    if options["robustness"] and options["data"]:
        raise InputError("--robustness is about the run's own test jets: leave --data out")
    from pcloud.studies.evaluate import evaluation_folder

    how = reading(options)
    if options["data_root"] is not None:
        how["data_root"] = options["data_root"]
    data = options["data"]
    if data and len(data) == 1:
        data = data[0]
    place = {name: options[name] for name in ("split", "name", "checkpoint")}
    folder = evaluation_folder(run, data, **place, **how)
    table = run.evaluate(
        data,
        **place,
        batch_size=options["batch_size"],
        efficiencies=options["efficiencies"],
        signal=options["signal"],
        background=options["background"],
        num_bootstrap=options["bootstrap"],
        seed=options["seed"],
        **how,
    )
    print_whole(table)
    say(f"written to {folder}")
    if not run.finished:
        say("the training of this run is not finished")
    if options["robustness"]:
        _evaluate_robustness(run, folder, options)


def _evaluate_robustness(run: Run, folder: Path, options: Options) -> None:
    from pcloud.evaluation import read_scores
    from pcloud.run_files import ROBUSTNESS_FILE, SCORES_FILE

    names = ("signal", "background", "checkpoint", "batch_size", "simulations", "seed")
    chosen = {name: options[name] for name in names}
    if options["split"] == "test":  # just scored
        chosen["scores"] = read_scores(folder / SCORES_FILE).values
    chosen["workers"] = os.cpu_count() or 1
    with progress_bar("modifications", 1) as advance:
        stored = run.robustness(jets=options["robustness_jets"], advance=advance, **chosen)
    print_rows(stored.rows())
    print_rows(stored.sculpting_rows())
    say(f"written to {run.out / ROBUSTNESS_FILE}")


COMMAND = Command(
    "evaluate",
    "Evaluate a trained tagger.",
    execute,
    (EvaluateOptions, ReadingOptions, NetworkOptions, MetricOptions, RobustnessOptions),
)
