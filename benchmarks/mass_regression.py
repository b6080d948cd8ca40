"""Resolution of a learned jet mass, and coverage of its intervals, on the embedded sample.

    python benchmarks/mass_regression.py --out runs/mass

Trains a network on the mass of the jet of stable particles before the detector, with the mass of the
constituents among its inputs, as by

    pcloud train --data simulated --model pfn --objective mass:quantile --jet-features jet_mass --out runs/mass

Prints half the width of the central 68 % of predicted (or reconstructed) minus true mass on the 10 000 test
jets, the paired change with its error from 500 bootstraps of the jets, and the coverage of the conformal 68 %
and 95 % intervals that are fitted on the 5 000 validation jets, in total and in thirds of jet pT. A finished
training is not repeated, and an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

import pcloud
from pcloud.evaluation.regression import PredictedTarget
from pcloud.objectives.columns import read_targets
from pcloud.studies.intervals import read_intervals

RESAMPLINGS = 500
CENTRAL = (0.16, 0.84)
THIRDS = ("low pT", "middle pT", "high pT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/mass"))
    parser.add_argument("--model", default="pfn")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-jets", type=int, help="training jets; by default all")
    options = parser.parse_args()
    run = pcloud.train(
        data="simulated",
        model=options.model,
        objective="mass:quantile",
        jet_features=["jet_mass"],
        max_jets=options.max_jets,
        optimizer="adamw",
        schedule="one_cycle",
        lr=1e-3,
        weight_decay=0.01,
        batch_size=64,
        gradient_clip=1.0,
        epochs=options.epochs,
        seed=options.seed,
        out=options.out / f"{options.model}_{options.seed}",
    )
    if not (run.path / "scores.parquet").exists():
        run.evaluate()
    run.calibrate()
    (sample,) = read_targets(run.path / "scores.parquet")
    assert isinstance(sample, PredictedTarget)
    jets = pcloud.load_dataset("simulated", "test")
    reconstructed = np.asarray(ak.sum(jets.p4, axis=1).mass)
    labels = np.asarray(jets.label)
    found = {
        "resolution": _resolutions(sample, reconstructed, labels, jets.attrs["classes"]),
        "coverage": _coverages(run, sample),
    }
    (options.out / "mass_regression.json").write_text(json.dumps(found, indent=2))


def _resolutions(
    sample: PredictedTarget,
    reconstructed: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: list[str],
) -> dict[str, Any]:
    """Resolutions of both masses in GeV, and their ratio with its error."""
    truth = np.asarray(sample.truth, dtype=np.float64)
    predicted = np.asarray(sample.prediction.mean, dtype=np.float64)
    known = np.isfinite(truth)
    rng = np.random.default_rng(0)
    found = {}
    print(f"{'':10}{'jets':>8}{'reconstructed':>16}{'learned':>12}{'ratio':>18}")
    for name, mask in (
        ("all", known),
        *((c, known & (labels == i)) for i, c in enumerate(classes)),
    ):
        errors = np.stack([(v - truth)[mask] for v in (reconstructed, predicted)])
        number = errors.shape[1]
        again = np.array(
            [_half_width(errors[:, rng.integers(number, size=number)]) for _ in range(RESAMPLINGS)]
        )
        before, after = _half_width(errors)
        spread = again.std(axis=0, ddof=1)
        ratio_error = (again[:, 1] / again[:, 0]).std(ddof=1)
        found[name] = {
            "jets": number,
            "reconstructed": [before, spread[0]],
            "learned": [after, spread[1]],
            "ratio": [after / before, ratio_error],
        }
        print(
            f"{name:10}{number:8,}{f'{before:.2f} ± {spread[0]:.2f}':>16}"
            f"{f'{after:.2f} ± {spread[1]:.2f}':>12}{f'{after / before:.3f} ± {ratio_error:.3f}':>18}"
        )
    return found


def _half_width(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the width of the central 68 % of each row."""
    low, high = np.quantile(errors, CENTRAL, axis=-1)
    return (high - low) / 2


def _coverages(run: pcloud.Run, sample: PredictedTarget) -> dict[str, Any]:
    """Coverage of the conformal intervals, in total and in thirds of pT."""
    pt = sample.observables["pt"]
    third = np.searchsorted(np.quantile(pt, [1 / 3, 2 / 3]), pt, side="right")
    known = np.isfinite(np.asarray(sample.truth))
    found = {}
    for interval in read_intervals(run).intervals:
        covered = np.asarray(interval.covered(sample))
        parts = {"all": known, **{name: known & (third == i) for i, name in enumerate(THIRDS)}}
        found[f"{interval.level:g}"] = {name: float(covered[m].mean()) for name, m in parts.items()}
        print(
            f"coverage of {interval.level:.0%} intervals: "
            + ", ".join(f"{name} {covered[m].mean():.3f}" for name, m in parts.items())
        )
    return found


if __name__ == "__main__":
    main()
