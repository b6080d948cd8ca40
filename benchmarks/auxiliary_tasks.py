"""Gain of the auxiliary tasks of GN2 for the flavour, with its error.

    python shared/tools/make_experiment_files.py FOLDER --jets 30000
    python benchmarks/auxiliary_tasks.py --data FOLDER/ftag.h5 --out runs/auxiliary

Trains GN2 with several seeds on the flavour alone, and on the flavour, the origins of the tracks and their
vertices, with the same jets, recipe and initial weights of the same seed. Prints accuracy, AUC (mean over
classes against the rest) and mean log loss of the flavour on the same test jets, and the paired differences.
The first error of a difference is that of the mean over seeds (Student's t), the second is due to the number of
test jets: jets are resampled with all of their scores. Finished trainings are not repeated, and interrupted
ones resume.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import pcloud
from pcloud.evaluation import Measured, Scores, read_scores

RESAMPLINGS = 200
METRICS = ("accuracy", "AUC", "log loss")
TASKS = {
    "flavour": ["class"],
    "flavour, origins, vertices": ["class", "origin:classes", "vertex:pairs"],
}
ORIGINS = {
    "pileup": 0,
    "fake": 1,
    "primary": 2,
    "from_b": 3,
    "from_c": 5,
    "from_tau": 6,
    "secondary": 7,
}
SCHEMA = {
    "p4": {name: f"tracks/{name}" for name in ("pt", "eta", "phi")},
    "mask": "tracks/valid",
    "unit": "MeV",
    "particle": {"d0": "tracks/d0", "z0": "tracks/z0SinTheta", "q_over_p": "tracks/qOverP"},
    "jet": {"jet_pt": "jets/pt_btagJes", "jet_eta": "jets/eta_btagJes"},
    "label": "jets/flavour_label",
    "classes": ["b", "c", "light", "tau"],
    "event": "jets/eventNumber",
    "particle_labels": {
        "origin": {"value": "tracks/ftagTruthOriginLabel", "classes": ORIGINS},
        "vertex": "tracks/ftagTruthVertexIndex",
    },
}
CLIPPED = [
    {"name": "d0", "low": -5.0, "high": 5.0},
    {"name": "z0", "low": -5.0, "high": 5.0},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="file (d) of make_experiment_files.py")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/auxiliary"), help="folder of the runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="seeds")
    parser.add_argument("--max-jets", type=int, help="training jets; by default all")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--width", type=int, default=64, help="width of the encoder")
    parser.add_argument("--layers", type=int, default=3, help="blocks of the encoder")
    options = parser.parse_args()
    scores = {
        name: [_scores(options, name, objective, seed) for seed in options.seeds]
        for name, objective in TASKS.items()
    }
    values = {name: np.array([_metrics(s) for s in runs]) for name, runs in scores.items()}
    first, second = TASKS
    spread = _resampled(scores[first], scores[second])
    rows = []
    print(f"{'':28}" + "".join(f"{metric:>32}" for metric in METRICS))
    for name, found in values.items():
        print(f"{name:28}" + "".join(f"{_over_seeds(column)!s:>32}" for column in found.T))
    line = f"{'difference':28}"
    for i, metric in enumerate(METRICS):
        difference = _over_seeds(values[second][:, i] - values[first][:, i])
        line += f"{f'{difference} ± {spread[i]:.2g}':>32}"
        rows.append({"metric": metric, "test_error": float(spread[i])} | difference.to_dict())
    print(line)
    (options.out / "auxiliary_tasks.json").write_text(json.dumps(rows, indent=2))


def _scores(options: argparse.Namespace, name: str, objective: list[str], seed: int) -> Scores:
    """Scores of the test jets of a training."""
    weights = [1.0, 0.5, 1.5] if len(objective) > 1 else "equal"
    out = options.out / f"{'tasks' if len(objective) > 1 else 'flavour'}_{seed}"
    run = pcloud.train(
        data=options.data,
        schema=SCHEMA,
        recipe="gn2",
        objective=objective,
        objective_weights=weights,
        features=["kin", *CLIPPED],
        jet_features=["log(jet_pt)", "jet_eta"],
        model_options={"width": options.width, "num_layers": options.layers},
        max_jets=options.max_jets,
        epochs=options.epochs,
        batch_size=options.batch_size,
        monitor="val_loss" if len(objective) == 1 else "val_loss_class",
        seed=seed,
        out=out,
    )
    if not (run.path / "scores.parquet").exists():
        run.evaluate(num_bootstrap=0)
    return read_scores(run.path / "scores.parquet")


def _metrics(scores: Scores, jets: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
    """Accuracy, AUC and log loss of some of the jets."""
    chosen = np.arange(len(scores.labels)) if jets is None else jets
    labels, p = scores.labels[chosen], scores.values[chosen]
    present = [c for c in range(p.shape[1]) if 0 < (labels == c).sum() < len(labels)]
    auc = np.mean([roc_auc_score(labels == c, p[:, c]) for c in present])
    loss = -np.log(p[np.arange(len(p)), labels].clip(1e-12)).mean()
    return np.array([(p.argmax(axis=1) == labels).mean(), auc, loss])


def _over_seeds(values: NDArray[np.float64]) -> Measured:
    """Mean over seeds with its error."""
    return Measured.mean(values)


def _resampled(first: list[Scores], second: list[Scores]) -> NDArray[np.float64]:
    """Error of the mean differences due to the number of test jets."""
    rng = np.random.default_rng(0)
    number = len(first[0].labels)
    found = []
    for _ in range(RESAMPLINGS):
        jets = rng.integers(number, size=number)
        pairs = zip(first, second, strict=True)
        found.append(np.mean([_metrics(b, jets) - _metrics(a, jets) for a, b in pairs], axis=0))
    return np.std(found, axis=0, ddof=1)


if __name__ == "__main__":
    main()
