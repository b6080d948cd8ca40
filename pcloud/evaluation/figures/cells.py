"""Table of shaded cells, one row and one column for each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from pcloud.evaluation.figures.style import COLORS, INK, PAPER
from pcloud.text import for_figure

__all__ = ["draw_cells"]

_DARK_LEVEL = 0.55  # shade above which the text of a cell is white
_MAX_HORIZONTAL = 4  # names of classes; more are turned by 45 degrees


def draw_cells(
    axes: Axes,
    levels: ArrayLike,
    texts: Sequence[Sequence[str]],
    classes: Sequence[str],
    *,
    size: float,
) -> None:
    """Draw a table of cells, shaded by their levels, with the names of the classes at its sides.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Axes to draw in.
    levels : array, shape (C, C)
        Shade of each cell. Values below 0 and above 1, as from negative weights, are drawn as 0 and
        1; a cell of NaN has no shade.
    texts : sequence of sequence of str
        Text of each cell.
    classes : sequence of str
        Names of the classes.
    size : float
        Size of the texts in points.
    """
    number = len(classes)
    shades = np.clip(np.nan_to_num(np.asarray(levels, dtype=np.float64)), 0.0, 1.0)
    for i in range(number):
        for j in range(number):
            level = float(shades[i, j])
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=COLORS[0], alpha=level, linewidth=0))
            color = PAPER if level > _DARK_LEVEL else INK
            text = axes.text(j + 0.5, i + 0.5, texts[i][j], ha="center", va="center")
            text.set(color=color, fontsize=size)
    axes.set(xlim=(0, number), ylim=(number, 0))
    middle = np.arange(number) + 0.5
    names = [for_figure(name) for name in classes]
    axes.set_xticks(middle, names)
    axes.set_yticks(middle, names)
    axes.tick_params(length=0)
    if number > _MAX_HORIZONTAL:
        for name in axes.get_xticklabels():
            name.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(False)
    axes.spines[:].set_visible(False)
