"""Figure of the robustness to modified jets, one row for each modification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pcloud.evaluation.figures.style import COLORS, INK, MUTED, figure_style, new_figure
from pcloud.evaluation.robustness import Effect, Robustness
from pcloud.text import for_figure

__all__ = ["robustness_figure"]


@figure_style()
def robustness_figure(found: Robustness) -> Figure:
    """Draw the change of the AUC and the ratio of the rejections for each modification.

    Parameters
    ----------
    found : Robustness
        Result of :func:`pcloud.evaluation.robustness.measure_robustness`.

    Returns
    -------
    Figure
    """
    effects = found.effects
    names = list(dict.fromkeys(effect.name for effect in effects))
    at = _places(effects, names)
    height = 1.3 + 0.19 * at.max(initial=0)
    figure, (area, ratio) = new_figure(height, columns=2, sharey=True, width_ratios=[1.25, 1])
    for i, name in enumerate(names):
        color = COLORS[i % len(COLORS)]
        rows = [(y, e) for y, e in zip(at, effects, strict=True) if e.name == name]
        area.annotate(
            for_figure(name.replace("_", " ")),
            (0, rows[0][0] - 0.95),
            (-46, 0),
            ("axes fraction", "data"),
            "offset points",
            color=color,
            fontsize=10,
            va="center",
        )
        for y, effect in rows:
            _draw(area, ratio, y, effect, color)
    _decorate(area, ratio, effects, at, found.efficiency)
    return figure


def _places(effects: Sequence[Effect], names: list[str]) -> np.ndarray:
    """Vertical positions of the rows. A new name starts two rows lower, below its title."""
    order = [names.index(effect.name) for effect in effects]
    steps = np.diff(order, prepend=-1) > 0
    return np.cumsum(1 + steps.astype(float))


def _draw(area: Axes, ratio: Axes, y: float, effect: Effect, color: str) -> None:
    style: Any = {"fmt": "o", "color": color, "markersize": 4, "linewidth": 1.4}
    change = effect.auc_change
    area.errorbar(1000 * change.value, y, xerr=1000 * change.error, **style)
    if effect.rejection_ratio is not None:
        down, up = effect.rejection_ratio.sides()
        ratio.errorbar(effect.rejection_ratio.value, y, xerr=[[down], [up]], **style)


def _decorate(
    area: Axes, ratio: Axes, effects: Sequence[Effect], at: np.ndarray, efficiency: float
) -> None:
    for axes, zero in ((area, 0), (ratio, 1)):
        axes.spines["left"].set_visible(False)
        axes.axvline(zero, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.grid(axis="y", visible=False)
    labels = ["" if e.strength is None else f"{e.strength:g}" for e in effects]
    area.set_yticks(at, labels, fontsize=9, color=INK)
    area.set(ylim=(at.max(initial=1) + 0.8, at.min(initial=1) - 1.4))
    area.tick_params(axis="y", length=0)
    ratio.tick_params(axis="y", length=0)
    area.set_xscale("symlog", linthresh=2)
    area.set_xlabel(r"1000 $\times$ change of AUC")
    if all(effect.rejection_ratio is None for effect in effects):
        note = "no background jet\npasses the cut:\nuse more jets"
        ratio.text(0.5, 0.5, note, transform=ratio.transAxes, color=MUTED, ha="center", va="center")
        ratio.xaxis.set_visible(False)
        return
    ratio.set_xscale("log")
    ratio.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ratio.xaxis.set_major_formatter("{x:g}")
    ratio.xaxis.set_minor_formatter(NullFormatter())
    ratio.set_xlabel(rf"ratio of $1/\varepsilon_B$, $\varepsilon_S$ = {efficiency:g}")
