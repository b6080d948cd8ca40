"""Fraction of scores that depend on the order of particles, on the batch, and on rounding.

    python benchmarks/reproducibility.py --models particlenet_lite particlenet --epochs 2

Each network is trained on the embedded sample. It then scores test jets, unchanged and rounded to a
calorimeter grid of 0.1: with the particles in three other orders (no bit may differ), in batches of
7 and of 512, and in float32 and float64. Float64 represents another processor, which rounds
differently: if the last bit of a feature exchanges the k-th neighbour, the score changes. First
only the network is in float64. The momenta, and with them the positions of the first neighbour
search, keep their stored precision, as on every processor. Then the momenta are in float64, too.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

import awkward as ak
import numpy as np
import torch

import pcloud

LIMIT = 1e-4  # change of a probability


def on_a_grid(jets: ak.Array, step: float = 0.1) -> ak.Array:
    """Round the directions of the particles to the cells of a calorimeter."""
    p4 = jets.p4
    pt = np.hypot(p4.px, p4.py)
    eta = np.round(np.arcsinh(p4.pz / pt) / step) * step
    phi = np.round(np.arctan2(p4.py, p4.px) / step) * step
    columns = {
        "E": pt * np.cosh(eta),
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
    }
    cells = ak.zip({name: ak.values_astype(c, np.float32) for name, c in columns.items()})
    return ak.with_field(jets, cells, "p4")


def shuffled(jets: ak.Array, seed: int) -> ak.Array:
    """Put the particles of each jet in a random order."""
    counts = ak.num(jets.p4, axis=1)
    random = np.random.default_rng(seed).random(int(ak.sum(counts)))
    order = ak.argsort(ak.unflatten(random, counts), axis=1)
    return ak.with_field(jets, jets.p4[order], "p4")


def in_float64(run: pcloud.Run, jets: ak.Array, *, momenta: bool) -> np.ndarray:
    """Probabilities with features, network and, on request, momenta in float64."""
    model = run.model().double()
    data = pcloud.JetDataset(jets, run.feature_set)
    scores = []
    with torch.inference_mode():
        for batch in pcloud.JetLoader(data, 512):
            x = run.feature_set(batch.p4.double(), batch.batch, num_jets=batch.num_graphs)
            p4 = batch.p4.double() if momenta else batch.p4
            scores.append(model(x, p4, batch.batch).softmax(-1))
    model.float()
    return torch.cat(scores).numpy()


def compare(run: pcloud.Run, jets: ak.Array) -> list[str]:
    """Results of the comparisons as text."""
    scores = run.predict(jets)
    orders = [run.predict(shuffled(jets, seed)) for seed in range(3)]
    bits = sum(int((other != scores).any(1).sum()) for other in orders)
    batch = np.abs(run.predict(jets, batch_size=7) - scores).max(1)
    double = (np.abs(in_float64(run, jets, momenta=m) - scores).max(1) for m in (False, True))
    moves = (f"{np.mean(move > LIMIT):.2%} ({move.max():.0e})" for move in (batch, *double))
    return [str(bits), *moves]


def trained(name: str, folder: Path, epochs: int, jets: int) -> pcloud.Run:
    """Train a network for a short time."""
    return pcloud.train(
        data="simulated",
        model=name,
        out=folder / name,
        max_jets=jets,
        max_val_jets=500,
        epochs=epochs,
        batch_size=64,
        progress=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models", nargs="+", default=pcloud.list_models(), help="models")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the training")
    parser.add_argument("--train-jets", type=int, default=4000, help="training jets")
    parser.add_argument("--jets", type=int, default=2000, help="test jets")
    options = parser.parse_args()
    test = pcloud.load_dataset("simulated", "test")[: options.jets]
    print(
        f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch "
        f"{torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores; "
        f"{len(test)} jets; fraction of scores that change by more than {LIMIT:g}, largest change"
    )
    print(
        "| model | jets | other orders, any bit | batches of 7 and 512 | network in float64 | "
        "momenta, too |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            run = trained(name, Path(folder), options.epochs, options.train_jets)
            for kind, jets in (("as they are", test), ("on a grid", on_a_grid(test))):
                print(f"| {name} | {kind} | {' | '.join(compare(run, jets))} |", flush=True)


if __name__ == "__main__":
    main()
