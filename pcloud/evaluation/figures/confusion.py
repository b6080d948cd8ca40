"""Confusion matrix as numbers and as a figure."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcloud.evaluation.figures.cells import draw_cells
from pcloud.evaluation.figures.style import figure_style, single_axes
from pcloud.evaluation.influence import weighted_fraction
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import binary_signal

Normalise = Literal["true", "predicted"]

_TITLES = {
    None: "Confusion matrix (number of jets)",
    "true": "Confusion matrix (% of each true class)",
    "predicted": "Confusion matrix (% of each predicted class)",
}
_MAX_CLASSES_WITH_ERRORS = 3  # more cells are too small for a percentage with its error


def confusion_matrix(
    sample: Scores, normalise: Normalise | None = None, *, signal: str | int | None = None
) -> NDArray[np.floating] | NDArray[np.integer]:
    """Number, or sum of weights, of jets of true class i that are predicted to be of class j, (C, C).

    Parameters
    ----------
    sample : Scores
        Labels and probabilities.
    normalise : {"true", "predicted"}, optional
        Return fractions of the jets of each true class (rows add up to 1), or of the jets of
        each predicted class (columns add up to 1). They are NaN for a class without jets.
    signal : str or int, optional
        Class to which a single column of scores refers.
    """
    from sklearn.metrics import confusion_matrix as count_matrix

    number = len(sample.classes)
    target = binary_signal(sample, signal) if number == 2 else None
    counts = count_matrix(
        sample.labels, sample.predicted(target), labels=range(number), sample_weight=sample.weights
    )
    if normalise is None:
        return counts
    total = counts.sum(axis=1 if normalise == "true" else 0, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)


@figure_style()
def confusion_figure(
    sample: Scores,
    normalise: Normalise | None = None,
    *,
    signal: str | int | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the confusion matrix as a table of shaded cells.

    Rows are true classes, columns are predicted classes. Counts are shaded by the fraction of the
    true class. Percentages of up to three classes have their binomial error, or that of their
    influence functions for jets with weights; 0 and 100 % are limits at 95 % confidence.

    Parameters
    ----------
    sample, normalise, signal
        As for :func:`confusion_matrix`.
    ax : Axes, optional
        Axes to draw in; by default those of a new figure.

    Returns
    -------
    Figure
    """
    matrix = confusion_matrix(sample, normalise, signal=signal)
    counts = confusion_matrix(sample, signal=signal)
    shade = confusion_matrix(sample, normalise or "true", signal=signal)
    number = len(sample.classes)
    figure, axes = single_axes(ax, 3.7 if number < 4 else 4.4)
    cells = None if sample.weights is None else _weighted_cells(sample, normalise, signal)
    size = 14 if number < 4 else (11 if number < 7 else 8.5)
    if cells is None:
        of_class = counts.sum(axis=0 if normalise == "predicted" else 1, keepdims=True)
        jets = np.broadcast_to(of_class, counts.shape)
        cells = [
            [_cell(value, int(n), normalise, number) for value, n in zip(*rows, strict=True)]
            for rows in zip(matrix, jets, strict=True)
        ]
    draw_cells(axes, shade, cells, sample.classes, size=size)
    title = _TITLES[normalise]
    if sample.weights is not None and normalise is None:
        title = "Confusion matrix (sum of weights)"
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(title, loc="left")
    return figure


def _cell(value: float, jets: int, normalise: Normalise | None, number: int) -> str:
    if normalise is None:
        return f"{int(value):,}"
    if np.isnan(value):
        return "none"
    if number > _MAX_CLASSES_WITH_ERRORS:
        return f"{100 * value:.1f}"
    return _percent(Measured.fraction(round(value * jets), jets))


def _weighted_cells(
    sample: Scores, normalise: Normalise | None, signal: str | int | None
) -> list[list[str]]:
    """Texts of the cells for jets with weights."""
    assert sample.weights is not None
    number = len(sample.classes)
    target = binary_signal(sample, signal) if number == 2 else None
    classes = {"true": sample.labels, "predicted": sample.predicted(target)}
    rows: list[list[str]] = []
    for i in range(number):
        rows.append([])
        for j in range(number):
            inside = (classes["true"] == i) & (classes["predicted"] == j)
            if normalise is None:
                rows[-1].append(f"{sample.weights[inside].sum():,.5g}")
                continue
            part = classes[normalise] == (i if normalise == "true" else j)
            found = weighted_fraction(inside[part], sample.weights[part])
            if math.isnan(found.value):
                rows[-1].append("none")
            elif number > _MAX_CLASSES_WITH_ERRORS:
                rows[-1].append(f"{100 * float(found):.1f}")
            else:
                rows[-1].append(_percent(found))
    return rows


def _percent(fraction: Measured) -> str:
    percent = fraction.scaled(100)
    return str(percent) if percent.limit else str(percent).replace(" ", "\n", 1)
