"""Section of the report on the labels of particles that a network learned."""

from __future__ import annotations

import numpy as np

from pcloud.evaluation import EvaluationTable, Scores
from pcloud.evaluation.figures import confusion_figure
from pcloud.evaluation.figures.vertices import vertex_number_figure
from pcloud.evaluation.particles import PredictedParticles
from pcloud.evaluation.table import is_of_target
from pcloud.objectives.particle_columns import PredictedLabels
from pcloud.report.blocks import Section, paragraph, table
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.typing import Floats

__all__ = ["particles"]

_WORDS = (
    "A predicted vertex matches a true one if it has more than half of its particles, and these are more "
    "than half of its own. The efficiency is the fraction of the true vertices that are matched, the "
    "purity that of the predicted ones. Errors are those of the jets, since the particles of a jet are "
    "not independent."
)


def particles(run: RunContents, figures: FigureFolder) -> Section:
    """Give the metrics of each label, with the confusion matrix or the numbers of vertices."""
    title = "Labels of particles"
    if not run.particles:
        return Section(title, "")
    parts = [paragraph(_WORDS)]
    if run.table is not None:
        names = tuple(f"{sample.name}." for sample in run.particles)
        rows = {n: e for n, e in run.table.items() if is_of_target(n) and n.startswith(names)}
        parts.append(table(EvaluationTable(rows).target_rows()))
    drawn = "".join(_figure(sample, run.particle_weights, figures) for sample in run.particles)
    return Section(title, f'{"".join(parts)}<div class="figures">{drawn}</div>')


def _figure(sample: PredictedLabels, weights: Floats | None, figures: FigureFolder) -> str:
    stem = "".join(letter if letter.isalnum() else "_" for letter in sample.name)
    if not isinstance(sample, PredictedParticles):
        return figures.add(
            f"vertices_{stem}",
            vertex_number_figure(sample),
            f"Number of true, predicted and matched vertices of a jet, by {sample.name}. Bars show "
            "counting errors.",
        )
    assert sample.labels is not None
    known = sample.known
    labels = sample.labels[known]
    if len(np.unique(labels)) < 2:
        return ""
    of_particles = None if weights is None else np.maximum(weights, 0)[sample.jet[known]]
    scores = Scores.from_arrays(labels, sample.probabilities[known], sample.classes, of_particles)
    return figures.add(
        f"particles_{stem}",
        confusion_figure(scores, "true"),
        f"Classes of particles by {sample.name}. Each row adds up to 100 % of the particles of one "
        "true class; the diagonal is the efficiency.",
    )
