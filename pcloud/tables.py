"""Tables of text: rows of cells, the first row the header, as plain text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["aligned", "html_table"]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Table in plain text, in columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """Table in HTML, for notebooks."""
    header, *body = rows
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body]
    inside = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{inside}</tbody></table>"
