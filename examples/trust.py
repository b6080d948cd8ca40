"""Calibration, uncertainty and interpretation of an ensemble of taggers.

    python examples/trust.py [--members 3] [--epochs 6] [--max-jets 10000] [--out runs/trust]

The same from the command line: pcloud train --ensemble 3 --keep-checkpoints true, then pcloud
calibrate, pcloud uncertainty, pcloud explain (on a member) and pcloud report.
"""

import argparse

import numpy as np

import pcloud
from pcloud.evaluation import read_scores
from pcloud.report import write_report
from pcloud.studies.calibrate import calibrate_run
from pcloud.studies.evaluate import evaluate_run
from pcloud.studies.taylor import explain_run
from pcloud.studies.uncertainty import measure_uncertainty


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="pfn", help="model to train")
    parser.add_argument("--members", type=int, default=3, help="members of the ensemble")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each member")
    parser.add_argument("--max-jets", type=int, default=10_000, help="training jets")
    parser.add_argument(
        "--explain-jets", type=int, default=300, help="jets for the Taylor coefficients"
    )
    parser.add_argument("--out", default="runs/trust", help="folder of the ensemble")
    return parser.parse_args()


def show(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)))
    print()


def main() -> None:
    options = arguments()
    run = pcloud.train(
        data="simulated",
        model=options.model,
        out=options.out,
        ensemble=options.members,
        epochs=options.epochs,
        max_jets=options.max_jets,
        max_val_jets=max(options.max_jets // 4, 100),
        batch_size=256,
        lr=3e-3,
        seed=1,
        keep_checkpoints=True,
    )
    print(evaluate_run(run)[0], "\n")

    # Calibration maps, thresholds and conformal sets, from the validation jets.
    calibration = calibrate_run(run)
    test = read_scores(run.path / "scores.parquet")
    show(calibration.comparison(test))
    show(calibration.thresholds(test))
    show(calibration.coverage(test))

    # Uncertainty from the spread of the members; it is larger for out-of-distribution jets.
    uncertainty = measure_uncertainty(run)
    show(uncertainty.rows())
    least = uncertainty.jets.total < np.median(uncertainty.jets.total)
    right = uncertainty.jets.mean.argmax(axis=1) == uncertainty.labels
    print(f"accuracy {right.mean():.3f}, of the less uncertain half {right[least].mean():.3f}\n")

    # Taylor coefficients: features and pairs of features that determine the score.
    member = run.members[0]
    found = explain_run(member, jets=options.explain_jets, pair_jets=2)
    for name, t in list(found["classes"]["top"]["parts"]["all"].items())[:8]:
        print(f"<t_({name})> = {t}")
    print(f"\nreports: {write_report(run.path)} and {write_report(member.path)}")


if __name__ == "__main__":
    main()
