"""Common style of all figures: palette, fonts, sizes that are readable on a phone, and saving.

Figures are drawn without pyplot and change no window, backend or global setting. They show in a
notebook by themselves (`DisplayedFigure`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mplhep  # noqa: F401  (provides TeX Gyre Heros, the font of the experiments' figures)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcloud.run_files import atomic_path, make_folder

WIDTH = 4.6  # inches, the width of a phone at 80 dots per inch
_FILE_DPI = 200  # dots per inch of PNG files

INK = "#1f2328"
MUTED = "#5c6570"
GRID = "#dde2e8"
PAPER = "#ffffff"

# colours of Okabe and Ito, which are distinct with any colour vision: https://jfly.uni-koeln.de/color
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)))
_MARKERS = ("o", "s", "^")

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
    "svg.hashsalt": "pcloud",  # equal figures give equal files
}


def figure_style() -> Any:
    """Context manager, or decorator, in which figures are drawn and saved."""
    return mpl.rc_context(_SETTINGS)


class DisplayedFigure(Figure):
    """Figure that a notebook shows without ``%matplotlib inline`` and without pyplot.

    It is registered with pyplot only by :meth:`show`, which opens a window where the backend of
    pyplot has one.
    """

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        with figure_style():
            self.savefig(file, format="png")
        return file.getvalue()

    def show(self, warn: bool = True) -> None:
        """Register the figure with pyplot and show it in a window.

        Parameters
        ----------
        warn : bool
            Warn if the backend of pyplot has no windows.
        """
        if self.canvas.manager is None:
            import matplotlib.pyplot as plt

            manager = plt.figure().canvas.manager
            assert manager is not None
            manager.canvas.figure = self
            self.set_canvas(manager.canvas)
        super().show(warn)


def new_figure(
    height: float = 4.0, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure of the width of a phone, and its panels row by row.

    Parameters
    ----------
    height : float
        Height in inches.
    rows, columns : int
        Number of rows and columns of panels.
    **options
        Options of ``matplotlib.figure.Figure.subplots``, such as ``sharex``.
    """
    figure = DisplayedFigure(figsize=(WIDTH, height))
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def single_axes(ax: Axes | None, height: float = 4.0) -> tuple[Figure, Axes]:
    """Return the axes to draw in and their figure: `ax`, or the only panel of a new figure.

    Parameters
    ----------
    ax : Axes, optional
        Axes given by the caller.
    height : float
        Height of a new figure in inches.
    """
    if ax is None:
        new, (axes,) = new_figure(height)
        return new, axes
    figure = ax.figure
    while not isinstance(figure, Figure):  # a subfigure
        figure = figure.figure
    return figure, ax


def line_styles(number: int) -> list[dict[str, Any]]:
    """Return colour and dashes of each of `number` lines; they repeat when all are used."""
    pairs = [{"color": color, "linestyle": dash} for dash, color in product(DASHES, COLORS)]
    return [pairs[i % len(pairs)] for i in range(number)]


def point_styles(number: int) -> list[dict[str, Any]]:
    """Return colour and marker of each of `number` kinds of points; they repeat when all are used."""
    pairs = [{"color": color, "marker": marker} for marker, color in product(_MARKERS, COLORS)]
    return [pairs[i % len(pairs)] for i in range(number)]


@contextmanager
def laid_out(figure: Figure) -> Iterator[None]:
    """Context manager in which a figure is laid out once, for all files that it is saved to.

    Outside, each call of ``savefig`` lays out the figure and draws it twice, the first time only
    for the layout. A figure with a window stays as it is.
    """
    if figure.canvas.manager is not None:
        yield
        return
    engine = figure.get_layout_engine()
    if engine is not None:
        dpi = figure.dpi
        figure.dpi = _FILE_DPI
        try:
            with figure_style(), suppress(ValueError):  # as in Figure.draw
                engine.execute(figure)
        finally:
            figure.dpi = dpi
    # savefig sets the engine again that it has found, and for None that of the settings.
    with mpl.rc_context({"figure.constrained_layout.use": False, "figure.autolayout": False}):
        figure.set_layout_engine(None)
        try:
            yield
        finally:
            figure.set_layout_engine(engine)


def save_figure(figure: Figure, path: str | Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Save a figure as ``<path>.<format>`` for each format, and return the files.

    PNG files have 200 dots per inch. The files contain no date.
    """
    paths = [Path(f"{path}.{form}") for form in formats]
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with figure_style(), laid_out(figure):
        for file, form in zip(paths, formats, strict=True):
            make_folder(file.parent)
            with atomic_path(file) as new:
                figure.savefig(new, format=form, dpi=_FILE_DPI, metadata=dates.get(form))
    return paths
