"""Training with several processes compared with one.

    python benchmarks/ranks.py [--processes 2 3] [--model particlenet_lite] [--jets 20000]

Trains the same run, without dropout, by one process and by several that talk by gloo, each with one
thread, at equal batch size, and prints the metrics of each epoch side by side, with the AUC and the
rate. In float32 the losses agree at first and drift apart by rounding.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pcloud


def train(options: argparse.Namespace, processes: int) -> list[dict[str, float]]:
    """History of a run by some processes."""
    out = options.out / f"{options.model}-{processes}"
    dropout = [] if options.model == "pfn" else ["--model-options.dropout", "0"]
    words = ["train", "--data", "simulated", "--model", options.model, "--out", str(out)]
    words += ["--max-jets", str(options.jets), "--epochs", str(options.epochs), *dropout]
    words += ["--batch-size", str(options.batch_size), "--accelerator", "cpu", "--overwrite"]
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone"]
        start += ["--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*start, "-m", "pcloud", *words], check=True, env=environment)
    return [dict(row) for row in pcloud.Run(out).history]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--model", default="particlenet_lite")
    parser.add_argument("--jets", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("ranks"))
    options = parser.parse_args()
    print("| processes | epoch | training loss | validation loss | AUC | jets/s |")
    print("|---|---|---|---|---|---|")
    for processes in (1, *options.processes):
        for row in train(options, processes):
            losses = f"{row['train_loss']:.6f} | {row['val_loss']:.6f} | {row['val_auc']:.4f}"
            print(f"| {processes} | {row['epoch']:.0f} | {losses} | {row['jets_per_s']:.0f} |")


if __name__ == "__main__":
    main()
