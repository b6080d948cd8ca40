"""Figures of predicted vertices."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcloud.evaluation.figures.style import COLORS, figure_style, single_axes
from pcloud.evaluation.particles import PredictedVertices
from pcloud.typing import Integers

__all__ = ["vertex_number_figure"]


@figure_style()
def vertex_number_figure(sample: PredictedVertices, *, ax: Axes | None = None) -> Figure:
    """Draw the distributions of the number of true, predicted and matched vertices of a jet.

    Parameters
    ----------
    sample : PredictedVertices
        Predictions of particles with known vertices.
    ax : Axes, optional
        Axes to draw in; by default those of a new figure.
    """
    figure, axes = single_axes(ax)
    found = sample.matched()
    numbers = {"true": found.true, "predicted": found.predicted, "matched": found.matched}
    most = max(int(values.max(initial=0)) for values in numbers.values())
    for (name, values), color in zip(numbers.items(), COLORS, strict=False):
        _draw(axes, values, most, name, color)
    axes.set_xlabel("vertices of a jet")
    axes.set_ylabel("jets")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def _draw(axes: Axes, values: Integers, most: int, name: str, color: str) -> None:
    heights = np.bincount(values, minlength=most + 1)
    edges = np.arange(most + 2) - 0.5
    axes.stairs(heights, edges, color=color, label=name)
    errors = np.sqrt(heights)
    axes.errorbar(np.arange(most + 1), heights, errors, fmt="none", color=color)
