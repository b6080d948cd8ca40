"""Distribution of the scores of each class."""

from __future__ import annotations

import math

import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.figures.style import (
    COLORS,
    MUTED,
    figure_style,
    new_figure,
    single_axes,
)
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import binary_signal
from pcloud.text import for_figure

Group = tuple[str, NDArray[np.floating], NDArray[np.floating], str]
"""Name, scores, weights and colour of the jets of one class."""


@figure_style()
def score_figure(
    sample: Scores,
    *,
    signal: str | int | None = None,
    background: str | int | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw histograms of the scores of each class, as fractions of its jets or weights, on a log scale.

    Two classes: the score of the signal for both classes. More classes: one panel for each class
    with its probability, for jets of this class and for all others.

    Parameters
    ----------
    sample : Scores
        Labels and scores.
    signal, background : str or int, optional
        As for `evaluate`. With more than two classes all are shown.
    ax : Axes, optional
        Axes to draw in; by default those of a new figure. With more than two classes it shows the
        `signal`, which must be named.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If there are more than two classes for `ax` and the signal is not named.
    """
    bins = int(np.clip(len(sample.labels) ** 0.5, 10, 40))
    if len(sample.classes) == 2:
        target = binary_signal(sample, signal, background)
        figure, axes = single_axes(ax, 4.4)
        groups = [
            _group(sample, sample.classes[c], target, sample.labels == c, COLORS[c]) for c in (0, 1)
        ]
        _draw(axes, groups, _edges(sample.discriminant(target), bins))
        axes.set_ylabel("fraction of jets in a bin")
        axes.set_xlabel(f"score for {for_figure(sample.classes[target])}")
        _add_legend(axes, groups)
        return figure
    if ax is not None:
        if signal is None:
            raise InputError(f"one axes shows one class of {', '.join(sample.classes)}: name it")
        figure, axes = single_axes(ax)
        groups = _one_against_all(sample, sample.index(signal))
        _draw(axes, groups, np.linspace(0, 1, bins + 1))
        axes.set_ylabel("fraction of jets in a bin")
        axes.set_xlabel(f"probability of {for_figure(groups[1][0])}")
        _add_legend(axes, groups)
        return figure
    rows = math.ceil(len(sample.classes) / 2)
    figure, panels = new_figure(0.6 + 1.5 * rows, rows, 2)
    for axes in panels[len(sample.classes) :]:
        axes.set_visible(False)
    for c, (name, axes) in enumerate(zip(sample.classes, panels, strict=False)):
        _draw(axes, _one_against_all(sample, c), np.linspace(0, 1, bins // 2 + 1))
        axes.set_title(for_figure(name), loc="left", color=COLORS[0])
        axes.label_outer()
    figure.supxlabel("probability of the class (grey: jets of other classes)", fontsize=12)
    figure.supylabel("fraction of jets in a bin", fontsize=12)
    return figure


def _one_against_all(sample: Scores, c: int) -> list[Group]:
    """Probability of class `c` for the jets of other classes and for its own jets."""
    is_member = sample.labels == c
    return [
        _group(sample, "others", c, ~is_member, MUTED),
        _group(sample, sample.classes[c], c, is_member, COLORS[0]),
    ]


def _group(sample: Scores, name: str, target: int, jets: NDArray[np.bool_], color: str) -> Group:
    scores = sample.discriminant(target)[jets]
    weights = np.ones(len(scores)) if sample.weights is None else sample.weights[jets]
    return name, scores, weights, color


def _draw(axes: Axes, groups: list[Group], edges: NDArray[np.floating]) -> None:
    smallest = 1.0
    for _, scores, weights, color in groups:
        if not len(scores):
            continue
        counts, _ = np.histogram(scores, edges, weights=weights)
        squares, _ = np.histogram(scores, edges, weights=weights**2)
        fraction = counts / weights.sum()
        error = np.sqrt(squares) / weights.sum()
        mplhep.histplot(fraction, edges, ax=axes, color=color, linewidth=1.6, yerr=error)
        mplhep.histplot(fraction, edges, ax=axes, color=color, histtype="fill", alpha=0.15)
        smallest = min(smallest, fraction[fraction > 0].min())
    axes.set(yscale="log", ylim=(0.4 * smallest, 1.5), xlim=(edges[0], edges[-1]))


def _edges(scores: NDArray[np.floating], bins: int) -> NDArray[np.floating]:
    low = scores.min()
    high = scores.max()
    if low >= 0 and high <= 1:
        return np.linspace(0, 1, bins + 1)
    return np.linspace(low, high if high > low else low + 1, bins + 1)


def _add_legend(axes: Axes, groups: list[Group]) -> None:
    handles = [Patch(color=color, label=for_figure(name)) for name, *_, color in groups]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(handles),
        labelcolor="linecolor",
        handlelength=0.8,
        borderaxespad=0.2,
    )
