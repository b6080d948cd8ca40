"""One look for all figures: palette, type, sizes that stay readable on a phone, saving.

Figures are made without pyplot, so that no window, backend or global setting is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mplhep  # noqa: F401  (brings TeX Gyre Heros, the type of the experiments' figures)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 4.6  # inches: the width of a phone at 80 dots per inch

INK, MUTED, GRID, PAPER = "#1f2328", "#5c6570", "#dde2e8", "#ffffff"

# Okabe and Ito's colours, told apart with any colour vision; https://jfly.uni-koeln.de/color
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)))

_SETTINGS: Any = {
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],
    "mathtext.fontset": "custom",
    **{f"mathtext.{face}": "TeX Gyre Heros" for face in ("rm", "cal", "sf", "tt")},
    "mathtext.it": "TeX Gyre Heros:italic",
    "mathtext.bf": "TeX Gyre Heros:bold",
    "font.size": 11,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "pcloud",  # the same figure is the same file
}


def figure_style() -> Any:
    """Context, or decorator, in which figures are drawn and saved."""
    return mpl.rc_context(_SETTINGS)


def new_figure(height: float = 4.0, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Figure of a phone's width, and its panels row by row."""
    figure = Figure(figsize=(WIDTH, height))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def line_styles(number: int) -> list[dict[str, Any]]:
    """Colour and dashes for each of `number` lines; dashes start over when all are used."""
    pairs = [{"color": color, "linestyle": dash} for dash, color in product(DASHES, COLORS)]
    return [pairs[i % len(pairs)] for i in range(number)]


def save_figure(figure: Figure, path: str | Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Save a figure as ``<path>.<format>`` for each format, and return the files.

    PNG comes at 200 dots per inch. The files carry no date.
    """
    paths = [Path(f"{path}.{form}") for form in formats]
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with figure_style():
        for file, form in zip(paths, formats, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(file, dpi=200, metadata=dates.get(form))
    return paths
