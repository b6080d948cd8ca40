"""How a cut treats jets of different kinematics, and what it makes of the background's mass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcloud.evaluation.dependence import Dependence
from pcloud.evaluation.figures.style import COLORS, MUTED, WIDTH, figure_style, new_figure
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.sculpting import Sculpting

__all__ = ["dependence_figure", "sculpting_figure"]

_TITLES = {"pt": "jet pT [GeV]", "mass": "jet mass [GeV]", "multiplicity": "particles per jet"}


@figure_style()
def dependence_figure(found: Sequence[Dependence], *, signal: str, background: str) -> Figure:
    """Signal efficiency and mistag rate in bins of each observable, side by side.

    Parameters
    ----------
    found : sequence of Dependence
        One row of panels for each.
    signal, background : str
        Names for the axes.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH, 0.6 + 1.75 * len(found)))
    panels = figure.subplots(len(found), 2, squeeze=False)
    for (left, right), dependence in zip(panels, found, strict=True):
        _steps(left, dependence.edges, dependence.signal, COLORS[1])
        _steps(right, dependence.edges, dependence.background, COLORS[0])
        left.set_ylim(0, 1.03)
        right.set_yscale("log")
        for axes in (left, right):
            axes.set_xlabel(_TITLES.get(dependence.observable, dependence.observable), fontsize=11)
    panels[0, 0].set_title(f"{signal} that passes", fontsize=11, parse_math=False)
    panels[0, 1].set_title(f"{background} that passes", fontsize=11, parse_math=False)
    return figure


def _steps(
    axes: Axes, edges: Sequence[float], rates: Sequence[Measured | None], color: str
) -> None:
    style: Any = {"color": color, "linestyle": "none", "linewidth": 1.5}
    for low, high, rate in zip(edges[:-1], edges[1:], rates, strict=True):
        if rate is None:
            continue
        x, half = (low + high) / 2, (high - low) / 2
        if rate.limit:
            ends: Any = {"uplims": rate.limit == "upper", "lolims": rate.limit == "lower"}
            axes.errorbar(x, rate.value, (rate.high - rate.low) / 2, half, **ends, **style)
        else:
            down, up = rate.sides()
            axes.errorbar(x, rate.value, [[down], [up]], half, **style)


@figure_style()
def sculpting_figure(found: Sequence[Sculpting], *, background: str) -> Figure:
    """Mass of the background before and after each cut, as fractions of its jets.

    Parameters
    ----------
    found : sequence of Sculpting
        Of several cuts on the same jets.
    background : str
        Its name.

    Returns
    -------
    Figure
    """
    figure, (axes,) = new_figure(4.2)
    edges = np.asarray(found[0].edges)
    before = np.asarray(found[0].before, dtype=float)
    axes.stairs(before / before.sum(), edges, fill=True, color=MUTED, alpha=0.25)
    axes.stairs(before / before.sum(), edges, color=MUTED, label="before", linewidth=1.5)
    middle = (edges[1:] + edges[:-1]) / 2
    for i, cut in enumerate(found):
        after = np.asarray(cut.after, dtype=float)
        if not cut.jets:
            continue
        label = rf"$\varepsilon_S$ = {cut.efficiency:g}: distance {cut.distance}"
        axes.stairs(after / cut.jets, edges, color=COLORS[i % len(COLORS)], label=label)
        at = middle + (edges[1] - edges[0]) * 0.1 * (i - 1)
        axes.errorbar(
            at, after / cut.jets, np.sqrt(after) / cut.jets, fmt="none", color=COLORS[i], lw=1
        )
    axes.set(xlabel="jet mass [GeV]", ylabel="fraction of jets in a bin", xlim=(0, edges[-1]))
    axes.set_ylim(bottom=0)
    axes.set_title(f"{background} that passes", loc="left", fontsize=11, parse_math=False)
    figure.legend(loc="outside lower center", fontsize=10)
    return figure
