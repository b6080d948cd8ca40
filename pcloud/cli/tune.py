"""``pcloud tune``: tune the hyperparameters of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from pcloud.cli.command import Command, Options
from pcloud.cli.options import ProgressOption, TrustOption
from pcloud.cli.output import print_rows, say, suggest
from pcloud.cli.parser import complete
from pcloud.cli.train import with_file
from pcloud.run_files import CONFIG_FILE
from pcloud.training.config import STAGES
from pcloud.validation import hints


@dataclass(frozen=True, kw_only=True)
class TuneOptions(ProgressOption, TrustOption):
    """Tuning."""

    space: str
    """YAML file of the options to tune, each a range, lr: {low: 1e-4, high: 1e-1, log: true}, or
    choices, batch_size: {choices: [32, 128]}."""
    sampler: Literal["grid", "random", "tpe", "cmaes"] = "tpe"
    """Sampler: all points of a grid in random order, random values, a tree-structured Parzen
    estimator, or the evolution strategy CMA-ES."""
    trials: Annotated[int, Ge(1), Le(10**6)] = 20
    """Number of trials, of all processes with this command together."""
    hours: Annotated[float, Gt(0), Le(10**5)] | None = None
    """Time after which this process starts no further trial."""
    repeats: Annotated[int, Ge(0), Le(100)] = 3
    """Number of further seeds with which the best trial and the configuration without tuning are
    trained, to tell the gain from the spread of seeds."""
    config: str | None = None
    """YAML file with any of the options of the groups below; options on the command line override
    it."""


def execute(options: Options) -> None:
    """Tune, print the trials, and write the report."""
    command = {name: options.pop(name) for name in hints(TuneOptions) if name in options}
    command = complete([TuneOptions], command)
    from pcloud.studies.search_space import SearchSpace

    space = SearchSpace.from_file(command["space"])
    training = with_file(command["config"], options)
    from pcloud.report.tuning import write_tuning_report
    from pcloud.studies.tune import tune

    found = tune(
        space,
        training,
        source=command["space"],
        given=options,
        tell=(lambda text: None) if command["quiet"] else say,
        **{name: command[name] for name in ("sampler", "trials", "hours", "repeats", "trust_code")},
    )
    print_rows(found.rows())
    for line in found.summary():
        say(line)
    out = Path(training["out"])
    if (out / found.file).exists():
        say(f"report: {write_tuning_report(out)}")
        suggest("train", "--config", out / CONFIG_FILE)


COMMAND = Command(
    "tune",
    "Tune the hyperparameters of a training.",
    execute,
    (TuneOptions, *STAGES.values()),
    complete=False,
)
