"""Front of accuracy against cost: architectures in three sizes, on the same jets and budget.

    pcloud simulate --jets 100000 --seed 77 -o test.parquet
    python benchmarks/pareto.py --out runs/pareto --test test.parquet --minutes 60

Trains each architecture in three sizes on the same jets of the embedded sample, with the same options and number
of epochs, and boosted trees on observables; scores the same test jets; measures the time of a jet in training on
one thread, and counts the operations of a mean jet, with neighbour search and clustering. The front has the
models that no cheaper one exceeds in AUC. Further seeds (--front-seeds) are trained for models near the front,
at most --near below it. Numbers (pareto.json), a table with paired differences of AUC to the best cheaper model
(pareto.md) and two figures (pareto_time.png, pareto_flop.png) are updated after every training. With
--minutes the command stops after that time; it continues when it is started again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import awkward as ak
import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from torch.nn import functional as F

import pcloud
from pcloud.evaluation.ranking import Ranking
from pcloud.io import FlatJets
from pcloud.models.flops import flops_per_jet
from pcloud.observables import jet_observables
from pcloud.training.config import TrainConfig
from pcloud.training.data import load_splits

TREES = "trees"
OPTIONS: dict[str, Any] = {
    "optimizer": "adamw",
    "schedule": "one_cycle",
    "lr": 1e-3,
    "weight_decay": 0.01,
    "batch_size": 64,
    "gradient_clip": 1.0,
    "precision": "float32",
}
MODELS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "hl_mlp": ("hl_mlp", [{"widths": [w, w]} for w in (16, 64, 256)]),
    "EFN": ("efn", [{"phi_widths": [w, w, w], "head_widths": [w, w]} for w in (32, 96, 192)]),
    "PFN": ("pfn", [{"phi_widths": [w, w, w], "head_widths": [w, w]} for w in (32, 96, 192)]),
    "P-CNN": ("pcnn", [{"width": w, "stage_widths": [[2 * w] * 2, [4 * w]]} for w in (8, 16, 32)]),
    "GRU": ("gru", [{"width": w, "head_widths": [w]} for w in (32, 64, 128)]),
    "ParticleNet": (
        "particlenet",
        [
            {"k": 4, "widths": [[16, 16], [32, 32]], "head_widths": [32]},
            {"k": 7, "widths": [[32] * 3, [64] * 3], "head_widths": [128]},
            {"k": 12, "widths": [[48] * 3, [96] * 3, [128] * 3], "head_widths": [128]},
        ],
    ),
    "GN2": (
        "gn2",
        [
            {"width": w, "dense_width": 2 * w, "num_layers": n, "num_heads": 4, "particle_width": w}
            for w, n in ((24, 2), (48, 3), (96, 4))
        ],
    ),
    "ParT": (
        "part",
        [
            {
                "embed_widths": [w, w],
                "pair_widths": [16, 16],
                "num_heads": 4,
                "num_layers": n,
                "num_class_layers": 1,
            }
            for w, n in ((24, 2), (48, 3), (64, 4))
        ],
    ),
    "L-GATr-slim": (
        "lgatr_slim",
        [
            {"num_layers": n, "vector_width": v, "scalar_width": s, "num_heads": 4}
            for n, v, s in ((2, 4, 16), (3, 8, 24), (4, 16, 48))
        ],
    ),
    "LorentzNet": ("lorentznet", [{"width": w, "num_layers": n} for w, n in ((16, 2), (32, 3))]),
}
TIMED_JETS = 64
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/pareto"))
    parser.add_argument("--test", help="file of test jets; by default those of the sample")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--max-jets", type=int, default=10_000, help="training jets")
    parser.add_argument("--max-test-jets", type=int, help="test jets; by default all")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--front-seeds", type=int, default=3, help="seeds near the front")
    parser.add_argument("--near", type=float, default=0.001, help="AUC below the front")
    parser.add_argument("--minutes", type=float, default=np.inf, help="time for trainings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    test = pcloud.read_jets(options.test) if options.test else None
    if test is None:
        test = pcloud.load_dataset("simulated", "test")
    test = test[: options.max_test_jets]
    labels = np.asarray(test.label)
    for seed in range(1, options.front_seeds + 1):
        costs = {name: _cost(options, name) for name in _names(options)}
        near = None if seed == 1 else _near_front(options, labels, costs)
        for name in costs:
            if near is not None and name not in near:
                continue
            if time.monotonic() > end:
                print("the time is over: the same command continues")
                return
            _scores(options, name, seed, test)
            _write(options, labels, costs)
    print((options.out / "pareto.md").read_text(encoding="utf-8"))


def _names(options: argparse.Namespace) -> list[str]:
    """Names of all models, the cheap ones first."""
    sizes = range(max(len(sizes) for _, sizes in MODELS.values()))
    found = [f"{m} {i + 1}" for i in sizes for m in options.models if i < len(MODELS[m][1])]
    return [TREES, *found]


def _cost(options: argparse.Namespace, name: str) -> dict[str, float]:
    """Milliseconds of a jet in training on one thread, MFLOP and parameters; trees have no FLOP."""
    path = options.out / "costs.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if name not in known:
        known[name] = _measured_cost(name)
        path.write_text(json.dumps(known, indent=1))
    return known[name]


def _measured_cost(name: str) -> dict[str, float]:
    jets = pcloud.load_dataset("simulated", "test")[:TIMED_JETS]
    if name == TREES:
        sample = FlatJets.from_awkward(jets)
        jet_observables(sample)
        start = time.process_time()
        jet_observables(sample)
        return {"ms": 1e3 * (time.process_time() - start) / TIMED_JETS, "mflop": np.nan}
    model = _network(name)
    (batch,) = pcloud.JetLoader(pcloud.JetDataset(jets), batch_size=TIMED_JETS)
    times = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        model.train().zero_grad()
        F.cross_entropy(model(batch.x, batch.p4, batch.batch), batch.y).backward()
        times.append(time.process_time() - start)
    return {
        "ms": 1e3 * float(np.median(times[1:])) / TIMED_JETS,
        "mflop": flops_per_jet(model) / 1e6,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _network(name: str) -> torch.nn.Module:
    family, _, size = name.rpartition(" ")
    model, sizes = MODELS[family]
    return pcloud.build_model(model, in_features=7, **sizes[int(size) - 1])


def _path(options: argparse.Namespace, name: str, seed: int) -> Path:
    return options.out / "scores" / f"{name.replace(' ', '_')}_{seed}.npy"


def _scores(
    options: argparse.Namespace, name: str, seed: int, test: ak.Array
) -> NDArray[np.float32]:
    """Scores of the test jets, from a training or a file."""
    path = _path(options, name, seed)
    if path.exists():
        return np.load(path)
    scores = (
        _of_trees(options, seed, test) if name == TREES else _of_network(options, name, seed, test)
    )
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".part.npy")
    np.save(new, scores.astype(np.float32))
    new.replace(path)
    return scores


def _of_network(
    options: argparse.Namespace, name: str, seed: int, test: ak.Array
) -> NDArray[np.float64]:
    family, _, size = name.rpartition(" ")
    model, sizes = MODELS[family]
    run = pcloud.train(
        data="simulated",
        model=model,
        model_options=sizes[int(size) - 1],
        max_jets=options.max_jets,
        max_val_jets=2000,
        epochs=options.epochs,
        seed=seed,
        out=options.out / "runs" / f"{name.replace(' ', '_')}_{seed}",
        **OPTIONS,
    )
    return run.predict(test)[:, 1]


def _of_trees(options: argparse.Namespace, seed: int, test: ak.Array) -> NDArray[np.float64]:
    config = TrainConfig(data="simulated", model="pfn", max_jets=options.max_jets, out="unused")
    (train,) = load_splits(config, "train")  # the jets of the networks
    trees = HistGradientBoostingClassifier(early_stopping=True, random_state=seed, max_iter=500)
    trees.fit(_columns(train), np.asarray(train.label))
    return trees.predict_proba(_columns(test))[:, 1]


def _columns(jets: ak.Array) -> NDArray[np.float64]:
    """Observables (B, F) of jets."""
    return np.stack(list(jet_observables(FlatJets.from_awkward(jets)).values()), axis=1)


def _found(options: argparse.Namespace, name: str) -> list[NDArray[np.float32]]:
    """Scores of all seeds that are trained."""
    seeds = range(1, options.front_seeds + 1)
    paths = [_path(options, name, seed) for seed in seeds]
    return [np.load(path) for path in paths if path.exists()]


def _areas(
    options: argparse.Namespace, labels: NDArray[np.int64], names: list[str]
) -> tuple[dict[str, list[float]], dict[str, NDArray[np.float64]]]:
    """AUC of each seed, and influence (B,) of each jet on their mean, of models with scores."""
    areas, influences = {}, {}
    for name in names:
        rankings = [Ranking(s, labels == 1, labels == 0) for s in _found(options, name)]
        if rankings:
            areas[name] = [float(r.counts.auc()) for r in rankings]
            influences[name] = np.mean([r.auc_influence() for r in rankings], axis=0)
    return areas, influences


def _front(areas: dict[str, list[float]], costs: dict[str, Any], unit: str) -> list[str]:
    """Names of the models that no cheaper one exceeds, by increasing cost."""
    front: list[str] = []
    for name in sorted(areas, key=lambda n: costs[n][unit]):
        if np.isfinite(costs[name][unit]) and (
            not front or np.mean(areas[name]) > np.mean(areas[front[-1]])
        ):
            front.append(name)
    return front


def _near_front(
    options: argparse.Namespace, labels: NDArray[np.int64], costs: dict[str, Any]
) -> set[str]:
    """Models whose AUC is at most `near` below that of the front at their cost."""
    areas, _ = _areas(options, labels, list(costs))
    near = set()
    for unit in ("ms", "mflop"):
        front = _front(areas, costs, unit)
        for name in areas:
            best = [np.mean(areas[f]) for f in front if costs[f][unit] <= costs[name][unit]]
            if best and np.mean(areas[name]) > max(best) - options.near:
                near.add(name)
    return near


def _write(options: argparse.Namespace, labels: NDArray[np.int64], costs: dict[str, Any]) -> None:
    """Write numbers, table and figures."""
    areas, influences = _areas(options, labels, list(costs))
    fronts = {unit: _front(areas, costs, unit) for unit in ("ms", "mflop")}
    lines = [
        "| model | parameters | ms per jet | MFLOP | seeds | AUC | to the best cheaper model | front |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = {}
    for name in sorted(areas, key=lambda n: costs[n]["ms"]):
        cheaper = [n for n in areas if costs[n]["ms"] < costs[name]["ms"]]
        best = max(cheaper, key=lambda n: np.mean(areas[n]), default=None)
        change = ""
        if best is not None:
            difference = np.mean(areas[name]) - np.mean(areas[best])
            error = np.sqrt(np.square(influences[name] - influences[best]).sum())
            change = f"{difference:+.4f} ± {error:.4f} ({best})"
        error = float(np.sqrt(np.square(influences[name]).sum()))
        spread = f" ± {np.std(areas[name], ddof=1):.4f}" if len(areas[name]) > 1 else ""
        on = ", ".join(
            title for unit, title in (("ms", "time"), ("mflop", "FLOP")) if name in fronts[unit]
        )
        cost = costs[name]
        lines.append(
            f"| {name} | {cost.get('parameters', 0):,} | {cost['ms']:.3f} | {cost['mflop']:.2f} | "
            f"{len(areas[name])} | {np.mean(areas[name]):.4f}{spread} (± {error:.4f}) | {change} | {on} |"
        )
        found[name] = cost | {"auc": areas[name], "test_error": error}
    lines.append("")
    lines.append(
        f"{options.max_jets:,} training jets, {options.epochs} epochs, {len(labels):,} test jets. ± is the "
        "standard deviation over seeds, (±) the error of the test jets; differences are paired."
    )
    (options.out / "pareto.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (options.out / "pareto.json").write_text(json.dumps(found, indent=1))
    for unit, title in (("ms", "time"), ("mflop", "flop")):
        _figure(found, fronts[unit], unit, options.out / f"pareto_{title}.png")


def _figure(found: dict[str, Any], front: list[str], unit: str, path: Path) -> None:
    """AUC of all models against a cost, with the front drawn."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    families: dict[str, list[str]] = {}
    for name in found:
        if np.isfinite(found[name][unit]):
            families.setdefault(name.rpartition(" ")[0] or name, []).append(name)
    markers = "osD^v<>PX*h"
    for i, (family, names) in enumerate(families.items()):
        names.sort(key=lambda n: found[n][unit])
        x = [found[n][unit] for n in names]
        y = [np.mean(found[n]["auc"]) for n in names]
        errors = [found[n]["test_error"] for n in names]
        style = {"marker": markers[i % len(markers)], "linestyle": ":", "linewidth": 0.7}
        ax.errorbar(x, y, errors, label=family, color=f"C{i % 10}", **style)
    x = [found[n][unit] for n in front]
    ax.plot(
        x, [np.mean(found[n]["auc"]) for n in front], "k-", linewidth=2, alpha=0.4, label="front"
    )
    label = "ms per jet in training, one thread" if unit == "ms" else "MFLOP per jet"
    ax.set(xscale="log", xlabel=label, ylabel="AUC")
    ax.legend(frameon=False, fontsize=7, ncols=2)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
