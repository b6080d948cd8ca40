"""ROC curves: background rejection against signal efficiency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, line_styles, new_figure
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.metrics import evaluate
from pcloud.evaluation.resampling import bootstrap
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.table import EvaluationTable
from pcloud.evaluation.tasks import Task, binary_signal, discrimination_tasks

GRID = np.concatenate([np.geomspace(0.01, 0.1, 20)[:-1], np.linspace(0.1, 1, 181)])


@figure_style()
def roc_figure(
    sample: Scores,
    *,
    efficiencies: Sequence[float] = (0.3, 0.5),
    signal: str | int | None = None,
    background: str | int | None = None,
    num_bootstrap: int = 100,
    seed: int = 0,
) -> Figure:
    """Background rejection 1/eB against signal efficiency eS, with bootstrap bands.

    Two classes: one curve, its area, and the rejections at `efficiencies`. More: a curve for
    each class, against the rest or, if given, against `background`. A band holds the central
    68 % of the resamplings; a curve ends where no background is left.

    Parameters
    ----------
    sample : Scores
        Labels and scores.
    efficiencies, signal, background, num_bootstrap, seed
        As for `evaluate`.

    Returns
    -------
    Figure
    """
    tasks = discrimination_tasks(sample, signal, background)
    binary = len(sample.classes) == 2
    if background is not None and not binary:
        tasks = [task for task in tasks if task.name != task.signal]
    figure, (axes,) = new_figure(4.4)
    curves, bands = _curves(tasks, sample.labels, num_bootstrap, seed)
    _draw(axes, [_escape(task.signal) for task in tasks], curves, bands)
    if binary:
        table = evaluate(
            sample.labels,
            sample.values,
            classes=sample.classes,
            efficiencies=efficiencies,
            signal=signal,
            background=background,
            num_bootstrap=0,
        )
        target = binary_signal(sample, signal, background)
        _label_axes(axes, sample.classes[target], sample.classes[1 - target])
        _mark(axes, table, efficiencies)
    else:
        against = "the rest" if background is None else sample.classes[sample.index(background)]
        _label_axes(axes, "class", against)
        figure.legend(loc="outside upper center", ncols=min(len(tasks), 4))
    return figure


def _draw(
    axes: Axes,
    names: Sequence[str],
    curves: NDArray[np.floating],
    bands: NDArray[np.floating],
) -> None:
    order = np.argsort(curves[:, np.searchsorted(GRID, 0.5)])  # best first, as on the page
    for style, i in zip(line_styles(len(names)), order, strict=True):
        axes.plot(GRID, _inverse(curves[i]), label=names[i], **style)
        low, high = _inverse(bands[:, i])
        axes.fill_between(GRID, low, high, color=style["color"], alpha=0.2, linewidth=0)
    axes.plot(GRID, 1 / GRID, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(0.27, 2.5, "random", color=MUTED, fontsize=10, ha="right", va="center")
    highest = np.nanmax(_inverse(curves), initial=1 / GRID[0])
    axes.set(yscale="log", xlim=(0, 1), ylim=(1, 2.5 * highest))


def _curves(
    tasks: Sequence[Task], labels: NDArray[np.integer], num_bootstrap: int, seed: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Background efficiencies on the grid, (T, G), and the ends of their bands, (2, T, G)."""

    def values(weights: NDArray[np.uint8]) -> NDArray[np.floating]:
        counts = [task.ranking.resampled(weights) for task in tasks]
        return np.stack([count.background_efficiency(GRID) for count in counts])

    curves = values(np.ones(len(labels), dtype=np.uint8))
    if not num_bootstrap:
        return curves, np.stack([curves, curves])
    resampled = bootstrap(values, labels, num_bootstrap, seed)
    return curves, np.quantile(resampled, [0.1587, 0.8413], axis=0)


def _inverse(efficiency: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rejection; not a number, which is not drawn, where nothing passes."""
    return np.divide(1, efficiency, out=np.full(efficiency.shape, np.nan), where=efficiency > 0)


def _label_axes(axes: Axes, signal: str, background: str) -> None:
    axes.set_xlabel(rf"{_escape(signal)} efficiency $\varepsilon_S$")
    axes.set_ylabel(rf"rejection of {_escape(background)}, $1/\varepsilon_B$")


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
    """Ends of an error bar; of a limit, those of its arrow."""
    if entry.limit == "lower":
        return entry.value, 1.7 * entry.value
    if entry.limit == "upper":
        return entry.value / 1.7, entry.value
    return entry.interval()


def _escape(text: str) -> str:
    return text.replace("$", r"\$")
