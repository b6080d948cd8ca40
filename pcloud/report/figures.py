"""Figures of a page: files beside it, and the same figures drawn inside it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from pcloud.evaluation.figures import figure_style, save_figure
from pcloud.evaluation.figures.style import COLORS, GRID, INK, MUTED, PAPER, laid_out
from pcloud.report.nouns import axes_with_noun
from pcloud.report.points import points_as_csv
from pcloud.run_files import write_text
from pcloud.text import for_figure, for_html

# Colours of the figures by the names that the page's style sheet gives them, so that they turn
# with the page between light and dark.
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "card"} | {
    color: f"color-{i}" for i, color in enumerate(COLORS)
}


_MAX_SVG = 400_000  # characters, above which a figure is a PNG inside the page
_PAGE_DPI = 130


class FigureFolder:
    """Saves figures into a folder and gives the HTML that shows them.

    Every figure is there as ``<name>.png`` and ``<name>.pdf``, and its points as ``<name>.csv``.

    Parameters
    ----------
    path : Path
        The folder.
    label : str, optional
        Text above every figure.
    noun : str
        Plural noun of the data, for the axes.
    """

    def __init__(self, path: Path, label: str | None = None, noun: str = "jets") -> None:
        self.path = path
        self.label = label
        self.noun = noun
        self.drawn: dict[str, str] = {}

    def add(self, name: str, figure: Figure, caption: str, numbers: str = "") -> str:
        """Save a figure; return it as HTML with its caption.

        Parameters
        ----------
        name : str
            Name of the files, without ending.
        figure : Figure
            The figure.
        caption : str
            Description of the figure, for everybody.
        numbers : str
            Main numbers in it, for readers who hear the page.
        """
        axes_with_noun(figure, self.noun)
        if self.label:
            with figure_style():
                figure.suptitle(for_figure(self.label), x=0.01, ha="left", weight="bold")
        with laid_out(figure):
            save_figure(figure, self.path / name, ("png", "pdf"))
            write_text(self.path / f"{name}.csv", points_as_csv(figure))
            words = f"{caption} {numbers}".strip()
            drawing = inline_svg(figure, name, words)
            if len(drawing) > _MAX_SVG:
                drawing = inline_png(figure, words)
            elif (box := re.match(r'<svg viewBox="[^"]*"', drawing)) is not None:
                self.drawn[name] = box[0]
        words = for_html(caption)
        return f'<figure id="figure-{name}">{drawing}<figcaption>{words}</figcaption></figure>'

    def overview(self, names: Mapping[str, str]) -> str:
        """Small copies of figures that are drawn further down, by name with a title, as links to them."""
        copies = [
            f'<a href="#figure-{name}">{self.drawn[name]} aria-hidden="true">'
            f'<use href="#drawing-{name}"/></svg><span>{for_html(title)}</span></a>'
            for name, title in names.items()
            if name in self.drawn
        ]
        return f'<div class="overview">{"".join(copies)}</div>' if copies else ""


def inline_png(figure: Figure, label: str) -> str:
    """Image of a figure to stand inside a page, where a drawing would be too large."""
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="png", dpi=_PAGE_DPI)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{for_html(label)}">'


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """SVG of a figure to stand inside a page: scalable, in the page's colours.

    Parameters
    ----------
    figure : Figure
        The figure.
    name : str
        Prefix of the identifiers, which must be unique in a page.
    label : str
        Text for screen readers.
    """
    buffer = io.StringIO()
    with figure_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{for_html(label)}">'
    body = re.sub(r"\n\s*", "\n", svg[svg.index(">") + 1 :]).strip().removesuffix("</svg>")
    return f'{head}<g id="drawing-{name}">{body}</g></svg>'
