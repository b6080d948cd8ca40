"""Tables as plain text, and results as HTML for notebooks, in which every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["aligned", "html_paragraph", "html_table", "html_text", "print_wide"]

_UNLIMITED_WIDTH = 10_000  # characters


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Table in plain text, in columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


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
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in body
    )
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def html_text(text: str, *, title: str = "") -> str:
    """Return plain text as HTML, with a `title` that is shown under the pointer."""
    attribute = f' title="{escape(title)}"' if title else ""
    return f"<span{attribute}>{escape(text)}</span>"


def html_paragraph(text: str) -> str:
    """Return plain text as an HTML paragraph."""
    return f"<p>{escape(text)}</p>"
