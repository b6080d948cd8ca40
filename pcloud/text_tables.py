"""Tables as plain text, and results as HTML for notebooks, in which every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pcloud.text import for_html, for_terminal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["aligned", "html_paragraph", "html_table", "html_text", "print_wide"]

_UNLIMITED_WIDTH = 10_000  # characters


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Table in plain text, in columns of equal width."""
    shown = [[for_terminal(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown)


def print_wide(console: Console, content: RenderableType) -> None:
    """Print content that is wider than the terminal, such as a table, in longer lines.

    A log file has 80 columns, and numbers would be cut.
    """
    unlimited = console.options.update(width=_UNLIMITED_WIDTH)
    console.width = max(console.width, console.measure(content, options=unlimited).maximum)
    console.print(content, highlight=False)


def html_table(rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """Return a table as HTML.

    Parameters
    ----------
    rows : sequence of sequence of str
        Cells as plain text. The first row is the header, the first column names the rows.
    caption : str
        Plain text above the table; none if empty.

    Examples
    --------
    >>> html_table([["", "AUC"]])
    '<table><thead><tr><th></th><th>AUC</th></tr></thead><tbody></tbody></table>'
    """
    header, *body = rows
    title = f"<caption>{for_html(caption)}</caption>" if caption else ""
    head = "".join(f"<th>{for_html(cell)}</th>" for cell in header)
    lines = "".join(
        f"<tr><th>{for_html(name)}</th>{''.join(f'<td>{for_html(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in body
    )
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def html_text(text: str, *, title: str = "") -> str:
    """Return plain text as HTML, with a `title` that is shown under the pointer."""
    attribute = f' title="{for_html(title)}"' if title else ""
    return f"<span{attribute}>{for_html(text)}</span>"


def html_paragraph(text: str) -> str:
    """Return plain text as an HTML paragraph."""
    return f"<p>{for_html(text)}</p>"
