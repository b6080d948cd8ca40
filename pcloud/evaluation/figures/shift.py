"""Figures of the differences between two samples of jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure
from pcloud.evaluation.shift import Difference
from pcloud.text import for_figure

__all__ = ["distances_figure", "shift_figure"]


@figure_style()
def shift_figure(
    first: Mapping[str, NDArray[np.floating]],
    second: Mapping[str, NDArray[np.floating]],
    differences: Sequence[Difference],
    *,
    names: tuple[str, str] = ("first", "second"),
    most: int = 4,
) -> Figure:
    """Draw the distributions of the most different observables in both samples.

    Parameters
    ----------
    first, second : mapping of str to ndarray
        Columns from :func:`pcloud.evaluation.shift.jet_columns`.
    differences : sequence of Difference
        Differences, the most significant first.
    names : tuple of str
        Names of the samples.
    most : int
        Maximum number of observables.

    Returns
    -------
    Figure
    """
    shown = differences[:most]
    rows = -(-len(shown) // 2)
    figure, panels = new_figure(0.5 + 1.8 * rows, rows, 2)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes, difference in zip(figure.axes, shown, strict=False):
        columns = [np.asarray(s[difference.observable]) for s in (first, second)]
        low, high = np.quantile(np.concatenate(columns), [0.005, 0.995])
        edges = np.linspace(low, high, 26)
        for values, name, color in zip(columns, names, COLORS, strict=False):
            counts, _ = np.histogram(values, edges)
            axes.stairs(
                counts / max(len(values), 1), edges, color=color, label=for_figure(name), lw=1.6
            )
        axes.set_xlabel(for_figure(difference.observable.replace("_", " ")), fontsize=11)
        p = f"p = {difference.corrected:.1g}" if difference.corrected > 1e-4 else "p < 0.0001"
        axes.set_title(p, fontsize=10, loc="right")
        axes.tick_params(axis="y", labelleft=False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


@figure_style()
def distances_figure(differences: Sequence[Difference], *, level: float = 0.01) -> Figure:
    """Draw the Kolmogorov-Smirnov distances as bars.

    Parameters
    ----------
    differences : sequence of Difference
        Differences to draw, from top to bottom.
    level : float
        Corrected p-value below which a bar is coloured as significant.
    """
    figure, (axes,) = new_figure(0.9 + 0.27 * len(differences))
    colors = [COLORS[1] if d.corrected < level else MUTED for d in differences]
    names = [for_figure(d.observable.replace("_", " ")) for d in differences]
    axes.barh(range(len(names)), [d.distance for d in differences], 0.65, color=colors)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Kolmogorov-Smirnov distance")
    return figure
