"""Page of a tuning: gain beside the spread of seeds, trials, importance, parallel coordinates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from pcloud.evaluation.figures.style import COLORS, MUTED, PAPER, figure_style, new_figure
from pcloud.report.blocks import Section, paragraph, table
from pcloud.report.figures import FigureFolder
from pcloud.report.page import render_page
from pcloud.run_files import FIGURE_FOLDER, REPORT_FILE, write_text
from pcloud.studies.tuning import Tuning, value_text
from pcloud.text import for_figure
from pcloud.training.state import lower_is_better
from pcloud.typing import Floats
from pcloud.words import number_of

__all__ = ["importance_figure", "parallel_figure", "trials_figure", "write_tuning_report"]

_MAX_ROWS = 50  # trials in the table


def write_tuning_report(folder: str | Path) -> Path:
    """Write ``report.html`` and ``figures/`` of a tuning from its ``tuning.json``.

    Parameters
    ----------
    folder : path
        Folder of the tuning.

    Raises
    ------
    FileNotFoundError
        If no trial is finished yet.
    InputError
        If the file cannot be read.
    """
    folder = Path(folder)
    found = Tuning.read(folder)
    figures = FigureFolder(folder / FIGURE_FOLDER)
    drawn = [figures.add("trials", trials_figure(found), _CAPTIONS["trials"])]
    if found.repeated.get("best"):
        drawn.append(figures.add("seeds", seeds_figure(found), _CAPTIONS["seeds"]))
    if found.importance:
        drawn.append(figures.add("importance", importance_figure(found), _CAPTIONS["importance"]))
    if len(found.space) > 1:
        drawn.append(figures.add("parallel", parallel_figure(found), _CAPTIONS["parallel"]))
    rows = found.rows()
    more = len(rows) - 1 - _MAX_ROWS
    note = paragraph(f"{number_of(more, 'further trial')} not shown.", "note") if more > 0 else ""
    sections = [
        Section("Result", "".join(map(paragraph, found.summary()))),
        Section("Figures", f'<div class="figures">{"".join(drawn)}</div>'),
        Section("Trials", table(rows[: _MAX_ROWS + 1]) + note),
    ]
    facts = [f"sampler {found.sampler}", number_of(len(found.trials), "trial"), found.monitor]
    page = folder / REPORT_FILE
    write_text(page, render_page("Tuning", facts, sections, [str(folder)]))
    return page


_CAPTIONS = {
    "trials": "Best metric of each trial, and the best of all trials so far. Pruned trials were ended "
    "because they were worse than the median of the others at the same epoch.",
    "seeds": "Metric of the best trial and of the configuration without tuning, each with the same "
    "further seeds, which the tuning has not seen; lines are means.",
    "importance": "Part of the variance of the metric between trials that each option explains by "
    "itself or with others (fANOVA).",
    "parallel": "Values of all trials; each line is a trial, with the colour of its metric. Dotted "
    "lines are pruned trials.",
}


@figure_style()
def trials_figure(found: Tuning) -> Figure:
    """Draw the metric of each trial and the best so far."""
    figure, (axes,) = new_figure(4.0)
    styles = {"finished": ("o", COLORS[0]), "pruned": ("x", MUTED)}
    for state, (marker, color) in styles.items():
        points = [(t.number, t.metric) for t in found.trials if t.state == state]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=color, label=state)
    finished = [(t.number, t.metric) for t in found.trials if t.state == "finished"]
    if finished:
        numbers, metrics = (np.array(part) for part in zip(*finished, strict=True))
        best = np.minimum if lower_is_better(found.monitor) else np.maximum
        axes.step(numbers, best.accumulate(metrics), where="post", color=COLORS[1], label="best")
    axes.set_xlabel("trial")
    axes.set_ylabel(for_figure(found.monitor))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@figure_style()
def seeds_figure(found: Tuning) -> Figure:
    """Draw the metric of the best trial and of the configuration without tuning for each seed."""
    figure, (axes,) = new_figure(3.0)
    names = {"base": "without tuning", "best": "best trial"}
    for place, name in enumerate(names):
        values = np.array(found.repeated[name])
        axes.plot(values, np.full(len(values), place), "o", color=COLORS[place])
        axes.plot([values.mean()] * 2, [place - 0.25, place + 0.25], color=COLORS[place])
    axes.set_yticks([0, 1], list(names.values()))
    axes.set_ylim(1.6, -0.6)
    axes.set_xlabel(for_figure(found.monitor))
    return figure


@figure_style()
def importance_figure(found: Tuning) -> Figure:
    """Draw the importance of each option."""
    names = list(found.importance)
    figure, (axes,) = new_figure(1.4 + 0.35 * len(names))
    places = np.arange(len(names))
    axes.barh(places, [found.importance[name] for name in names], color=COLORS[0])
    axes.set_yticks(places, [for_figure(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("importance")
    return figure


@figure_style()
def parallel_figure(found: Tuning) -> Figure:
    """Draw the values of all trials as lines across one axis for each option and for the metric."""
    names = list(found.space)
    shown = [
        t for t in found.trials if t.state in ("finished", "pruned") and math.isfinite(t.metric)
    ]
    metrics = np.array([trial.metric for trial in shown])
    columns = [_heights(found.space[name], [t.values[name] for t in shown]) for name in names]
    low, high = (np.min(metrics), np.max(metrics)) if len(shown) else (0.0, 1.0)
    norm = Normalize(low, high if high > low else low + 1)
    # worst values, which may be of divergence, would hide the differences between good ones
    if len(shown) > 3:
        quartiles = np.quantile(metrics, (0, 0.75) if lower_is_better(found.monitor) else (0.25, 1))
        norm = Normalize(*quartiles) if quartiles[1] > quartiles[0] else norm
    figure, (axes,) = new_figure(4.4)
    name = "viridis" if lower_is_better(found.monitor) else "viridis_r"
    colors = mpl.colormaps[name]
    sign = -1 if lower_is_better(found.monitor) else 1
    for row in np.argsort(sign * metrics):  # the best on top
        line = [column[row] for column in columns]
        style = "-" if shown[row].state == "finished" else ":"
        axes.plot(line, style, color=colors(norm(metrics[row])), lw=1.4, alpha=0.8)
    for place, option in enumerate(names):
        axes.axvline(place, color=MUTED, lw=0.8)
        for height, text in _ticks(found.space[option]):
            label = for_figure(text)
            axes.annotate(
                label,
                (place, height),
                (3, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1, "alpha": 0.8},
            )
    labels = [for_figure(name.removeprefix("model_options.")) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=20, ha="right")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xlim(-0.1, len(names) - 0.6)
    axes.set_yticks([])
    axes.grid(visible=False)
    bar = mpl.cm.ScalarMappable(norm, colors)
    figure.colorbar(bar, ax=axes, label=for_figure(found.monitor), extend="both")
    return figure


def _heights(part: dict[str, Any], values: list[Any]) -> Floats:
    """Places (T,) between 0 and 1 of values on the axis of an option."""
    if "choices" in part:
        number = max(len(part["choices"]) - 1, 1)
        return np.array([part["choices"].index(value) / number for value in values])
    scale = math.log if part["log"] else float
    low, high = scale(part["low"]), scale(part["high"])
    return np.array([(scale(value) - low) / (high - low) for value in values])


def _ticks(part: dict[str, Any]) -> list[tuple[float, str]]:
    """Places and texts on the axis of an option."""
    values = part.get("choices") or [part["low"], part["high"]]
    return list(zip(_heights(part, values).tolist(), map(value_text, values), strict=True))
