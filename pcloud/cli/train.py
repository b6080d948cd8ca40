"""``pcloud train``: train a tagger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcloud.cli.command import Command, Options, Switch
from pcloud.cli.options import ProgressOption, TrustOption
from pcloud.cli.output import say, suggest
from pcloud.cli.parser import complete, option_names
from pcloud.errors import InputError, UnknownNameError
from pcloud.training.config import STAGES, TrainConfig
from pcloud.validation import flag, hints
from pcloud.yaml_files import read_yaml


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ProgressOption, TrustOption):
    """Command."""

    config: str | None = None
    """YAML file with any of the options of the groups below, such as the config.yaml of another
    run; options on the command line override the file."""
    overwrite: Switch = False
    """Start a new run in a folder that holds one."""
    find_lr: Switch = False
    """Train nothing, but draw the loss while the learning rate rises from step to step, and propose a
    learning rate."""


def execute(options: Options) -> None:
    """Train a tagger, or continue its training."""
    command = {name: options.pop(name) for name in hints(TrainOptions) if name in options}
    command = complete([TrainOptions], command)
    path = command["config"]
    if path is None:
        config = TrainConfig.from_dict(overridden({}, options))
    else:
        complete_options = overridden({}, overridden(read_options(path), options))
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


def overridden(options: Options, others: Options) -> Options:
    """Return `options` with those of `others` in their place, items of mappings one by one."""
    options = options | {name: value for name, value in others.items() if "." not in name}
    for path, value in others.items():
        name, _, key = path.partition(".")
        if key:
            present = options.get(name) or {}
            if not isinstance(present, dict):
                raise InputError(f"{flag(path)} is an item of a mapping, and {name} is {present!r}")
            options[name] = present | _nested(key, value)
    return options


def _nested(path: str, value: Any) -> dict[str, Any]:
    key, _, rest = path.partition(".")
    return {key: _nested(rest, value) if rest else value}


COMMAND = Command(
    "train",
    "Train a tagger, or continue its training.",
    execute,
    (TrainOptions, *STAGES.values()),
    complete=False,
)
