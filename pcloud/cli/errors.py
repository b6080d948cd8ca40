"""What a user is told: errors and warnings, each in one line."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pcloud.cli.command import Command
from pcloud.cli.parser import make_parser
from pcloud.errors import InputError, MissingExtraError, UnknownNameError
from pcloud.training.config import one_line

USER_ERRORS = (
    InputError,
    MissingExtraError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""What a user can cause; anything else is a bug of ours and keeps its traceback."""


def complain(line: str) -> int:
    """Say what is wrong; return the exit code."""
    sys.stderr.write(f"pcloud: error: {line}\n")
    return 2


def message(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())


def explain_argument(
    error: ArgumentError, arguments: Sequence[str], commands: Mapping[str, Command]
) -> str:
    """What is wrong with the arguments, with the nearest name where one is unknown."""
    said = one_line(error)
    unknown = re.search(r"unrecognized arguments: (--[\w-]+)", said)
    in_file = re.search(r"does not accept option '([\w.]+)'", said)
    command = re.search(r"invalid choice: '([^']*)' \(choose from", said)
    if command and "COMMAND" in said:
        return str(UnknownNameError("command", command[1], commands))
    if "Problems parsing config" in said:
        return f"{arguments[arguments.index('--config') + 1]}: {said}"
    if unknown or in_file:
        name = unknown[1] if unknown else "--" + in_file[1].replace("_", "-")  # type: ignore[index]
        return str(UnknownNameError("option", name, _option_names(commands.get(arguments[0]))))
    return said


def _option_names(command: Command | None) -> list[str]:
    parser = make_parser()
    if command is not None:
        command.add_options(parser)
    return [name for name in parser._option_string_actions if name.startswith("--")]


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show warnings of ours as lines of their own, and no others."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if category.__module__.startswith("pcloud"):
            sys.stderr.write(f"pcloud: warning: {' '.join(str(message).split())}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield
