"""Figures of generated jets beside real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure, point_styles
from pcloud.evaluation.generation import Distance
from pcloud.text import for_figure

__all__ = ["DRAWN", "observables_figure", "ratios_figure"]

DRAWN = {
    "mass": "mass [GeV]",
    "multiplicity": "number of particles",
    "tau21": "τ21",
    "tau32": "τ32",
    "leading_share": "pT share of the leading particle",
    "d2": "D2",
}
"""Observables that are drawn, with the labels of their axes."""


@figure_style()
def observables_figure(histograms: Sequence[Any], label: str) -> Figure:
    """Draw distributions of real and generated jets of a class, with their ratio below each.

    Parameters
    ----------
    histograms : sequence
        Values with ``observable``, ``edges`` and the counts ``real`` and ``generated``.
    label : str
        Name of the class.
    """
    rows = -(-len(histograms) // 2)
    figure, panels = new_figure(
        0.5 + 2.3 * rows, 2 * rows, 2, gridspec_kw={"height_ratios": [3, 1] * rows}
    )
    for axes in panels:
        axes.set_visible(False)
    for i, found in enumerate(histograms):
        top = panels[4 * (i // 2) + i % 2]
        below = panels[4 * (i // 2) + 2 + i % 2]
        edges = np.array(found.edges)
        real, generated = (np.array(c, dtype=float) for c in (found.real, found.generated))
        shares = [counts / max(counts.sum(), 1) for counts in (real, generated)]
        for values, name, color in zip(shares, ("real", "generated"), COLORS, strict=False):
            top.stairs(values, edges, color=color, lw=1.6, label=name)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = shares[1] / shares[0]
            error = ratio * np.sqrt(1 / real + 1 / generated)
        used = np.isfinite(ratio) & np.isfinite(error) & (ratio < 10)
        centres = (edges[1:] + edges[:-1]) / 2
        below.errorbar(
            centres[used], ratio[used], error[used], fmt=".", color=COLORS[1], ms=3, lw=0.8
        )
        below.axhline(1.0, color=MUTED, lw=0.8)
        below.set_ylim(0.4, 1.6)
        below.set_xlabel(DRAWN.get(found.observable, found.observable), fontsize=10)
        top.set_xlim(edges[0], edges[-1])
        below.set_xlim(edges[0], edges[-1])
        top.tick_params(labelbottom=False, labelleft=False)
        for axes in (top, below):
            axes.set_visible(True)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper center", ncols=2, title=f"jets of {for_figure(label)}"
    )
    return figure


@figure_style()
def ratios_figure(distances: Sequence[Distance]) -> Figure:
    """Draw the Wasserstein distances of each observable over those of two real samples.

    Parameters
    ----------
    distances : sequence of Distance
        Distances; those that are no Wasserstein distances are left out.
    """
    shown = [d for d in distances if d.is_of_observable and not np.isnan(d.ratio.value)]
    quantities = list(dict.fromkeys(d.quantity for d in shown))
    labels = list(dict.fromkeys(d.label for d in shown))
    figure, (axes,) = new_figure(1.2 + 0.27 * len(quantities))
    for i, (label, style) in enumerate(zip(labels, point_styles(len(labels)), strict=True)):
        own = [d for d in shown if d.label == label]
        heights = [quantities.index(d.quantity) + 0.2 * (i - (len(labels) - 1) / 2) for d in own]
        ratios = [d.ratio for d in own]
        low = [min(r.error, 0.99 * r.value) if r.error == r.error else 0.0 for r in ratios]
        high = [r.error if r.error == r.error else 0.0 for r in ratios]
        axes.errorbar(
            [r.value for r in ratios],
            heights,
            xerr=[low, high],
            ls="",
            ms=5,
            lw=1.2,
            label=for_figure(label),
            **style,
        )
    axes.axvline(1.0, color=MUTED, lw=1.0)
    axes.set_xscale("log")
    axes.set_yticks(range(len(quantities)), [for_figure(q.replace("_", " ")) for q in quantities])
    axes.invert_yaxis()
    axes.set_xlabel("Wasserstein distance over that of real samples")
    figure.legend(loc="outside upper center", ncols=3)
    return figure
