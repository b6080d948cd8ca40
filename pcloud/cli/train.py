"""``pcloud train``: train a tagger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pcloud.cli.command import Command, Options, Switch
from pcloud.cli.options import ProgressOption, TrustOption
from pcloud.cli.output import say, suggest
from pcloud.cli.parser import complete, option_names
from pcloud.errors import UnknownNameError
from pcloud.training.config import STAGES, TrainConfig, overridden
from pcloud.validation import flag, hints
from pcloud.yaml_files import read_yaml


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(ProgressOption, TrustOption):
    """Command."""

    config: str | None = None
    """YAML file with any of the options of the groups below, such as the config.yaml of another
    run; options on the command line override the file."""
    overwrite: Switch = False
    """Start a new run in a folder that holds one."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainingOptions):
    """Command."""

    find_lr: Switch = False
    """Train nothing, but draw the loss while the learning rate rises from step to step, and propose a
    learning rate."""


def execute(options: Options) -> None:
    """Train a tagger, or continue its training."""
    command = {name: options.pop(name) for name in hints(TrainOptions) if name in options}
    command = complete([TrainOptions], command)
    path = command["config"]
    complete_options = with_file(path, options)
    if path is None:
        config = TrainConfig.from_dict(complete_options)
    else:
        config = TrainConfig.from_command(complete_options, path, options)
    if command["find_lr"]:
        _find_lr(config, command)
        return
    from pcloud.training.fit import train

    run = train(
        config,
        overwrite=command["overwrite"],
        progress=not command["quiet"],
        trust_code=command["trust_code"],
    )
    suggest("evaluate", run.path)


def _find_lr(config: TrainConfig, command: Options) -> None:
    """Print the proposed learning rate, and where its figure is."""
    from pcloud.run_files import FIGURE_FOLDER
    from pcloud.training.fit import find_learning_rate

    shown = {"progress": not command["quiet"], "trust_code": command["trust_code"]}
    found = find_learning_rate(config, **shown)
    say(found.summary())
    say(f"written to {Path(config.out) / FIGURE_FOLDER / 'learning_rates.png'}")


def with_file(path: str | None, options: Options) -> Options:
    """Return the options of a file, if there is one, with those of the command line in their place."""
    return overridden({}, options if path is None else overridden(read_options(path), options))


def read_options(path: str | Path) -> Options:
    """Read the options of a training run from a YAML file.

    Raises
    ------
    InputError
        If the file is not YAML; `UnknownNameError` for an option that does not exist.
    """
    options = read_yaml(path)
    names = option_names(list(STAGES.values()))
    for name in map(str, options):
        if flag(name) not in names:
            raise UnknownNameError("option", flag(name), names, str(path))
    return options


COMMAND = Command(
    "train",
    "Train a tagger, or continue its training.",
    execute,
    (TrainOptions, *STAGES.values()),
    complete=False,
)
