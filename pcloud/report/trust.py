"""Sections of the report on calibration, uncertainty and Taylor coefficients."""

from __future__ import annotations

import numpy as np

from pcloud.evaluation.calibration_file import StoredCalibration
from pcloud.evaluation.figures.reliability import reliability_figure
from pcloud.evaluation.scores import Scores
from pcloud.interpret.figures import course_figure, plane_figure, ranking_figure
from pcloud.report.blocks import Section, details, paragraph, table
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.studies.taylor import ClassExpansion, StoredTaylor
from pcloud.studies.uncertainty import StoredUncertainty
from pcloud.text import for_figure
from pcloud.uncertainty.figures import band_figure, keeping_figure, samples_figure, spread_figure
from pcloud.words import number_of

__all__ = ["calibration", "taylor", "uncertainty"]

_NUMBERS = {2: "Two", 3: "Three"}
_MAX_BOOTSTRAP = 1000  # resamplings of the report, whatever an evaluation has had


def calibration(run: RunContents, figures: FigureFolder) -> Section:
    """Draw the reliability diagram, and give the calibration fitted on the validation jets."""
    title = "Calibration"
    sample = run.scores
    if sample is None or sample.values.ndim == 1 or run.detects_anomalies:
        return Section(title, "")
    stored = run.result(StoredCalibration)
    predictions = {"uncalibrated": sample.values}
    if stored is not None:
        predictions[stored.method] = stored.map(sample.values)
    diagram = figures.add(
        "reliability",
        reliability_figure(
            sample.labels, predictions, classes=sample.classes, weights=sample.weights
        ),
        "Reliability diagram. Fraction of correct predictions (vertical) against their predicted "
        "probability (horizontal): on the dashed line the tagger is calibrated. Below, the "
        "distance to that line, and the number of jets, logarithmic. Bars show binomial errors.",
    )
    body = f'<div class="figures">{diagram}</div>'
    if stored is None:
        advice = f"pcloud calibrate {run.path} fits a calibration on the validation jets."
        return Section(title, body + paragraph(advice, "note"))
    settings = {} if run.table is None else run.table.settings
    number = min(max(settings.get("num_bootstrap") or 0, 20), _MAX_BOOTSTRAP)
    return Section(
        title,
        body
        + paragraph(
            f"{_NUMBERS.get(len(stored.maps), len(stored.maps))} maps were fitted to "
            f"{number_of(stored.jets, 'validation jet')}; pcloud predict "
            f"--calibrated uses {stored.method} scaling ({stored.map.describe()}). On the test "
            "jets they perform as follows. The expected calibration error (ECE) is biased upwards by "
            "counting noise; the value of a perfectly calibrated tagger with the same scores stands "
            "below it. An ECE well above that is a sign of miscalibration; its size is the RMS "
            "calibration error, from which the noise is subtracted."
        )
        + table(stored.comparison(sample, num_bootstrap=number))
        + paragraph(
            "Working points: thresholds on the uncalibrated score from the validation jets, the "
            "fraction of jets expected to pass them, and the fraction of the test jets that "
            "passes. The first has the error of the validation jets, the second that of the test "
            "jets: compare the two with both."
        )
        + table(stored.thresholds(sample))
        + _conformal_sets(stored, sample),
    )


def _conformal_sets(stored: StoredCalibration, sample: Scores) -> str:
    if not stored.sets:
        return paragraph(
            "No isotonic map and no conformal sets: some weights are negative.", "note"
        )
    return paragraph(
        "Conformal sets: all classes whose probability is above a limit set on the validation "
        "jets. The coverage is guaranteed if validation and test jets are exchangeable."
    ) + table(stored.coverage(sample))


def uncertainty(run: RunContents, figures: FigureFolder) -> Section:
    """Draw the spread of predictive samples, and the accuracy when uncertain jets are removed."""
    title = "Uncertainty of the scores"
    stored = run.result(StoredUncertainty)
    if stored is None:
        return Section(title, "")
    words = (
        f"The predictive samples are {stored.source}. The total uncertainty is the entropy of their mean, "
        "in nats. The aleatoric part is the mean of their entropies; the epistemic part, the "
        "rest, measures how much they differ."
    )
    drawn = figures.add(
        "uncertainty_samples",
        samples_figure(stored.samples),
        "Mean uncertainty of the test jets, of correctly classified and misclassified ones, and "
        "of modified test jets, which are out of distribution.",
    )
    drawn += figures.add(
        "uncertainty_kept",
        keeping_figure(stored.jets, stored.labels),
        "Accuracy of the remaining jets when the most uncertain ones are removed; dashed, all jets.",
    )
    drawn += figures.add(
        "uncertainty_spread",
        spread_figure(stored.jets, stored.labels, stored.classes),
        "Spread of the logit over the predictive samples against the mean score: median and "
        "central 68 % of the jets.",
    )
    if stored.roc is not None:
        drawn += figures.add(
            "uncertainty_roc",
            band_figure(stored.roc, stored.classes),
            "ROC curve of the mean score, and the band of the curves of the predictive samples: the "
            "uncertainty of the tagger itself, without the counting errors of the test jets.",
        )
    body = paragraph(words) + table(stored.rows()) + f'<div class="figures">{drawn}</div>'
    return Section(title, body)


def taylor(run: RunContents, figures: FigureFolder) -> Section:
    """Rank the Taylor coefficients, follow them over the epochs and map them."""
    title = "Taylor coefficients"
    stored = run.result(StoredTaylor)
    if stored is None:
        return Section(title, "")
    if stored.variables == "columns":
        unit = "events. The unit of a column is its standard deviation in the training events."
    else:
        unit = (
            "jets. An input is shifted for all particles of a jet together, by one standard "
            "deviation over the particles of the sample."
        )
    body = paragraph(
        f"Taylor coefficients of the response, mean absolute values over {stored.jets:,} test "
        f"{unit} A second-order coefficient of two inputs means that the response to one depends on "
        "the other. Bars show statistical errors."
    )
    for i, (name, expansion) in enumerate(stored.classes.items()):
        ranking = ranking_figure(expansion.parts["all"])
        words = f"Coefficients of the probability of {name}, largest on top."
        drawn = figures.add(f"taylor_{i}", ranking, words)
        cells, most = expansion.map, expansion.map_input
        if cells is not None and np.isfinite(cells).any():
            edges = np.linspace(-0.8, 0.8, len(cells) + 1)
            drawn += figures.add(
                f"taylor_map_{i}",
                plane_figure(
                    cells,
                    (edges, edges),
                    xlabel=r"$\eta$ from the axis",
                    ylabel=r"$\phi$ from the axis",
                    label=f"mean |∂f / ∂ {for_figure(most.replace('_', ' '))}|",
                ),
                f"Mean absolute response to {most} of a single particle, by its place in the jet.",
            )
        if expansion.course:
            drawn += figures.add(
                f"taylor_course_{i}",
                course_figure(expansion.course),
                "The largest coefficients after each epoch, in the order in which they are learned.",
            )
        parts = _parts(expansion) if "alone" in expansion.parts else ""
        body += f'<div class="figures">{drawn}</div>' + parts
    return Section(title, body)


def _parts(expansion: ClassExpansion) -> str:
    """Tables of the parts of the coefficients, folded."""
    together, alone = (expansion.parts[part] for part in ("all", "alone"))
    rows = [["first order", "all particles together", "sum of absolute values"]]
    rows += [[name, str(together[name]), str(entry)] for name, entry in alone.items()]
    tables = table(rows)
    if "same" in expansion.parts:
        same, rest = (expansion.parts[part] for part in ("same", "rest"))
        rows = [["second order", "on the same particle", "on two particles"]]
        rows += [[name, str(same[name]), str(entry)] for name, entry in rest.items()]
        tables += paragraph(f"For {number_of(expansion.pair_jets, 'jet')}:") + table(rows)
    return details("Coefficients by part", tables)
