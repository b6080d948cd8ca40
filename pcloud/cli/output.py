"""What a command prints: lines and tables on standard output, bars on standard error."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
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
    """Print a table; its first row is the header.

    The header is broken into lines where the table is too wide for the terminal, a number never:
    rather, the lines are longer than the terminal.
    """
    from rich.table import Table

    out, header = console(), rows[0]
    if sum(max(map(len, column)) + 1 for column in zip(*rows, strict=True)) > out.width:
        header = [_narrow(name, cells) for name, *cells in zip(*rows, strict=True)]
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in header:
        table.add_column(name, no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    out.width = max(out.width, out.measure(table, options=out.options.update(width=1000)).maximum)
    out.print(table)
    out.print()


def _narrow(name: str, cells: Sequence[str]) -> str:
    """`name` in lines no longer than the longest of `cells`, but for its longest word."""
    width = max(len(text) for text in [*cells, *name.split(), " "])
    return "\n".join(textwrap.wrap(name, width, break_long_words=False))


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
