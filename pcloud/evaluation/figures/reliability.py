"""Reliability diagrams: observed frequency against predicted probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from pcloud.evaluation.calibration import Reliability, top_label
from pcloud.evaluation.figures.style import (
    COLORS,
    MUTED,
    figure_style,
    new_figure,
    single_axes,
)
from pcloud.text import for_figure

__all__ = ["reliability_figure"]


@figure_style()
def reliability_figure(
    labels: NDArray[np.integer],
    predictions: Mapping[str, NDArray[np.floating]],
    *,
    classes: Sequence[str],
    bins: int = 15,
    weights: NDArray[np.floating] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw observed frequency against predicted probability.

    Two panels below show the difference between both, and the number of jets in each bin.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
        True class of each jet.
    predictions : mapping of str to ndarray, shape (B, C)
        Probabilities by a name for the legend, such as ``"uncalibrated"``; more than two are hard
        to distinguish.
    classes : sequence of str
        Names of the classes. With two classes the probability of the second one is drawn, with
        more that of the most probable class.
    bins : int
        Number of bins of equal width.
    weights : ndarray, shape (B,), optional
        Weights of the jets.
    ax : Axes, optional
        Axes to draw the diagram in, without the panels below; by default a new figure.

    Returns
    -------
    Figure
    """
    if ax is None:
        figure, panels = new_figure(6.2, rows=3, height_ratios=[3, 1.2, 1])
        diagram, difference, counts = panels
    else:
        figure, diagram = single_axes(ax)
        panels = [diagram]
    for i, (name, p) in enumerate(predictions.items()):
        predicted, happened = top_label(p, labels)
        x, y, error = Reliability.of(predicted, happened, bins, weights=weights).points()
        color = COLORS[i % len(COLORS)]
        shift = 0.004 * (2 * i - len(predictions) + 1)
        style: Any = {"color": color, "marker": "os^D"[i % 4], "markersize": 4.5, "linewidth": 1.4}
        diagram.errorbar(x + shift, y, error, linestyle="none", **style)
        diagram.plot([], [], "o", color=color, label=for_figure(name))
        if ax is None:
            difference.errorbar(x + shift, y - x, error, linestyle="none", **style)
            edges = np.linspace(0, 1, bins + 1).tolist()
            lines: Any = {"histtype": "step", "color": color, "linewidth": 1.6}
            counts.hist(predicted, edges, weights=weights, **lines)
    diagram.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    target = for_figure(classes[1])
    if len(classes) == 2:
        diagram.set_ylabel(f"fraction of {target}")
        panels[-1].set_xlabel(f"predicted probability of {target}")
    else:
        diagram.set_ylabel("fraction correctly classified")
        panels[-1].set_xlabel("probability of the predicted class")
    diagram.set_ylim(-0.03, 1.03)
    diagram.legend(loc="upper left", labelcolor="linecolor", handlelength=0.8)
    if ax is None:
        difference.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        difference.set(ylabel="difference")
        counts.set(yscale="log", ylabel="jets" if weights is None else "weights")
        if weights is not None:  # sums of weights may span less than a decade
            counts.yaxis.set_minor_formatter(NullFormatter())
    for axes in panels:
        axes.set_xlim(-0.03, 1.03)
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    return figure
