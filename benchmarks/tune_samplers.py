"""Samplers of `pcloud tune` at equal cost: the best validation loss after the same number of epochs.

    python benchmarks/tune_samplers.py --trials 12 --seeds 0 1 2

Every sampler tunes a network on the two interlocking half circles. The cost is the number of trained
epochs, since pruned trials are shorter. The table gives the best loss after a quarter, half and all of
the cost that every sampler has spent; mean and standard deviation over seeds, of training and sampler.
The last column is the loss that further seeds reach with the best options, which no trial has chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcloud.studies.search_space import SearchSpace
from pcloud.studies.tune import SAMPLERS, tune
from pcloud.studies.tuning import Tuning

SPACE = {
    "lr": {"low": 1e-4, "high": 1.0, "log": True, "points": 4},
    "model_options.dropout": {"low": 0.0, "high": 0.6, "points": 3},
    "model_options.widths": {"choices": [[4], [32], [32, 32]]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=12, help="trials of each sampler")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a trial")
    parser.add_argument("--jets", type=int, default=500, help="number of training events")
    parser.add_argument("--out", type=Path, default=Path("runs/samplers"), help="folder")
    options = parser.parse_args()
    results = {
        sampler: [tuned(sampler, seed, options) for seed in options.seeds] for sampler in SAMPLERS
    }
    total = min(sum(t.epochs for t in found.trials) for runs in results.values() for found in runs)
    costs = sorted({max(options.epochs, round(total * part)) for part in (0.25, 0.5, 1.0)})
    print(f"| sampler | {' | '.join(f'{cost} epochs' for cost in costs)} | other seeds |")
    print("|---" * (len(costs) + 2) + "|")
    for sampler, runs in results.items():
        cells = [shown([best(found, cost) for found in runs]) for cost in costs]
        again = [value for found in runs for value in found.repeated["best"]]
        print(f"| {sampler} | {' | '.join(cells)} | {shown(again)} |")


def tuned(sampler: Any, seed: int, options: argparse.Namespace) -> Tuning:
    """Tune, or read what is there."""
    out = options.out / f"{sampler}-{seed}"
    training = {
        "data": "moons",
        "model": "mlp",
        "epochs": options.epochs,
        "max_jets": options.jets,
        "max_val_jets": 1000,
        "batch_size": 50,
        "seed": seed,
        "out": str(out),
    }
    space = SearchSpace.from_dict(SPACE)
    return tune(space, training, sampler=sampler, trials=options.trials, repeats=2)


def best(found: Tuning, cost: int) -> float:
    """Best loss of the trials that end within a number of epochs."""
    spent = np.cumsum([trial.epochs for trial in found.trials])
    return min(t.metric for t, epochs in zip(found.trials, spent, strict=True) if epochs <= cost)


def shown(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
