"""The parts of a report that say how far a score can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np

from pcloud.evaluation.calibration_file import CALIBRATION_FILE, read_calibration
from pcloud.evaluation.figures.reliability import reliability_figure
from pcloud.interpret.figures import course_figure, plane_figure, ranking_figure
from pcloud.report.blocks import Section, details, paragraph, table
from pcloud.report.figures import FigureFolder
from pcloud.report.run_folder import RunFolder
from pcloud.studies.taylor import TAYLOR_FILE, read_taylor
from pcloud.studies.uncertainty import UNCERTAINTY_FILE, read_uncertainty
from pcloud.uncertainty.figures import band_figure, keeping_figure, samples_figure, spread_figure

__all__ = ["calibration", "taylor", "uncertainty"]


def calibration(run: RunFolder, figures: FigureFolder) -> Section:
    """Draw the reliability diagram, and give what was fitted on the validation jets."""
    title = "Whether scores are probabilities"
    sample = run.scores
    if sample is None or sample.values.ndim == 1:
        return Section(title, "")
    stored = None
    if (run.path / CALIBRATION_FILE).exists():
        stored = read_calibration(run.path)
    predictions = {"uncalibrated": sample.values}
    if stored is not None:
        predictions[stored.method] = stored.map(sample.values)
    diagram = figures.add(
        "reliability",
        reliability_figure(sample.labels, predictions, classes=sample.classes),
        "Reliability. How often the prediction came true (up) against the probability it was "
        "given (across): on the dashed line a score can be taken at its word. Below, the "
        "distance to that line, and how many jets have such scores, logarithmic. Bars show "
        "binomial errors.",
    )
    body = f'<div class="figures">{diagram}</div>'
    if stored is None:
        advice = f"pcloud calibrate {run.path} fits a calibration on the validation jets."
        return Section(title, body + paragraph(advice, "note"))
    settings = {} if run.table is None else run.table.settings
    number = max(int(settings.get("num_bootstrap") or 0), 20)
    return Section(
        title,
        body
        + paragraph(
            f"Three maps were fitted on {stored.jets:,} validation jets; pcloud predict "
            f"--calibrated uses {stored.method} scaling ({stored.map.describe()}). On the test "
            "jets they do as follows. The expected calibration error (ECE) is biased upwards by "
            "counting noise; what a perfectly calibrated tagger with the same scores would show "
            "stands below it. An ECE well above that is a sign of miscalibration; how large it is "
            "says the RMS calibration error, from which the noise is subtracted."
        )
        + table(stored.comparison(sample, num_bootstrap=number))
        + paragraph(
            "Working points: thresholds on the uncalibrated score from the validation jets, which "
            "part of all jets should pass them, and which part of the test jets does. The first "
            "has the error of the validation jets, the second that of the test jets: compare the "
            "two with both."
        )
        + table(stored.thresholds(sample))
        + paragraph(
            "Conformal sets: all classes whose probability is not too small, the limit being "
            "set on the validation jets. The promise holds if those and the test jets are "
            "exchangeable."
        )
        + table(stored.coverage(sample)),
    )


_WAYS = {
    "ensemble": "the {members} members of the ensemble",
    "dropout": "{passes} passes with dropout switched on",
    "laplace": "{samples} draws of the last layer's weights from the Laplace approximation of "
    "their posterior given {training_jets} training jets",
    "variational": "{samples} draws of the last layer's weights from independent Gaussians, "
    "trained on {training_jets} training jets",
}


def uncertainty(run: RunFolder, figures: FigureFolder) -> Section:
    """Say how far several opinions on a jet differ, where, and what it is good for."""
    title = "How sure the tagger is"
    if not (run.path / UNCERTAINTY_FILE).exists():
        return Section(title, "")
    stored = read_uncertainty(run.path)
    way = _WAYS[stored.facts["method"]].format(**stored.facts)
    words = (
        f"Opinions are {way}. Total uncertainty is the entropy of their mean, in nats; the "
        "aleatoric part, the mean of their entropies, is what each of them leaves open; the rest, "
        "the epistemic part, is how far they differ."
    )
    drawn = figures.add(
        "uncertainty_samples",
        samples_figure(stored.samples),
        "Mean uncertainty of the test jets, of those taken right and wrong, and of test jets that "
        "were changed to be unlike those of the training.",
    )
    drawn += figures.add(
        "uncertainty_kept",
        keeping_figure(stored.jets, stored.labels),
        "Accuracy of the jets that are kept when the most uncertain are left out; dashed, all.",
    )
    drawn += figures.add(
        "uncertainty_spread",
        spread_figure(stored.jets, stored.labels, stored.classes),
        "Spread of the logit over the opinions against the mean score: median and central 68 % "
        "of the jets.",
    )
    if stored.roc is not None:
        drawn += figures.add(
            "uncertainty_roc",
            band_figure(stored.roc, stored.classes),
            "ROC curve of the mean score, and the band of the opinions' own curves: how far the "
            "tagger itself is uncertain, beside the counting errors of the test jets.",
        )
    body = paragraph(words) + table(stored.rows()) + f'<div class="figures">{drawn}</div>'
    return Section(title, body)


def taylor(run: RunFolder, figures: FigureFolder) -> Section:
    """Rank the Taylor coefficients, follow them over the epochs and map them."""
    title = "What the tagger looks at"
    if not (run.path / TAYLOR_FILE).exists():
        return Section(title, "")
    found = read_taylor(run.path)
    body = paragraph(
        f"Taylor coefficients of the response, mean absolute values over {found['jets']:,} test "
        "jets. An input is shifted for all particles of a jet together, by one standard deviation "
        "over the particles of the sample; a second order of two inputs says that the response to "
        "one depends on the other. Bars show statistical errors."
    )
    for i, (name, values) in enumerate(found["classes"].items()):
        ranking = ranking_figure(values["parts"]["all"])
        words = f"Coefficients of the probability of {name}, largest on top."
        drawn = figures.add(f"taylor_{i}", ranking, words)
        edges = np.linspace(-0.8, 0.8, len(values["map"]["values"]) + 1)
        most = values["map"]["input"]
        cells = np.array(values["map"]["values"], dtype=float)
        if np.isfinite(cells).any():
            drawn += figures.add(
                f"taylor_map_{i}",
                plane_figure(
                    cells,
                    (edges, edges),
                    xlabel=r"$\eta$ from the axis",
                    ylabel=r"$\phi$ from the axis",
                    label=f"mean |∂f / ∂ {most.replace('_', ' ')}|",
                ),
                f"Where in the jet the response to {most} of a single particle is large.",
            )
        if values["course"]:
            drawn += figures.add(
                f"taylor_course_{i}",
                course_figure(values["course"]),
                "The largest of them after each epoch: what is learned first, and what late.",
            )
        body += f'<div class="figures">{drawn}</div>' + _parts(values)
    return Section(title, body)


def _parts(values: dict[str, Any]) -> str:
    """Tables of the parts of the coefficients, folded."""
    together, alone = (values["parts"][part] for part in ("all", "alone"))
    rows = [["first order", "all particles together", "sum of absolute values"]]
    rows += [[name, str(together[name]), str(entry)] for name, entry in alone.items()]
    tables = table(rows)
    if "same" in values["parts"]:
        same, rest = (values["parts"][part] for part in ("same", "rest"))
        rows = [["second order", "on the same particle", "on two particles"]]
        rows += [[name, str(same[name]), str(entry)] for name, entry in rest.items()]
        tables += paragraph(f"Of {values['pair_jets']} jets:") + table(rows)
    return details("Coefficients by part", tables)
