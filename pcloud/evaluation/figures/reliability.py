"""Reliability diagrams: how often what is predicted with a probability happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcloud.evaluation.calibration import Reliability, top_label
from pcloud.evaluation.figures.style import COLORS, MUTED, WIDTH, figure_style

__all__ = ["reliability_figure"]


@figure_style()
def reliability_figure(
    labels: NDArray[np.integer],
    predictions: Mapping[str, NDArray[np.floating]],
    *,
    classes: tuple[str, ...],
    bins: int = 15,
) -> Figure:
    """Frequency against predicted probability, its distance to the diagonal, and the predictions.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
        True class of each jet.
    predictions : mapping of str to ndarray, shape (B, C)
        Probabilities by the name of what made them, such as ``"uncalibrated"``; two at most are
        told apart well.
    classes : tuple of str
        Names of the classes. Of two the probability of the second is drawn, of more that of the
        most probable class.
    bins : int
        Bins of equal width.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH, 6.2))
    diagram, gaps, counts = figure.subplots(3, 1, height_ratios=[3, 1.2, 1])
    edges = np.linspace(0, 1, bins + 1).tolist()
    for i, (name, p) in enumerate(predictions.items()):
        predicted, happened = top_label(p, labels)
        x, y, error = Reliability.of(predicted, happened, bins).points()
        color, shift = COLORS[i], 0.004 * (2 * i - len(predictions) + 1)
        style: Any = {"color": color, "marker": "os^D"[i % 4], "markersize": 4.5, "linewidth": 1.4}
        for axes, values in ((diagram, y), (gaps, y - x)):
            axes.errorbar(x + shift, values, error, linestyle="none", **style)
        diagram.plot([], [], "o", color=color, label=name)
        counts.hist(predicted, edges, histtype="step", color=color, linewidth=1.6)
    diagram.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    gaps.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    binary = len(classes) == 2
    target = classes[1].replace("$", r"\$")
    diagram.set(ylim=(-0.03, 1.03), ylabel=f"fraction of {target}" if binary else "fraction right")
    gaps.set(ylabel="difference")
    counts.set(
        yscale="log",
        ylabel="jets",
        xlabel=f"predicted probability of {target}" if binary else "probability of predicted class",
    )
    for axes in (diagram, gaps, counts):
        axes.set_xlim(-0.03, 1.03)
    for axes in (diagram, gaps):
        axes.tick_params(labelbottom=False)
    diagram.legend(loc="upper left", labelcolor="linecolor", handlelength=0.8)
    return figure
