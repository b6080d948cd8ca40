"""Figures of discriminants: scan of the fractions, rejections in bins, matrix of areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcloud.evaluation.figures.cells import draw_cells
from pcloud.evaluation.figures.style import (
    COLORS,
    INK,
    MUTED,
    figure_style,
    new_figure,
    point_styles,
)
from pcloud.evaluation.measured import Measured
from pcloud.text import for_figure

__all__ = ["auc_matrix_figure", "fraction_figure", "rejections_figure"]

_TITLES = {"pt": r"jet $p_T$ [GeV]", "mass": "jet mass [GeV]", "eta": r"jet $\eta$"}


@figure_style()
def fraction_figure(
    shares: Sequence[float],
    first: Sequence[Measured],
    second: Sequence[Measured],
    *,
    names: tuple[str, str],
    signal: str,
    efficiency: float,
    chosen: float | None = None,
) -> Figure:
    """Draw the rejection of one background class against that of another, for all fractions.

    Parameters
    ----------
    shares : sequence of float
        Fraction of the first class in the discriminant.
    first, second : sequence of Measured
        Rejections of the two classes. Points with a limit are left out.
    names : tuple of str
        Names of the two classes.
    signal : str
        Name of the signal.
    efficiency : float
        Signal efficiency.
    chosen : float, optional
        Fraction that is marked as the one in use.

    Returns
    -------
    Figure
    """
    figure, (axes,) = new_figure(4.4)
    shown = [i for i in range(len(shares)) if not (first[i].limit or second[i].limit)]
    x = np.array([second[i].value for i in shown])
    y = np.array([first[i].value for i in shown])
    axes.plot(x, y, color=COLORS[0], marker="o", markersize=3)
    every = max(1, len(shown) // 5)
    for place, i in enumerate(shown):
        if place % every:
            continue
        axes.errorbar(
            x[place],
            y[place],
            [[side] for side in first[i].sides()],
            [[side] for side in second[i].sides()],
            color=COLORS[0],
            fmt="o",
            markersize=6,
            linewidth=1,
        )
        label = f"f = {shares[i]:.2g}"
        axes.annotate(label, (x[place], y[place]), (7, 5), textcoords="offset points", fontsize=10)
    if chosen is not None and len(shown):
        place = int(np.argmin([abs(shares[i] - chosen) for i in shown]))
        axes.plot(x[place], y[place], "*", color=COLORS[1], markersize=14, label="in use")
        axes.legend(loc="best")
    axes.margins(0.15)
    axes.set_xlabel(f"rejection of {for_figure(names[1])}")
    axes.set_ylabel(f"rejection of {for_figure(names[0])}")
    title = (
        f"{for_figure(signal)} efficiency {efficiency:.0%}; f: fraction of {for_figure(names[0])}"
    )
    axes.set_title(title.replace("%", r"\%") if "$" in title else title, loc="left", fontsize=11)
    return figure


@figure_style()
def rejections_figure(
    observable: str,
    edges: Sequence[float],
    values: Mapping[str, Sequence[Measured | None]],
    *,
    signal: str,
) -> Figure:
    """Draw the rejection of each background class, and the signal efficiency, in bins.

    Parameters
    ----------
    observable : str
        Name of the observable.
    edges : sequence of float
        Edges of the K bins. The outer bins are drawn at most twice as wide as their neighbours.
    values : mapping of str to sequence of Measured or None
        Efficiency of the signal and rejections of the other classes in each bin.
    signal : str
        Name of the signal.

    Returns
    -------
    Figure
    """
    figure, (above, below) = new_figure(5.0, rows=2, sharex=True, height_ratios=[2, 1])
    backgrounds = [name for name in values if name != signal]
    shown = list(edges)
    if len(shown) > 3:  # the outer bins reach to the ends of long tails
        shown[0] = max(shown[0], shown[1] - 2 * (shown[2] - shown[1]))
        shown[-1] = min(shown[-1], shown[-2] + 2 * (shown[-2] - shown[-3]))
    for i, (name, style) in enumerate(
        zip(backgrounds, point_styles(len(backgrounds)), strict=True)
    ):
        shift = min(0.12, 0.8 / len(backgrounds)) * (i - (len(backgrounds) - 1) / 2)
        _draw(above, shown, values[name], style, shift, for_figure(name))
    _draw(below, shown, values[signal], {"color": INK, "marker": "o"}, 0.0, "")
    above.set(yscale="log", ylabel="rejection")
    below.set_ylabel(f"{for_figure(signal)} efficiency")
    below.set_xlabel(_TITLES.get(observable) or for_figure(observable))
    below.set_xlim(shown[0], shown[-1])
    figure.align_ylabels([above, below])
    figure.legend(loc="outside upper center", ncols=min(len(backgrounds), 4))
    return figure


def _draw(
    axes: Axes,
    edges: Sequence[float],
    values: Sequence[Measured | None],
    style: Mapping[str, Any],
    shift: float,
    label: str,
) -> None:
    """Draw a value with its interval in each bin; a limit as an arrow."""
    for low, high, entry in zip(edges[:-1], edges[1:], values, strict=True):
        if entry is None or not np.isfinite(entry.value):
            continue
        middle = (low + high) / 2 + shift * (high - low)
        sides = [[side] for side in entry.sides()]
        if entry.limit:
            sides = [[0.25 * entry.value], [0.25 * entry.value]]
        axes.errorbar(
            middle,
            entry.value,
            sides,
            [[middle - low], [high - middle]],
            linestyle="",
            markersize=4,
            linewidth=1.4,
            lolims=entry.limit == "lower",
            uplims=entry.limit == "upper",
            label=label or None,
            **style,
        )
        label = ""


@figure_style()
def auc_matrix_figure(
    matrix: Sequence[Sequence[Measured | None]], *, classes: Sequence[str]
) -> Figure:
    """Draw the AUC of each pair of classes in a table of shaded cells.

    Parameters
    ----------
    matrix : sequence of sequence of Measured or None
        AUC of each class against each other class, see
        :func:`~pcloud.evaluation.discriminants.auc_matrix`.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    Figure
    """
    number = len(classes)
    figure, (axes,) = new_figure(3.7 if number < 4 else 4.6)
    areas = np.array([[np.nan if m is None else float(m) for m in row] for row in matrix])
    known = areas[np.isfinite(areas)]
    lowest, highest = known.min(initial=1.0), known.max(initial=0.0)
    levels = (areas - lowest) / max(highest - lowest, 1e-9) * 0.9 + 0.05
    texts = [["" if m is None else _area_text(m, number) for m in row] for row in matrix]
    size = 12 if number < 4 else (9 if number < 7 else 7)
    draw_cells(axes, levels, texts, classes, size=size)
    axes.plot([0, number], [0, number], color=MUTED, linewidth=1)
    axes.set_title("AUC of each pair of classes", loc="left")
    return figure


def _area_text(area: Measured, number: int) -> str:
    """Area with its error on a second line; where there are many classes, the area alone."""
    if number > 4:
        return f"{float(area):.3f}"
    return str(area) if area.limit else str(area).replace(" ", "\n", 1)
