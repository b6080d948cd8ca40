"""Figures of a page: PNG files beside it, and the same figures drawn inside it."""

from __future__ import annotations

import io
import re
from pathlib import Path

from matplotlib.figure import Figure

from pcloud.evaluation.figures import figure_style, save_figure
from pcloud.evaluation.figures.style import COLORS, GRID, INK, MUTED, PAPER, laid_out
from pcloud.report.nouns import axes_with_noun
from pcloud.text import for_html

# Colours of the figures by the names that the page's style sheet gives them, so that they turn
# with the page between light and dark.
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "card"} | {
    color: f"color-{i}" for i, color in enumerate(COLORS)
}


class FigureFolder:
    """Saves figures into a folder and gives the HTML that shows them."""

    def __init__(self, path: Path, noun: str = "jets") -> None:
        self.path = path
        self.noun = noun

    def add(self, name: str, figure: Figure, caption: str) -> str:
        """Save a figure as ``<name>.png``; return it as HTML with its caption."""
        axes_with_noun(figure, self.noun)
        with laid_out(figure):
            save_figure(figure, self.path / name)
            drawing = inline_svg(figure, name, caption)
        return f"<figure>{drawing}<figcaption>{for_html(caption)}</figcaption></figure>"


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
    return head + re.sub(r"\n\s*", "\n", svg[svg.index(">") + 1 :])
