"""What a command is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentParser

Options = dict[str, Any]
"""What was said on the command line, by the names of the options."""


@dataclass(frozen=True)
class Command:
    """A subcommand: what it says of itself, its options, its work."""

    name: str
    summary: str
    add_options: Callable[[ArgumentParser], None]
    execute: Callable[[Options], None]
