"""``pcloud train``: train a tagger."""

from __future__ import annotations

import json
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from pcloud.cli.command import Command, Options
from pcloud.cli.options import add_quiet
from pcloud.training.config import TrainConfig, add_config_arguments

_LISTS = ("--data", "--val", "--test", "--features", "--class-weights", "--freeze")


def add_options(parser: ArgumentParser) -> None:
    """Every field of a `TrainConfig`, and how to run it."""
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with any of the options below, such as the config.yaml of another run; "
        "options beside it go before it.",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Start anew in a folder that holds a run."
    )
    add_quiet(parser)
    add_config_arguments(parser)


def execute(options: Options) -> None:
    """Train, or continue."""
    run_options = {"overwrite": options.pop("overwrite"), "progress": not options.pop("quiet")}
    options.pop("config")
    config = TrainConfig.from_dict(options)
    from pcloud.training.fit import train

    train(config, **run_options)


def join_lists(arguments: Sequence[str]) -> list[str]:
    """``--data a b`` as ``--data '["a", "b"]'``: the options that may be lists."""
    groups: list[list[str]] = []  # an option with its values
    for word in arguments:
        if word.startswith("-") or not groups:
            groups.append([])
        groups[-1].append(word)
    return [word for option, *values in groups for word in (option, *_as_list(option, values))]


def _as_list(option: str, values: list[str]) -> list[str]:
    if option not in _LISTS or len(values) < 2:
        return values
    quoted = values if option == "--class-weights" else map(json.dumps, values)
    return [f"[{', '.join(quoted)}]"]


COMMAND = Command("train", "Train a tagger, or continue training it.", add_options, execute)
