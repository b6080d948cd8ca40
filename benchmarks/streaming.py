"""Memory, rate and class fractions of training on jets in memory, in mapped files and in a stream.

    python benchmarks/streaming.py [--jets 1000000] [--files 20] [--out FOLDER] [--pairs 3]

The jets are those of the embedded sample, drawn with repetition and each rotated about the beam by a
different angle. Each file is of one class, with row groups of 2000 jets; the sizes of the files grow
from the first to the last by a factor of ten. PFN is trained for one epoch with validation in a
process for each storage; its private memory (``RssAnon``) is read ten times a second. The rate of the
loaders is in jets per second of CPU time, with features, in one thread. The spread of the class
fractions of batches is relative to that of a binomial distribution.

With ``--pairs``, only rates are compared: each network is trained for one epoch on some of the files in memory,
from a stream, and from a stream that a worker process reads, in turn, with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import awkward as ak
import matplotlib.pyplot as plt
import numpy as np
import torch
from pyarrow import parquet

import pcloud
from pcloud.io import FlatJets, convert

STORAGES = ("memory", "map", "stream")
PERIOD = 0.1  # seconds between two readings of the memory
ROW_GROUP = 2000
CHUNK = 20_000
TENTHS = 10
PAIRS = {"pfn": 8, "particlenet_lite": 2}  # numbers of the smallest files, of --pairs


def rotated(jets: ak.Array, rng: np.random.Generator) -> ak.Array:
    """Jets that are rotated about the beam, each by its own angle."""
    flat = FlatJets.from_awkward(jets)
    angle = rng.uniform(0, 2 * np.pi, len(flat)).astype(np.float32)
    cos, sin = np.repeat(np.cos(angle), flat.counts), np.repeat(np.sin(angle), flat.counts)
    energy, px, py, pz = flat.p4
    flat.p4 = (energy, cos * px - sin * py, sin * px + cos * py, pz)
    flat.jet = {"label": flat.jet["label"]}
    return flat.to_awkward(jets.attrs["classes"])


def write_files(folder: Path, number: int, num_files: int) -> list[Path]:
    """Files of one class each, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    jets = pcloud.load_dataset("simulated", "train")
    sizes = np.geomspace(1, 10, num_files)
    sizes = np.maximum(1, (number * sizes / sizes.sum()).astype(int))
    paths = []
    for i, size in enumerate(sizes):
        paths.append(folder / f"{i:02d}.parquet")
        if paths[-1].exists():
            continue
        rng = np.random.default_rng(i)
        of_class = jets[np.asarray(jets.label) == i % 2]
        parts = folder / f".{i:02d}"
        parts.mkdir(exist_ok=True)
        for start in range(0, size, CHUNK):
            drawn = of_class[rng.integers(len(of_class), size=min(CHUNK, size - start))]
            path = parts / f"{start:09d}.parquet"
            pcloud.write_jets(rotated(drawn, rng), path, overwrite=True)
        convert(str(parts), paths[-1], row_group=ROW_GROUP)
        for path in parts.iterdir():
            path.unlink()
        parts.rmdir()
    return paths


def private_memory() -> float:
    """Private memory of this process in MB; NaN if the system does not say."""
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 1e3 if found else float("nan")


def train(files: list[str], storage: str, out: Path) -> dict[str, Any]:
    """Train for an epoch; return the curve of the memory and the rate."""
    curve: list[tuple[float, float]] = []
    start = time.monotonic()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(PERIOD):
            curve.append((round(time.monotonic() - start, 2), private_memory()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        options = {"storage": storage, "epochs": 1, "accelerator": "cpu", "batch_size": 512}
        run = pcloud.train(data=files, model="pfn", out=out, overwrite=True, **options)
    finally:
        done.set()
        thread.join()
    row = run.history[-1]
    return {"curve": curve, "rate": row["jets_per_s"], "val_auc": row["val_auc"]}


def loader_rates(files: list[str]) -> dict[str, float]:
    """Rates of the loaders in jets per second of CPU time, and the spread of the class fractions."""
    from pcloud.training import TrainConfig
    from pcloud.training.data import load_training_data

    torch.set_num_threads(1)
    config = TrainConfig(data=files, model="pfn", out="unused", max_val_jets=1000)
    found = {}
    jets = load_training_data(config, stream=True)
    loader = jets.modality.loader(jets.train, 512, shuffle=True, drop_last=True)
    start = time.process_time()
    fractions, num_jets = [], 0
    peaks = [0.0]  # private memory of each tenth of the epoch
    for i, batch in enumerate(loader):
        fractions.append(float(batch.y.double().mean()))
        num_jets += len(batch.y)
        if i >= len(loader) * len(peaks) // TENTHS:
            peaks.append(0.0)
        peaks[-1] = max(peaks[-1], private_memory())
    found["stream"] = num_jets / (time.process_time() - start)
    found["growth"] = peaks[-1] / peaks[0]
    mean = float(jets.train.y.double().mean())
    size = num_jets / len(loader)
    found["spread"] = float(np.std(fractions) / np.sqrt(mean * (1 - mean) / size))
    few = pcloud.read_jets(files[-1], stop=CHUNK)
    start = time.process_time()
    pcloud.JetDataset(few, jets.train.feature_set)
    found["features"] = len(few) / (time.process_time() - start)
    return found


def compared_rates(files: list[str], pairs: int, out: Path) -> None:
    """Print the rates of training from streams, relative to that in memory in the same turn."""
    ways = {"memory": ("memory", 0), "stream": ("stream", 0), "stream, one worker": ("stream", 1)}
    print("| network | jets | jets/s in memory | stream / memory | stream, one worker / memory |")
    print("|---|---|---|---|---|")
    for model, number in PAIRS.items():
        num_jets = sum(parquet.read_metadata(path).num_rows for path in files[:number])
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(pairs):
            for way, (storage, workers) in ways.items():
                words = ["train", "--data", *files[:number], "--model", model, "--epochs", "1"]
                words += ["--storage", storage, "--stream-workers", str(workers), "--overwrite"]
                words += ["--batch-size", "512", "--accelerator", "cpu", "--out", str(out / "pair")]
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                command = [sys.executable, "-m", "pcloud", *words]
                subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
                rates[way].append(pcloud.Run(out / "pair").history[-1]["jets_per_s"])
        row = [model, f"{num_jets:,}", f"{np.median(rates['memory']):.0f}"]
        for way in list(ways)[1:]:
            ratio = np.divide(rates[way], rates["memory"])
            row.append(f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})")
        print(f"| {' | '.join(row)} |", flush=True)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the private memory against time."""
    figure, axes = plt.subplots(layout="constrained")
    for storage in STORAGES:
        seconds, memory = zip(*results[storage]["curve"], strict=True)
        axes.plot(seconds, memory, label=storage)
    axes.set(xlabel="time (s)", ylabel="private memory (MB)", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jets", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("streaming"))
    parser.add_argument("--pairs", type=int, help="only compare rates of training, so often")
    parser.add_argument("--train", choices=STORAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = [str(f) for f in write_files(options.out / "jets", options.jets, options.files)]
    if options.train:
        found = train(files, options.train, options.out / options.train)
        (options.out / f"{options.train}.json").write_text(json.dumps(found))
        return
    if options.pairs:
        compared_rates(files, options.pairs, options.out)
        return
    results: dict[str, Any] = {}
    for storage in STORAGES:
        words = ["--jets", str(options.jets), "--files", str(options.files)]
        command = [sys.executable, __file__, *words, "--out", str(options.out), "--train", storage]
        subprocess.run(command, check=True)
        results[storage] = json.loads((options.out / f"{storage}.json").read_text())
    results["loaders"] = loader_rates(files)
    (options.out / "streaming.json").write_text(json.dumps(results))
    draw(results, options.out / "streaming.png")
    print(f"{options.jets:,} jets in {options.files} files\n")
    print("| storage | peak of the private memory, MB | at the end, MB | jets/s | AUC |")
    print("|---|---|---|---|---|")
    for storage in STORAGES:
        found = results[storage]
        memory = [value for _, value in found["curve"]]
        numbers = f"{max(memory):.0f} | {memory[-1]:.0f} | {found['rate']:.0f}"
        print(f"| {storage} | {numbers} | {found['val_auc']:.4f} |")
    found = results["loaders"]
    print(f"\nstream: {found['stream']:.0f} jets per second of CPU time with features, which alone")
    print(f"take {found['features']:.0f}; spread of the class fractions over binomial:")
    print(f"{found['spread']:.3f}; private memory of the last tenth of the epoch over the first:")
    print(f"{found['growth']:.3f}")


if __name__ == "__main__":
    main()
