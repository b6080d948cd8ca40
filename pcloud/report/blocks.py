"""Blocks of the sections: paragraphs, tables, details."""

from __future__ import annotations

from dataclasses import dataclass

from pcloud.text import for_html

__all__ = ["Section", "absent", "details", "paragraph", "subscripts", "table"]


@dataclass(frozen=True)
class Section:
    """A titled part of a page.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML; empty for a section that is left out.
    """

    title: str
    body: str


def subscripts(text: str) -> str:
    """Plain text as HTML, with the indices of efficiencies set low."""
    return for_html(text).replace("εB", "ε<sub>B</sub>").replace("εS", "ε<sub>S</sub>")


def paragraph(text: str, kind: str = "") -> str:
    """Paragraph of plain text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{for_html(text)}</p>"


def absent(reason: str, consequence: str) -> str:
    """Paragraph that says what is missing, and what is therefore not shown."""
    return paragraph(f"{reason}: {consequence}.", "absent")


def details(summary: str, body: str) -> str:
    """HTML that unfolds."""
    return f"<details><summary>{for_html(summary)}</summary>{body}</details>"


def table(rows: list[list[str]], header: bool = True) -> str:
    """Table of plain text; the first column and, with `header`, the first row are headers."""
    head = ""
    if header:
        head = "".join(f'<th scope="col">{subscripts(cell)}</th>' for cell in rows[0])
        head = f"<thead><tr>{head}</tr></thead>"
    body = "".join(
        f'<tr><th scope="row">{subscripts(row[0])}</th>'
        + "".join(f"<td>{for_html(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows[1 if header else 0 :]
    )
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
