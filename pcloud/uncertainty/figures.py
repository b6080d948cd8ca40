"""Figures of predictive uncertainties: by sample, against accuracy, and as a band of the ROC curve."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcloud.evaluation.figures.roc import GRID
from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure
from pcloud.evaluation.measured import Measured, fraction_interval
from pcloud.text import for_figure
from pcloud.uncertainty.measures import Uncertainty

__all__ = ["band_figure", "keeping_figure", "samples_figure", "spread_figure"]


@figure_style()
def samples_figure(samples: Mapping[str, Mapping[str, Measured]]) -> Figure:
    """Draw the mean epistemic uncertainty and logit spread of several samples as bars.

    Parameters
    ----------
    samples : mapping of str to mapping of str to Measured
        ``"epistemic"`` and ``"logit_spread"`` of each sample by its name.
    """
    names = list(samples)
    figure, panels = new_figure(1.3 + 0.42 * len(names), columns=2, sharey=True)
    titles = {"epistemic": "epistemic (nat)", "logit_spread": "logit spread"}
    for axes, (part, title), color in zip(panels, titles.items(), COLORS, strict=False):
        entries = [samples[name][part] for name in names]
        axes.barh(
            range(len(names)),
            [entry.value for entry in entries],
            xerr=np.transpose([entry.sides() for entry in entries]),
            color=color,
            height=0.6,
        )
        axes.set_xlabel(title)
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=3)
    panels[0].set_yticks(range(len(names)), [for_figure(name) for name in names])
    panels[0].invert_yaxis()
    return figure


@figure_style()
def keeping_figure(jets: Uncertainty, labels: NDArray[np.integer]) -> Figure:
    """Draw the accuracy of the remaining jets when the most uncertain jets are rejected.

    Parameters
    ----------
    jets : Uncertainty
        Scores and uncertainties of B jets.
    labels : ndarray of int, shape (B,)
        True classes.
    """
    correct = jets.mean.argmax(axis=1) == labels
    figure, (axes,) = new_figure(3.6)
    number = np.arange(1, len(correct) + 1)
    shown = number >= max(len(correct) // 20, 1)  # the accuracy of a few jets is not informative
    for part, color in (("total", COLORS[0]), ("epistemic", COLORS[1])):
        order = np.argsort(getattr(jets, part), kind="stable")
        num_correct = np.cumsum(correct[order])
        accuracy = num_correct / number
        low, high = fraction_interval(num_correct, number)
        kept = number[shown] / len(correct)
        axes.plot(kept, accuracy[shown], color=color, label=f"smallest {part} uncertainty")
        axes.fill_between(kept, low[shown], high[shown], color=color, alpha=0.15, linewidth=0)
    axes.axhline(correct.mean(), color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlabel="fraction of jets kept", ylabel="accuracy", xlim=(0, 1))
    axes.legend(loc="lower left", labelcolor="linecolor")
    return figure


@figure_style()
def spread_figure(jets: Uncertainty, labels: NDArray[np.integer], classes: Sequence[str]) -> Figure:
    """Draw the spread of the logit against the mean probability of the predicted class.

    Points are medians and bars the central 68 % of the jets, for correctly classified and
    misclassified jets.

    Parameters
    ----------
    jets : Uncertainty
        Scores and uncertainties of B jets.
    labels : ndarray of int, shape (B,)
        True classes.
    classes : sequence of str
        Names of the classes.
    """
    figure, (axes,) = new_figure(3.6)
    best = jets.mean.max(axis=1)
    edges = np.linspace(1 / len(classes), 1, 13)
    middle = (edges[1:] + edges[:-1]) / 2
    correct = jets.mean.argmax(axis=1) == labels
    for chosen, name, color, shift in (
        (correct, "correctly classified", COLORS[0], -1),
        (~correct, "misclassified", COLORS[1], 1),
    ):
        inside = [
            jets.logit_spread[chosen & (best >= low) & (best <= high)]
            for low, high in itertools.pairwise(edges)
        ]
        at = [i for i, values in enumerate(inside) if len(values) > 4]
        quantiles = np.array([np.quantile(inside[i], [0.16, 0.5, 0.84]) for i in at]).reshape(-1, 3)
        axes.errorbar(
            middle[at] + 0.004 * shift,
            quantiles[:, 1],
            np.diff(quantiles).T.tolist(),  # older matplotlib takes no array of one column
            fmt="o",
            markersize=4.5,
            linewidth=1.4,
            color=color,
            label=name,
        )
    axes.set(xlabel="mean probability of the predicted class", ylabel="spread of its logit")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=2, labelcolor="linecolor", handlelength=0.8)
    return figure


@figure_style()
def band_figure(roc: Mapping[str, Sequence[float]], classes: Sequence[str]) -> Figure:
    """Draw the ROC curve of the mean score of two classes with the spread of predictive samples.

    Parameters
    ----------
    roc : mapping of str to sequence of float
        Background efficiencies at the signal efficiencies
        :data:`~pcloud.evaluation.figures.roc.GRID`: ``"middle"`` of the mean score, ``"low"`` and
        ``"high"`` of the central 68 % of the predictive samples.
    classes : sequence of str
        Names of background and signal.
    """
    figure, (axes,) = new_figure(4.2)
    low = np.array(roc["high"])
    middle = np.array(roc["middle"])
    high = np.array(roc["low"])
    some = low > 0

    def rejection(efficiency: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.divide(1, efficiency, out=np.full(len(GRID), np.nan), where=efficiency > 0)

    axes.plot(GRID, rejection(middle), color=COLORS[0], label="mean score")
    upper = np.where(high > 0, rejection(high), 10 * np.nanmax(rejection(middle)))
    axes.fill_between(
        GRID[some],
        rejection(low)[some],
        upper[some],
        color=COLORS[1],
        alpha=0.35,
        linewidth=0,
        label="68 % of the predictive samples",
    )
    axes.plot(GRID, 1 / GRID, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    background, signal = map(for_figure, classes)
    axes.set(
        yscale="log",
        xlim=(0, 1),
        ylim=(1, 2.5 * np.nanmax(rejection(middle))),
        xlabel=rf"{signal} efficiency $\varepsilon_S$",
        ylabel=rf"rejection of {background}, $1/\varepsilon_B$",
    )
    axes.legend(loc="upper right", handlelength=1.2)
    return figure
