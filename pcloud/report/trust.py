"""The parts of a report that say how far a score can be trusted."""

from __future__ import annotations

from pcloud.evaluation.calibration_file import CALIBRATION_FILE, read_calibration
from pcloud.evaluation.figures.reliability import reliability_figure
from pcloud.report.blocks import Section, paragraph, table
from pcloud.report.figures import FigureFolder
from pcloud.report.run_folder import RunFolder

__all__ = ["calibration"]


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
            "stands below it, and only the excess counts."
        )
        + table(stored.comparison(sample, num_bootstrap=number))
        + paragraph(
            "Working points: thresholds on the uncalibrated score from the validation jets, and "
            "which part of the test jets passes them."
        )
        + table(stored.thresholds(sample))
        + paragraph(
            "Conformal sets: all classes whose probability is not too small, the limit being "
            "set on the validation jets. The promise holds if those and the test jets are "
            "exchangeable."
        )
        + table(stored.coverage(sample)),
    )
