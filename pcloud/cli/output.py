"""What a command prints: lines and tables on standard output, bars on standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """Where to print."""
    from rich.console import Console

    return Console(stderr=stderr)


def say(line: str) -> None:
    """Print a line, however long."""
    console().print(line, soft_wrap=True, highlight=False)


def print_rows(rows: list[list[str]]) -> None:
    """Print a table; its first row is the header."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for i, name in enumerate(rows[0]):
        table.add_column(name, no_wrap=i == 0)
    for row in rows[1:]:
        table.add_row(*row)
    console().print(table)
    console().print()


def shows_progress(*, quiet: bool) -> bool:
    """Whether to move a bar: on a terminal alone."""
    return sys.stderr.isatty() and not quiet


@contextlib.contextmanager
def progress_bar(what: str, total: int, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Move a bar by what is done since the last call: ``advance(number=1)``."""
    from rich.progress import Progress

    shown = shows_progress(quiet=quiet)
    with Progress(console=console(stderr=True), disable=not shown) as progress:
        task = progress.add_task(what, total=total)
        yield lambda number=1: progress.advance(task, number)
