"""Gain of pretraining without labels, with its error, for few labelled jets.

    python benchmarks/pretraining.py --out runs/pretraining

Pretrains a network with each seed on all training jets of the embedded sample, without their labels
(`pcloud pretrain --task masked`). Then trains it on 1, 3, 10 and 30 % of the labelled jets, which are
others for each seed, from random weights and from the pretrained ones, with the same options. As many
labelled jets, at most 2000, choose the best epoch. Prints the AUC on the 10 000 test jets and the paired
differences. The first error is that of the mean over seeds (Student's t), the second is due to the number of
test jets: jets are resampled with all of their scores. Numbers, table and figure (pretraining.json, .md, .png)
are written to the folder. Finished trainings are not repeated, and interrupted ones resume; with --minutes
the command stops after that time, before the next training.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import pcloud
from pcloud.evaluation import Measured, read_scores

RESAMPLINGS = 200
NUM_JETS = 36_000  # training jets of the sample
MAX_VAL_JETS = 2_000
EPOCHS = (8, 60)  # least and largest number of a training
OPTIONS: dict[str, Any] = {
    "optimizer": "adamw",
    "schedule": "one_cycle",
    "lr": 1e-3,
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "precision": "float32",
}
ARMS = ("from scratch", "pretrained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--model", default="pfn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--percent", type=float, nargs="+", default=[1, 3, 10, 30])
    parser.add_argument("--epochs", type=int, default=12, help="epochs of the pretraining")
    parser.add_argument("--jets-seen", type=int, default=60_000, help="of a training, with repeats")
    parser.add_argument("--minutes", type=float, default=np.inf, help="time for new trainings")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    scores: dict[tuple[float, int, str], NDArray[np.float64]] = {}
    labels = None
    for seed in options.seeds:
        for percent in options.percent:
            for arm in ARMS:
                if time.monotonic() > end:
                    sys.exit("the time is over: the same command continues")
                read = read_scores(_training(options, percent, seed, arm) / "scores.parquet")
                labels = read.labels
                scores[percent, seed, arm] = read.values[:, 1]
    assert labels is not None
    rows = [_row(scores, labels, percent, options.seeds) for percent in options.percent]
    table = _table(rows)
    print(table)
    (options.out / "pretraining.md").write_text(table)
    found = [{name: _plain(value) for name, value in row.items()} for row in rows]
    (options.out / "pretraining.json").write_text(json.dumps(found, indent=2))
    _figure(rows, options.out / "pretraining.png")


def _pretraining(options: argparse.Namespace, seed: int) -> Path:
    """Folder of the pretraining with a seed."""
    run = pcloud.train(
        data="simulated",
        model=options.model,
        objective="masked",
        max_val_jets=MAX_VAL_JETS,
        epochs=options.epochs,
        batch_size=128,
        seed=seed,
        out=options.out / f"pretraining_{seed}",
        **OPTIONS,
    )
    return run.path


def _training(options: argparse.Namespace, percent: float, seed: int, arm: str) -> Path:
    """Folder of a training with scores of the test jets."""
    number = round(percent / 100 * NUM_JETS)
    start = {}
    if arm == ARMS[1]:
        start = {"init_from": str(_pretraining(options, seed))}
    run = pcloud.train(
        data="simulated",
        model=options.model,
        max_jets=number,
        max_val_jets=min(number, MAX_VAL_JETS),
        epochs=int(np.clip(options.jets_seen / number, *EPOCHS)),
        batch_size=32,
        seed=seed,
        split_seed=seed,
        out=options.out / f"{arm.replace(' ', '_')}_{percent:g}_{seed}",
        **OPTIONS,
        **start,
    )
    if not (run.path / "scores.parquet").exists():
        run.evaluate(num_bootstrap=0)
    return run.path


def _row(
    scores: dict[tuple[float, int, str], NDArray[np.float64]],
    labels: NDArray[np.int64],
    percent: float,
    seeds: list[int],
) -> dict[str, Any]:
    """AUC of both arms and their difference for a fraction of the labels."""
    values = np.array([[scores[percent, s, arm] for s in seeds] for arm in ARMS])  # (2, S, B)
    found = _areas(values, labels)
    rng = np.random.default_rng(0)
    again = []
    for _ in range(RESAMPLINGS):
        jets = rng.integers(len(labels), size=len(labels))
        again.append(_areas(values[:, :, jets], labels[jets]).mean(axis=1))
    spread = np.array(again)
    row: dict[str, Any] = {"percent": percent, "jets": round(percent / 100 * NUM_JETS)}
    for i, arm in enumerate(ARMS):
        row[arm] = Measured.mean(found[i]), float(spread[:, i].std(ddof=1))
    difference = spread[:, 1] - spread[:, 0]
    row["difference"] = Measured.mean(found[1] - found[0]), float(difference.std(ddof=1))
    return row


def _areas(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """AUC (2, S) of scores (2, S, B)."""
    return np.array([[roc_auc_score(labels, s) for s in arm] for arm in values])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return value[0].to_dict() | {"test_error": value[1]}
    return value


def _table(rows: list[dict[str, Any]]) -> str:
    """Markdown table, errors from seeds and from test jets."""
    lines = ["| labels | jets | from scratch | pretrained | difference |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [
            f"{row[name][0].value:.4f} ± {row[name][0].error:.4f} ± {row[name][1]:.4f}"
            for name in (*ARMS, "difference")
        ]
        lines.append(f"| {row['percent']:g} % | {row['jets']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figure(rows: list[dict[str, Any]], path: Path) -> None:
    """AUC against the number of labelled jets; bars show the error from the seeds."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    number = np.array([row["jets"] for row in rows])
    for arm, marker in zip(ARMS, "os", strict=True):
        values = [row[arm][0] for row in rows]
        bars = np.abs([[v.value - v.low for v in values], [v.high - v.value for v in values]])
        ax.errorbar(number, [v.value for v in values], bars, marker=marker, capsize=3, label=arm)
    ax.set(xscale="log", xlabel="labelled jets", ylabel="AUC")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
