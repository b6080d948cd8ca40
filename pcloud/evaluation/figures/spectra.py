"""Spectra of an observable of each class, before and after a change of the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pcloud.evaluation.figures.style import COLORS, figure_style, new_figure
from pcloud.text import for_figure

__all__ = ["spectra_figure"]

_TITLES = {"pt": r"jet $p_T$ [GeV]", "mass": "jet mass [GeV]", "eta": r"jet $\eta$"}


@figure_style()
def spectra_figure(
    observable: str,
    edges: Sequence[float],
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    errors: Sequence[Sequence[float]],
    *,
    classes: Sequence[str],
) -> Figure:
    """Draw the spectrum of each class before the change above, and after it below.

    Parameters
    ----------
    observable : str
        Name of the observable.
    edges : sequence of float
        Edges of the K bins.
    before, after : sequence of sequence of float
        Fraction of each class in each bin.
    errors : sequence of sequence of float
        Standard errors of `after`.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    Figure
    """
    figure, panels = new_figure(5.0, rows=2, sharex=True)
    places = np.asarray(edges)
    middle = (places[1:] + places[:-1]) / 2
    width = (places[-1] - places[0]) / (len(places) - 1)
    for i, name in enumerate(classes):
        color = COLORS[i % len(COLORS)]
        style = "-" if i < len(COLORS) else "--"
        panels[0].stairs(before[i], places, color=color, label=for_figure(name), linestyle=style)
        panels[1].stairs(after[i], places, color=color, linestyle=style)
        shift = width * 0.15 * (i - (len(classes) - 1) / 2) if len(classes) < 4 else 0
        panels[1].errorbar(middle + shift, after[i], errors[i], fmt="none", color=color, lw=1)
    for axes, title in zip(panels, ("original weights", "new weights"), strict=True):
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_ylabel("fraction in a bin")
        axes.axhline(0, color="none")
    panels[1].set_xlabel(_TITLES.get(observable) or for_figure(observable))
    panels[1].set_xlim(places[0], places[-1])
    figure.legend(loc="outside upper center", ncols=min(len(classes), 4))
    return figure
