"""Section of the report on the targets that a network learned."""

from __future__ import annotations

from pcloud.evaluation import EvaluationTable
from pcloud.evaluation.figures.regression import (
    quantile_figure,
    residual_figure,
    resolution_figure,
    response_figure,
)
from pcloud.evaluation.regression import PredictedTarget, dependences
from pcloud.evaluation.table import is_of_target
from pcloud.report.blocks import Section, paragraph, table
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.studies.intervals import StoredIntervals

__all__ = ["regression"]


def regression(run: RunContents, figures: FigureFolder) -> Section:
    """Give the metrics of each target, with residuals, response, resolution and coverage."""
    title = "Predicted quantities"
    if not run.targets:
        return Section(title, "")
    parts = [
        paragraph(
            "Differences are predicted minus true values. The bias is their median, the resolution "
            "half the width of the central 68 %; the response is the ratio of predicted and true "
            "values. Errors are those of the test jets, from influence functions, of fractions "
            "binomial."
        )
    ]
    if run.table is not None:
        labels = tuple(f"{sample.name}." for sample in run.particles)
        parts.append(table(_rows(run.table, labels)))
    samples = [sample for sample in run.targets if isinstance(sample, PredictedTarget)]
    parts += [_figures(sample, figures) for sample in samples]
    stored = run.result(StoredIntervals)
    if stored is not None and not stored.intervals:
        parts.append(paragraph("No conformal intervals: some weights are negative.", "note"))
    elif stored is not None and samples:
        parts += [paragraph(_INTERVALS), table(stored.coverage(samples))]
    elif samples:
        advice = f"pcloud calibrate {run.path} fits conformal intervals on the validation jets."
        parts.append(paragraph(advice, "note"))
    return Section(title, "".join(parts))


_INTERVALS = (
    "Intervals: the fraction of the test jets whose true value is in the interval that the network "
    "predicts, and in its conformal interval, whose width is set on the validation jets in thirds of "
    "jet pT. The coverage of the second is guaranteed if validation and test jets are exchangeable."
)


def _rows(found: EvaluationTable, labels: tuple[str, ...]) -> list[list[str]]:
    """Rows of the table of metrics that belong to targets, and not to labels of particles."""
    of_targets = {n: e for n, e in found.items() if is_of_target(n) and not n.startswith(labels)}
    return EvaluationTable(of_targets).target_rows()


def _figures(sample: PredictedTarget, figures: FigureFolder) -> str:
    name = sample.name
    stem = "".join(letter if letter.isalnum() else "_" for letter in name)
    found = dependences(sample)
    drawn = figures.add(
        f"residual_{stem}",
        residual_figure(sample),
        f"Residuals. Distribution of predicted minus true {name}"
        + ("; below, the pulls." if sample.pulls is not None else ".")
        + " Bars show counting errors.",
    )
    word = "Response" if sample.response is not None else "Bias"
    if found:
        drawn += figures.add(
            f"response_{stem}",
            response_figure(found, name=name),
            f"{word} of {name} against pT, |η| and the number of particles of the jet.",
        )
        drawn += figures.add(
            f"resolution_{stem}",
            resolution_figure(found, name=name),
            f"Resolution of {name} against pT, |η| and the number of particles of the jet.",
        )
    if sample.probabilities:
        drawn += figures.add(
            f"quantiles_{stem}",
            quantile_figure(sample),
            f"Reliability of the quantiles of {name}: on the dashed line they are calibrated.",
        )
    return f'<div class="figures">{drawn}</div>'
