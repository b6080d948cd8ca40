"""Which classes are taken for which."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pcloud.evaluation.figures.style import COLORS, INK, PAPER, figure_style, new_figure
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import binary_signal

Normalise = Literal["true", "predicted"]

_TITLES = {
    None: "number of jets",
    "true": "percent of the jets of each true class",
    "predicted": "percent of the jets of each predicted class",
}


def confusion_matrix(
    sample: Scores, normalise: Normalise | None = None, *, signal: str | int | None = None
) -> NDArray[np.floating] | NDArray[np.integer]:
    """Number of jets of true class i taken for class j, shape (C, C).

    Parameters
    ----------
    sample : Scores
        Labels and probabilities.
    normalise : {"true", "predicted"}, optional
        Give fractions of the jets of each true class (rows add up to 1), or of the jets taken
        for each class (columns add up to 1); of a class without jets NaN.
    signal : str or int, optional
        Of a single column of scores, the class it is the score of.
    """
    number = len(sample.classes)
    target = binary_signal(sample, signal) if number == 2 else None
    pair = sample.labels * number + sample.predicted(target)
    counts = np.bincount(pair, minlength=number**2).reshape(number, number)
    if normalise is None:
        return counts
    total = counts.sum(axis=1 if normalise == "true" else 0, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)


@figure_style()
def confusion_figure(
    sample: Scores, normalise: Normalise | None = None, *, signal: str | int | None = None
) -> Figure:
    """`confusion_matrix` as a table of shaded cells, true classes down, predicted across.

    Counts are shaded by the share of the true class. Percentages of few classes carry their
    binomial error; 0 and 100 % are limits at 95 % confidence.
    """
    matrix = confusion_matrix(sample, normalise, signal=signal)
    counts = confusion_matrix(sample, signal=signal)
    number = len(sample.classes)
    shade = confusion_matrix(sample, normalise or "true", signal=signal)
    figure, (axes,) = new_figure(3.7 if number < 4 else 4.4)
    total = counts.sum(axis=0 if normalise == "predicted" else 1)
    for i in range(number):
        for j in range(number):
            level = 0.0 if np.isnan(shade[i, j]) else float(shade[i, j])
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=COLORS[0], alpha=level, linewidth=0))
            jets = total[j] if normalise == "predicted" else total[i]
            text = _cell(matrix[i, j], int(jets), normalise, number)
            size = 14 if number < 4 else (11 if number < 7 else 8.5)
            color = PAPER if level > 0.55 else INK
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=color, fontsize=size)
    axes.set(xlim=(0, number), ylim=(number, 0), xlabel="predicted", ylabel="true")
    axes.set_title(_TITLES[normalise], loc="left")
    middle = np.arange(number) + 0.5
    axes.set_xticks(middle, sample.classes, parse_math=False)
    axes.set_yticks(middle, sample.classes, parse_math=False)
    axes.tick_params(length=0)
    if number > 4:
        for name in axes.get_xticklabels():
            name.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


def _cell(value: float, jets: int, normalise: Normalise | None, number: int) -> str:
    if normalise is None:
        return f"{int(value):,}"
    if np.isnan(value):
        return "none"
    if number > 3:
        return f"{100 * value:.1f}"
    percent = Measured.fraction(round(value * jets), jets).scaled(100)
    return str(percent) if percent.limit else str(percent).replace(" ", "\n", 1)
