"""Figures of the prediction of a quantity: residuals, response, resolution, quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure, single_axes
from pcloud.evaluation.influence import weighted_fraction
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.regression import OBSERVABLES, Dependence, PredictedTarget
from pcloud.text import for_figure
from pcloud.typing import Floats

__all__ = ["quantile_figure", "residual_figure", "resolution_figure", "response_figure"]

_SHOWN = (0.5, 99.5)  # per cent of the jets inside the axis
_DASHED: Any = {"color": MUTED, "linewidth": 1, "linestyle": (0, (4, 3))}


@figure_style()
def residual_figure(sample: PredictedTarget, *, bins: int = 50, ax: Axes | None = None) -> Figure:
    """Draw the distribution of predicted minus true values, and that of the pulls if there are any.

    Parameters
    ----------
    sample : PredictedTarget
        Predictions of jets with known true values.
    bins : int
        Number of bins.
    ax : Axes, optional
        Axes to draw the residuals in; by default a new figure.

    Returns
    -------
    Figure
    """
    pulls = sample.pulls if ax is None else None
    if ax is not None:
        figure, axes = single_axes(ax)
    elif pulls is None:
        figure, (axes,) = new_figure(3.2)
    else:
        figure, (axes, below) = new_figure(5.6, rows=2)
        _histogram(below, pulls, sample.weights, (-5.0, 5.0), bins)
        x = np.linspace(-5, 5, 200)
        below.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), label="Gaussian", **_DASHED)
        below.set_xlabel(f"pull of {for_figure(sample.name)}")
        below.legend(loc="upper right")
    low, high = np.percentile(sample.residuals, _SHOWN)
    _histogram(axes, sample.residuals, sample.weights, (float(low), float(high)), bins)
    axes.axvline(0, **_DASHED)
    axes.set_xlabel(f"predicted - true {for_figure(sample.name)}")
    return figure


def _histogram(
    axes: Axes, values: Floats, weights: Floats | None, limits: tuple[float, float], bins: int
) -> None:
    low, high = limits if limits[1] > limits[0] else (limits[0] - 1, limits[0] + 1)
    edges = np.linspace(low, high, bins + 1)
    w = np.ones(len(values)) if weights is None else weights
    total = float(w.sum()) * (edges[1] - edges[0])
    counts, _ = np.histogram(values, edges, weights=w)
    squares, _ = np.histogram(values, edges, weights=w**2)
    axes.stairs(counts / total, edges, color=COLORS[0], linewidth=1.6)
    middle = (edges[1:] + edges[:-1]) / 2
    axes.errorbar(
        middle, counts / total, np.sqrt(squares) / total, fmt="none", color=COLORS[0], lw=1
    )
    axes.set_ylabel("density")


@figure_style()
def response_figure(found: Sequence[Dependence], *, name: str) -> Figure:
    """Draw the response, or the bias, in bins of each observable.

    Parameters
    ----------
    found : sequence of Dependence
        Dependences on the observables, one panel each.
    name : str
        Name of the target.

    Returns
    -------
    Figure
    """
    return _panels(found, [d.bias for d in found], name, "response", "bias")


@figure_style()
def resolution_figure(found: Sequence[Dependence], *, name: str) -> Figure:
    """Draw the resolution in bins of each observable, as :func:`response_figure` the response."""
    titles = ("resolution of the response", "resolution")
    figure = _panels(found, [d.resolution for d in found], name, *titles)
    for axes in figure.axes:
        if axes.get_ylim()[1] > 0:
            axes.set_ylim(bottom=0)
    return figure


def _panels(
    found: Sequence[Dependence],
    values: Sequence[Sequence[Measured | None]],
    name: str,
    relative: str,
    absolute: str,
) -> Figure:
    title = relative if found and found[0].is_relative else absolute
    figure, panels = new_figure(0.5 + 1.9 * len(found), rows=len(found))
    aim = {"response": 1.0, "bias": 0.0}.get(title)
    for axes, dependence, bins in zip(panels, found, values, strict=True):
        if aim is not None:
            axes.axhline(aim, **_DASHED)
        for low, high, entry in zip(dependence.edges[:-1], dependence.edges[1:], bins, strict=True):
            if entry is not None:
                sides = [[side] for side in entry.sides()]
                half = (high - low) / 2
                style: Any = {"color": COLORS[0], "linestyle": "none", "linewidth": 1.5}
                axes.errorbar((low + high) / 2, entry.value, sides, half, **style)
        axes.set_xlabel(OBSERVABLES.get(dependence.observable, for_figure(dependence.observable)))
    panels[0].set_title(f"{title} of {for_figure(name)}", loc="left", fontsize=11)
    return figure


@figure_style()
def quantile_figure(sample: PredictedTarget, *, ax: Axes | None = None) -> Figure:
    """Draw the fraction of jets whose true value is below each predicted quantile.

    Parameters
    ----------
    sample : PredictedTarget
        Predictions with quantiles, of jets with known true values.
    ax : Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    Figure
    """
    figure, axes = single_axes(ax, 3.4)
    axes.plot([0, 1], [0, 1], **_DASHED)
    for level in sample.probabilities:
        entry = weighted_fraction(sample.below_quantile(level), sample.weights)
        sides = [[side] for side in entry.sides()]
        axes.errorbar(level, entry.value, sides, fmt="o", color=COLORS[0], markersize=4.5)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_xlabel("level of the quantile")
    axes.set_ylabel("fraction of jets below")
    return figure
