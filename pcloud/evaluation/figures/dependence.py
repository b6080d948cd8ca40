"""Figures of the dependence of a cut on observables, and of mass sculpting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcloud.evaluation.dependence import Dependence
from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.sculpting import Sculpting
from pcloud.text import for_figure

__all__ = ["dependence_figure", "sculpting_figure"]

_TITLES = {"pt": "jet pT [GeV]", "mass": "jet mass [GeV]", "multiplicity": "particles per jet"}


@figure_style()
def dependence_figure(found: Sequence[Dependence], *, signal: str, background: str) -> Figure:
    """Draw signal efficiency and mistag rate in bins of each observable, side by side.

    Parameters
    ----------
    found : sequence of Dependence
        Dependences, one row of panels each.
    signal, background : str
        Names of the classes.

    Returns
    -------
    Figure
    """
    figure, panels = new_figure(0.6 + 1.75 * len(found), len(found), 2)
    for left, right, dependence in zip(panels[::2], panels[1::2], found, strict=True):
        _steps(left, dependence.edges, dependence.signal, COLORS[1])
        _steps(right, dependence.edges, dependence.background, COLORS[0])
        left.set_ylim(0, 1.03)
        right.set_yscale("log")
        for axes in (left, right):
            axes.set_xlabel(_title(dependence.observable), fontsize=11)
    panels[0].set_title(f"efficiency of {for_figure(signal)}", fontsize=11)
    panels[1].set_title(f"mistag rate of {for_figure(background)}", fontsize=11)
    return figure


def _steps(
    axes: Axes, edges: Sequence[float], rates: Sequence[Measured | None], color: str
) -> None:
    style: Any = {"color": color, "linestyle": "none", "linewidth": 1.5}
    for low, high, rate in zip(edges[:-1], edges[1:], rates, strict=True):
        if rate is None:
            continue
        x = (low + high) / 2
        half = (high - low) / 2
        if rate.limit:
            ends: Any = {"uplims": rate.limit == "upper", "lolims": rate.limit == "lower"}
            axes.errorbar(x, rate.value, (rate.high - rate.low) / 2, half, **ends, **style)
        else:
            down, up = rate.sides()
            axes.errorbar(x, rate.value, [[down], [up]], half, **style)


@figure_style()
def sculpting_figure(found: Sequence[Sculpting], *, background: str) -> Figure:
    """Draw the mass distribution of the background before and after each cut, normalised.

    Parameters
    ----------
    found : sequence of Sculpting
        Results for several cuts on the same jets.
    background : str
        Name of the background class.

    Returns
    -------
    Figure
    """
    figure, (axes,) = new_figure(4.2)
    edges = np.asarray(found[0].edges)
    before = np.asarray(found[0].before, dtype=float)
    axes.stairs(before / before.sum(), edges, fill=True, color=MUTED, alpha=0.25)
    axes.stairs(before / before.sum(), edges, color=MUTED, label="no cut", linewidth=1.5)
    middle = (edges[1:] + edges[:-1]) / 2
    for i, cut in enumerate(found):
        after = np.asarray(cut.after, dtype=float)
        if not cut.jets:
            continue
        label = rf"$\varepsilon_S$ = {cut.efficiency:g}: distance {cut.distance}"
        total = after.sum()
        axes.stairs(after / total, edges, color=COLORS[i % len(COLORS)], label=label)
        if np.any(after % 1):  # sums of weights, whose errors are not known from them
            continue
        at = middle + (edges[1] - edges[0]) * 0.1 * (i - 1)
        color = COLORS[i % len(COLORS)]
        error = np.sqrt(after) / total
        axes.errorbar(at, after / total, error, fmt="none", color=color, lw=1)
    axes.set(xlabel="jet mass [GeV]", ylabel="fraction of jets in a bin", xlim=(0, edges[-1]))
    axes.set_ylim(bottom=0)
    title = f"Mass of {for_figure(background)} before and after cuts"
    axes.set_title(title, loc="left", fontsize=11)
    figure.legend(loc="outside lower center", fontsize=10)
    return figure


def _title(observable: str) -> str:
    return _TITLES.get(observable) or for_figure(observable)
