"""ROC curves: background rejection against signal efficiency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.estimates import measured_area
from pcloud.evaluation.figures.style import (
    COLORS,
    MUTED,
    figure_style,
    line_styles,
    new_figure,
    single_axes,
)
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.metrics import evaluate_scores
from pcloud.evaluation.resampling import bootstrap
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.table import EvaluationTable
from pcloud.evaluation.tasks import Task, class_names, discrimination_tasks, signal_and_background
from pcloud.text import for_figure

Floats = NDArray[np.floating]

GRID = np.concatenate([np.geomspace(0.01, 0.1, 20)[:-1], np.linspace(0.1, 1, 181)])
"""Signal efficiencies at which curves are drawn."""

_BAND = (0.1587, 0.8413)  # quantiles of the central 68 %
_LEGEND_ROOM = 2.0  # factor of the logarithmic axis for each line of the legend
_MIN_RATIO_EFFICIENCY = 0.1  # lowest signal efficiency that sets the range of the ratio panel


@dataclass(frozen=True)
class _Curves:
    """Background efficiencies of T tasks at the G signal efficiencies of `GRID`.

    Parameters
    ----------
    values : ndarray, shape (T, G)
        Those of the sample.
    resampled : ndarray, shape (R, T, G)
        Those of its resamplings.
    """

    values: Floats
    resampled: Floats

    @classmethod
    def of(cls, tasks: Sequence[Task], sample: Scores, num_bootstrap: int, seed: int) -> _Curves:
        def values(weights: NDArray[np.uint8]) -> Floats:
            counts = [task.ranking.resampled(weights) for task in tasks]
            return np.stack([count.background_efficiency(GRID) for count in counts])

        curves = values(np.ones(len(sample.labels), dtype=np.uint8))
        if not num_bootstrap:
            return cls(curves, curves[None])
        return cls(curves, bootstrap(values, sample.labels, num_bootstrap, seed))

    @property
    def bands(self) -> Floats:
        """Ends of the central 68 % of the resamplings, (2, T, G)."""
        return np.quantile(self.resampled, _BAND, axis=0)


@figure_style()
def roc_figure(
    sample: Scores | Mapping[str, Scores],
    *,
    efficiencies: Sequence[float] = (0.3, 0.5),
    signal: str | int | None = None,
    background: str | int | None = None,
    num_bootstrap: int = 100,
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """Draw the background rejection 1/eB against the signal efficiency eS.

    A band contains the central 68 % of the bootstrap resamplings. A curve ends where no
    background is left.

    One tagger with two classes: one curve, its area, and the rejections at `efficiencies`. One
    tagger with more classes: one curve for each class, against all others or, if given, against
    `background`.

    Several taggers: one curve for each, with its area. Below is the ratio of the rejections to
    that of the first tagger. If the taggers have scored the same jets, its band includes their
    correlation.

    Parameters
    ----------
    sample : Scores or mapping of str to Scores
        Labels and scores of one tagger, or those of several taggers by name.
    efficiencies, signal, background, num_bootstrap, seed
        As for `evaluate`. For several taggers the signal of more than two classes must be named,
        and `efficiencies` are not used.
    ax : Axes, optional
        Axes to draw in; by default those of a new figure. There is no ratio panel then.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If the options cannot be used, or there is no tagger.
    """
    if not isinstance(sample, Scores):
        return _overlay(sample, signal, background, num_bootstrap, seed, ax)
    tasks = discrimination_tasks(sample, signal, background)
    binary = len(sample.classes) == 2
    if background is not None and not binary:
        tasks = [task for task in tasks if task.name != task.signal]
    figure, axes = single_axes(ax, 4.4)
    curves = _Curves.of(tasks, sample, num_bootstrap, seed)
    # best first, as in the figure from top to bottom
    order = np.argsort(curves.values[:, np.searchsorted(GRID, 0.5)])
    names = [for_figure(tasks[i].signal) for i in order]
    _draw(axes, names, _Curves(curves.values[order], curves.resampled[:, order]))
    if binary:
        table = evaluate_scores(
            sample,
            efficiencies=efficiencies,
            signal=signal,
            background=background,
            num_bootstrap=0,
        )
        _label_axes(axes, *class_names(sample, signal, background))
        _mark(axes, table, efficiencies)
    else:
        against = "the rest" if background is None else sample.classes[sample.index(background)]
        _label_axes(axes, "class", against)
        if ax is None:
            figure.legend(loc="outside upper center", ncols=min(len(tasks), 4))
        else:
            axes.legend(loc="upper right")
    return figure


def _overlay(
    taggers: Mapping[str, Scores],
    signal: str | int | None,
    background: str | int | None,
    num_bootstrap: int,
    seed: int,
    ax: Axes | None,
) -> Figure:
    """Draw the curves of several taggers, and their ratios to the first one in a new figure."""
    if not taggers:
        raise InputError("there is no tagger to draw")
    curves = []
    names = []
    for name, sample in taggers.items():
        signal_and_background(sample, signal, background)  # refuses an unnamed signal
        task = discrimination_tasks(sample, signal, background)[-1]
        curves.append(_Curves.of([task], sample, num_bootstrap, seed))
        names.append(f"{for_figure(name)} (AUC {measured_area(task, sample.labels)})")
    together = _Curves(
        np.concatenate([c.values for c in curves]),
        np.concatenate([c.resampled for c in curves], axis=1),
    )
    if ax is None:
        figure, (axes, ratio) = new_figure(5.6, rows=2, sharex=True, height_ratios=[2.6, 1])
        _draw_ratios(ratio, together, for_figure(next(iter(taggers))))
    else:
        figure, axes = single_axes(ax)
    _draw(axes, names, together)
    first = next(iter(taggers.values()))
    _label_axes(axes, *class_names(first, signal, background))
    axes.legend(loc="upper right", fontsize=10)
    axes.set_ylim(top=axes.get_ylim()[1] * _LEGEND_ROOM ** len(taggers))
    if ax is None:
        ratio.set_xlabel(axes.get_xlabel())
        axes.set_xlabel("")
        figure.align_ylabels([axes, ratio])
    return figure


def _draw(axes: Axes, names: Sequence[str], curves: _Curves) -> None:
    styles = line_styles(len(names))
    for name, style, value, band in zip(
        names, styles, curves.values, curves.bands.swapaxes(0, 1), strict=True
    ):
        axes.plot(GRID, _inverse(value), label=name, **style)
        low, high = _inverse(band)
        axes.fill_between(GRID, low, high, color=style["color"], alpha=0.2, linewidth=0)
    axes.plot(GRID, 1 / GRID, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(0.27, 2.5, "random", color=MUTED, fontsize=10, ha="right", va="center")
    highest = np.nanmax(_inverse(curves.values), initial=1 / GRID[0])
    axes.set(yscale="log", xlim=(0, 1), ylim=(1, 2.5 * highest))


def _draw_ratios(axes: Axes, curves: _Curves, reference: str) -> None:
    """Draw the rejections over that of the first curve, where some background passes."""
    every = np.concatenate([curves.values[None], curves.resampled])
    passes = every.min(axis=0) > 0  # (T, G)
    values = curves.values
    limits = [1.0]
    for i, style in enumerate(line_styles(len(values))):
        shown = passes[i] & passes[0]
        ratio = values[0, shown] / values[i, shown]
        axes.plot(GRID[shown], ratio, **style)
        resampled = curves.resampled[:, 0, shown] / curves.resampled[:, i, shown]
        low, high = np.quantile(resampled, _BAND, axis=0)
        if i > 0:
            axes.fill_between(GRID[shown], low, high, color=style["color"], alpha=0.2, linewidth=0)
        inside = GRID[shown] >= _MIN_RATIO_EFFICIENCY
        limits += [*low[inside], *high[inside]]
    margin = 0.1 * (max(limits) - min(limits)) + 0.01
    axes.set(ylim=(min(limits) - margin, max(limits) + margin))
    axes.set_ylabel(f"ratio to {reference}")


def _inverse(efficiency: Floats) -> Floats:
    """Rejection; NaN, which is not drawn, where no background passes."""
    return np.divide(1, efficiency, out=np.full(efficiency.shape, np.nan), where=efficiency > 0)


def _label_axes(axes: Axes, signal: str, background: str) -> None:
    axes.set_xlabel(rf"{for_figure(signal)} efficiency $\varepsilon_S$")
    axes.set_ylabel(rf"rejection of {for_figure(background)}, $1/\varepsilon_B$")


def _mark(axes: Axes, table: EvaluationTable, efficiencies: Sequence[float]) -> None:
    """Write the rejections beside the curve, limits as arrows, and the area in the corner."""
    for efficiency in efficiencies:
        entry = table[f"rejection@{efficiency:g}"]
        low, high = _bar(entry)
        axes.errorbar(
            efficiency,
            entry.value,
            [[entry.value - low], [high - entry.value]],
            fmt="o",
            color=COLORS[0],
            markersize=6,
            lolims=entry.limit == "lower",
            uplims=entry.limit == "upper",
        )
        axes.set_ylim(top=max(axes.get_ylim()[1], 3 * entry.value))
        axes.annotate(
            str(entry) if entry.limit else rf"{entry}  at $\varepsilon_S$ = {efficiency:g}",
            (efficiency, high if entry.limit else entry.value),
            (0, 7) if entry.limit else (9, 5),
            textcoords="offset points",
            ha="center" if entry.limit else "left",
        )
    axes.annotate(
        f"AUC {table['auc']}", (1, 1), (0, -14), "axes fraction", "offset points", ha="right"
    )


def _bar(entry: Measured) -> tuple[float, float]:
    """Ends of an error bar; for a limit, those of its arrow."""
    if entry.limit == "lower":
        return entry.value, 1.7 * entry.value
    if entry.limit == "upper":
        return entry.value / 1.7, entry.value
    return entry.interval()
