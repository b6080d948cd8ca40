"""``pcloud calibrate``: maps from the scores of a run to probabilities."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from pcloud.cli.command import Command, Options
from pcloud.cli.options import add_network, add_run
from pcloud.cli.output import print_rows, say


def add_options(parser: ArgumentParser) -> None:
    """Which map."""
    add_run(parser)
    parser.add_argument(
        "--method",
        type=str,
        default="temperature",
        choices=["temperature", "vector", "isotonic"],
        help="Map that pcloud predict --calibrated uses; all are fitted and compared.",
    )
    add_network(parser)


def execute(options: Options) -> None:
    """Fit on validation jets, and print the calibration of scored test jets."""
    from pcloud.run import Run

    run = Run(options["run"])
    from pcloud.evaluation import read_scores
    from pcloud.run_files import CALIBRATION_FILE, SCORES_FILE

    network = {name: options[name] for name in ("checkpoint", "batch_size")}
    stored = run.calibrate(options["method"], **network)
    say(f"fitted on {stored.jets:,} validation jets: {stored.map.describe()}")
    if (run.path / SCORES_FILE).exists():
        sample = read_scores(run.path / SCORES_FILE)
        for rows in (
            stored.comparison(sample),
            stored.thresholds(sample),
            stored.coverage(sample),
        ):
            print_rows(rows)
        say(f"measured on {len(sample.labels):,} test jets")
    else:
        say(f"pcloud evaluate {run.path} scores the test jets, on which to measure it")
    say(f"written to {run.path / CALIBRATION_FILE}")


COMMAND = Command("calibrate", "Make scores probabilities.", add_options, execute)
