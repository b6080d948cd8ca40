"""Blocks of the sections: paragraphs, tables, details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pcloud.text import for_html

__all__ = [
    "Section",
    "absent",
    "choice",
    "details",
    "duration",
    "paragraph",
    "subscripts",
    "table",
]


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


def choice(name: str, parts: Sequence[tuple[str, str]]) -> str:
    """HTML of which one part is shown at a time, by a control; all of them in print.

    Parameters
    ----------
    name : str
        Name of the control, which must be unique in a page.
    parts : sequence of (str, str)
        Plain text of each button, and the HTML that it shows. At most 12.
    """
    buttons = "".join(
        f'<input type="radio" name="{name}" id="{name}-{i}"{" checked" if i == 0 else ""}>'
        f'<label for="{name}-{i}">{for_html(text)}</label>'
        for i, (text, _) in enumerate(parts)
    )
    shown = "".join(f"<div>{body}</div>" for _, body in parts)
    return f'<div class="choice">{buttons}<div class="parts">{shown}</div></div>'


def duration(seconds: float) -> str:
    """Time in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
