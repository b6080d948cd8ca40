"""Calibration, uncertainty and interpretation of an ensemble of taggers.

    python examples/trust.py [--members 3] [--epochs 6] [--max-jets 10000] [--out runs/trust]

The same from the command line: pcloud train --ensemble 3 --keep-checkpoints true, then pcloud
calibrate, pcloud uncertainty, pcloud explain (on a member) and pcloud report.
"""

import argparse

import numpy as np

import pcloud
from pcloud.evaluation import read_scores


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
    print(run.evaluate(), "\n")

    # Calibration maps, thresholds and conformal sets, from the validation jets.
    calibration = run.calibrate()
    test = read_scores(run.path / "scores.parquet")
    show(calibration.comparison(test))
    show(calibration.thresholds(test))
    show(calibration.coverage(test))

    # Uncertainty from the spread of the members; it is larger for out-of-distribution jets.
    uncertainty = run.uncertainty()
    print(uncertainty, "\n")
    certain = uncertainty.jets.total < np.median(uncertainty.jets.total)
    correct = uncertainty.jets.mean.argmax(axis=1) == uncertainty.labels
    accuracies = f"accuracy {correct.mean():.3f}, of the less uncertain half"
    print(f"{accuracies} {correct[certain].mean():.3f}\n")

    # Taylor coefficients: features and pairs of features that determine the score.
    member = run.members[0]
    taylor = member.explain("taylor", jets=options.explain_jets, pair_jets=2)
    for name, t in list(taylor.classes["top"].parts["all"].items())[:8]:
        print(f"<t_({name})> = {t}")
    print(f"\nreports: {run.report()} and {member.report()}")


if __name__ == "__main__":
    main()
