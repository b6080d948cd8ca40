"""Commands of the command line, and the markers of their options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

Options = dict[str, Any]
"""Values of the options of a command, by name."""


@dataclass(frozen=True)
class Flag:
    """Form of an option on the command line; part of the type of a field.

    Attributes
    ----------
    short : str, optional
        Short name, such as ``"-o"``.
    positional : bool
        Whether the value is given without the name of the option.
    switch : bool
        Whether the option has no value: it is true where it is given.
    alone : str, optional
        Value of an option that is given without one.
    """

    short: str | None = None
    positional: bool = False
    switch: bool = False
    alone: str | None = None


Argument = Annotated[str, Flag(positional=True)]
Arguments = Annotated[list[str], Flag(positional=True)]
Switch = Annotated[bool, Flag(switch=True)]


@dataclass(frozen=True)
class Command:
    """A command: its name, its summary, its options and its function.

    Attributes
    ----------
    name : str
        Name on the command line.
    summary : str
        One line for the help.
    execute : callable
        Function of the values of the options.
    stages : tuple of type
        Dataclasses of the options, each a group of the help.
    complete : bool
        Whether values are checked and defaults filled in before `execute` is called; False where
        it does so itself.
    """

    name: str
    summary: str
    execute: Callable[[Options], None]
    stages: tuple[type, ...] = ()
    complete: bool = True


COMMANDS: dict[str, Command] = {}
"""All commands by name, in the order of the help; filled by :mod:`pcloud.cli.program`."""
