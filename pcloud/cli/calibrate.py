"""``pcloud calibrate``: calibrate the scores of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pcloud.cli.command import Command, Options
from pcloud.cli.options import NetworkOptions, ResultOptions, open_run
from pcloud.cli.output import print_rows, say
from pcloud.words import number_of


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(ResultOptions):
    """Calibration."""

    method: Literal["temperature", "vector", "isotonic"] = "temperature"
    """Calibration map used by pcloud predict --calibrated; all three are fitted and compared."""


def execute(options: Options) -> None:
    """Fit the map to validation jets and print its effect on the scores of the test jets."""
    run = open_run(options)
    from pcloud.evaluation import read_scores
    from pcloud.run_files import CALIBRATION_FILE, SCORES_FILE

    network = {name: options[name] for name in ("checkpoint", "batch_size")}
    stored = run.calibrate(options["method"], **network)
    say(f"fitted on {number_of(stored.jets, 'validation jet')}: {stored.map.describe()}")
    scores = run.stored(SCORES_FILE)
    if scores.exists():
        sample = read_scores(scores)
        for rows in (
            stored.comparison(sample),
            stored.thresholds(sample),
            stored.coverage(sample),
        ):
            print_rows(rows)
        say(f"measured on {number_of(len(sample.labels), 'test jet')}")
    else:
        say(f"pcloud evaluate {run.path} scores the test jets, on which to measure it")
    say(f"written to {run.out / CALIBRATION_FILE}")


COMMAND = Command("calibrate", "Calibrate scores.", execute, (CalibrateOptions, NetworkOptions))
