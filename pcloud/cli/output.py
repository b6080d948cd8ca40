"""Output of a command: lines and tables on standard output, progress on standard error."""

from __future__ import annotations

import contextlib
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pcloud.text import for_terminal
from pcloud.text_tables import print_wide

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Column

    from pcloud.terminal import Terminal


def console(*, stderr: bool = False) -> Terminal:
    """Console of standard output or standard error."""
    from pcloud.terminal import Terminal

    class PipeTerminal(Terminal):
        """Terminal that leaves it to `main` to end a command whose reader has ended."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return PipeTerminal(stderr=stderr)


def say(line: str) -> None:
    """Print a line without wrapping it."""
    console().print(for_terminal(line), soft_wrap=True)


def suggest(*words: object) -> None:
    """Print the command that one would type next, to a person at a terminal only."""
    if sys.stdout.isatty():
        say(f"next: {shlex.join(['pcloud', *map(str, words)])}")


def print_whole(content: RenderableType, out: Console | None = None) -> None:
    """Print tables that are wider than the terminal in longer lines, instead of cutting them."""
    out = console() if out is None else out
    print_wide(out, content)


def columns(*names: str) -> list[Column]:
    """Columns of a table whose cells are neither wrapped nor cut."""
    from rich.table import Column

    return [Column(name, no_wrap=True) for name in names]


def print_rows(rows: list[list[str]]) -> None:
    """Print a table; its first row is the header.

    Where the table is wider than the terminal, the header is wrapped; numbers are never wrapped,
    and lines may then be longer than the terminal.
    """
    from rich.table import Table

    rows = [[for_terminal(cell) for cell in row] for row in rows]
    out, header = console(), rows[0]
    if sum(max(map(len, column)) + 1 for column in zip(*rows, strict=True)) > out.width:
        header = [_narrow(name, cells) for name, *cells in zip(*rows, strict=True)]
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in header:
        table.add_column(name, no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    print_whole(table, out)
    out.print()


def _narrow(name: str, cells: Sequence[str]) -> str:
    """Wrap `name` to the width of the longest of `cells`, or of its own longest word."""
    width = max(len(text) for text in [*cells, *name.split(), " "])
    return "\n".join(textwrap.wrap(name, width, break_long_words=False))


def shows_progress(*, quiet: bool) -> bool:
    """Return whether progress is shown: on a terminal, unless `quiet`."""
    return sys.stderr.isatty() and not quiet


@contextlib.contextmanager
def progress_bar(what: str, total: int, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Show a progress bar; ``advance(number=1)`` adds the work done since the last call."""
    from rich.progress import Progress

    shown = shows_progress(quiet=quiet)
    with Progress(console=console(stderr=True), disable=not shown) as progress:
        task = progress.add_task(what, total=total)
        yield lambda number=1: progress.advance(task, number)
