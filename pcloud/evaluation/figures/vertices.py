"""Figures of predicted vertices."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcloud.evaluation.figures.style import COLORS, figure_style, single_axes
from pcloud.evaluation.particles import PredictedVertices

__all__ = ["vertex_number_figure"]

_SHIFTS = (-0.15, 0.0, 0.15)  # of the points of each kind, which would hide each other


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
    for (name, values), color, shift in zip(numbers.items(), COLORS, _SHIFTS, strict=False):
        heights = np.bincount(values, minlength=most + 1)
        places = np.arange(most + 1) + shift
        axes.errorbar(places, heights, np.sqrt(heights), fmt="o", color=color, label=name)
    axes.set_xticks(range(most + 1))
    axes.set_xlabel("vertices of a jet")
    axes.set_ylabel("jets")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure
