"""``pcloud calibrate``: calibrate the scores of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pcloud.cli.command import Command, Options
from pcloud.cli.options import NetworkOptions, ResultOptions, open_run
from pcloud.cli.output import print_rows, say, suggest

if TYPE_CHECKING:
    from pcloud.run import Run


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(ResultOptions):
    """Calibration."""

    method: Literal["temperature", "vector", "isotonic"] = "temperature"
    """Calibration map used by pcloud predict --calibrated; all three are fitted and compared."""


def execute(options: Options) -> None:
    """Fit the map to validation jets and print its effect on the scores of the test jets."""
    run = open_run(options)
    from pcloud.objectives.of_target import Regression
    from pcloud.run_files import CALIBRATION_FILE, INTERVALS_FILE, SCORES_FILE

    network = {name: options[name] for name in ("checkpoint", "batch_size")}
    stored = run.calibrate(options["method"], **network)
    say(f"fitted on {run.modality.number_of(stored.jets, 'validation')}{_map(stored)}")
    scores = run.stored(SCORES_FILE)
    has_intervals = any(isinstance(part, Regression) for part in run.objective)
    if scores.exists():
        if run.classes:
            _print_classes(run, stored, scores)
        if has_intervals:
            _print_targets(run, scores)
    else:
        say(
            f"pcloud evaluate {run.path} scores the test {run.modality.noun}, on which to measure it"
        )
    if run.classes:
        say(f"written to {run.out / CALIBRATION_FILE}")
    if has_intervals:
        say(f"written to {run.out / INTERVALS_FILE}")
    suggest("report" if scores.exists() else "evaluate", run.path)


def _map(stored: Any) -> str:
    """Description of the calibration map, if there is one."""
    return f": {stored.map.describe()}" if hasattr(stored, "map") else ""


def _print_classes(run: Run, stored: Any, scores: Path) -> None:
    from pcloud.evaluation import read_scores

    sample = replace(read_scores(scores), noun=run.modality.noun)
    for rows in (stored.comparison(sample), stored.thresholds(sample), stored.coverage(sample)):
        print_rows(rows)
    say(f"measured on {run.modality.number_of(len(sample.labels), 'test')}")


def _print_targets(run: Run, scores: Path) -> None:
    from pcloud.evaluation.regression import PredictedTarget
    from pcloud.objectives.columns import read_targets
    from pcloud.studies.intervals import StoredIntervals

    samples = [part for part in read_targets(scores) if isinstance(part, PredictedTarget)]
    stored = StoredIntervals.read(run.out)
    if not stored.intervals:
        say("no conformal intervals: some weights are negative")
        return
    print_rows(stored.coverage(samples))


COMMAND = Command("calibrate", "Calibrate scores.", execute, (CalibrateOptions, NetworkOptions))
