"""Times of this tree and of an older clone, in alternating steps of two processes.

    python benchmarks/against.py OLDER_CLONE [--models ...] [--batch-sizes ...] [--clock cpu]

Each process imports its own tree and makes one step when it is told to. Printed are the medians of
both times, and the median and range of the ratio older / this of each pair of steps: above 1, this
tree is faster. Peak memory is that of the whole process. ``--memory`` retains freed memory in both
processes, or returns it to the system in both; "default" is the default of each tree.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Tree:
    """A process that makes steps with the code of one tree."""

    def __init__(self, tree: Path, setting: dict[str, Any]) -> None:
        command = [sys.executable, __file__, "--work", json.dumps(setting)]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def step(self) -> list[float]:
        """Seconds of a step and peak memory of the process in bytes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("step", file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def work(setting: dict[str, Any]) -> None:
    """Make a step for each line of the standard input."""
    import torch

    import pcloud

    torch.set_num_threads(setting["threads"])
    if setting["memory"] == "retained":
        pcloud.keep_memory()
    step = step_of(setting)
    clock = CLOCKS[setting["clock"]]
    for _ in sys.stdin:
        start = clock()
        step()
        seconds = clock() - start
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps([seconds, peak]), flush=True)


def step_of(setting: dict[str, Any]) -> Any:
    """Training or scoring step of a network, on the same jets."""
    import torch
    from torch.nn import functional as F

    import pcloud
    from pcloud.training.optimizers import build_optimizer

    torch.manual_seed(0)
    name = setting["model"]
    if name.startswith("cloud "):  # two clouds of so many points
        return cloud_step(int(name.split()[1]), setting["mode"])
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[: setting["batch_size"]])
    (batch,) = pcloud.JetLoader(data, setting["batch_size"])
    model = pcloud.build_model(name, in_features=7)
    optimizer = build_optimizer("adamw", model, 1e-4, 0.01)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[setting["precision"]]
    model.train(setting["mode"] == "training")

    def logits() -> torch.Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return model(batch.x, batch.p4, batch.batch)

    def train() -> None:
        optimizer.zero_grad()
        F.cross_entropy(logits().float(), batch.y).backward()
        optimizer.step()

    return train if setting["mode"] == "training" else torch.inference_mode()(logits)


def cloud_step(points: int, mode: str) -> Any:
    """Step of particlenet_lite on two clouds of so many points in three dimensions."""
    import torch
    from torch.nn import functional as F

    import pcloud

    pos = torch.randn(2 * points, 3)
    x = torch.cat([pos, torch.randn(2 * points, 4)], 1)
    batch = torch.arange(2).repeat_interleave(points)
    model = pcloud.build_model("particlenet_lite", in_features=7, coordinates="identity")
    model.train(mode == "training")

    def train() -> None:
        model.zero_grad()
        F.cross_entropy(model(x, pos, batch), torch.tensor([0, 1])).backward()

    return train if mode == "training" else torch.inference_mode()(lambda: model(x, pos, batch))


def compare(older: Path, setting: dict[str, Any], repeats: int) -> str:
    """Row of the table for one setting."""
    trees = [Tree(tree, setting) for tree in (older, HERE)]
    found = [[tree.step() for tree in trees] for _ in range(repeats + 1)]
    for tree in trees:
        tree.end()
    times = [[seconds for seconds, _ in pair] for pair in found[1:]]
    before, after = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = [old / new for old, new in times]
    peaks = [f"{peak / 1e6:.0f}" for _, peak in found[-1]]
    ratio = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    size, precision = setting["batch_size"], setting["precision"]
    return (
        f"| {setting['model']} | {setting['mode']} | {size} | {precision} | {1e3 * before:.4g} | "
        f"{1e3 * after:.4g} | {ratio} | {', '.join(peaks)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("older", type=Path, nargs="?", help="clone to compare with")
    parser.add_argument("--models", nargs="+", default=["particlenet_lite", "pfn", "part"])
    parser.add_argument("--modes", nargs="+", default=["training", "scoring"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 32, 128, 512])
    parser.add_argument("--precisions", nargs="+", default=["fp32"])
    parser.add_argument(
        "--memory", choices=["default", "retained"], default="default", help="treatment of both"
    )
    parser.add_argument("--clock", choices=[*CLOCKS], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    print("| network | step | jets | | older, ms | this, ms | older / this | peak, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, mode, size, precision in itertools.product(
        options.models, options.modes, options.batch_sizes, options.precisions
    ):
        setting = {"model": name, "mode": mode, "batch_size": size, "precision": precision}
        setting |= {"clock": options.clock, "threads": options.threads, "memory": options.memory}
        print(compare(options.older, setting, options.repeats), flush=True)


if __name__ == "__main__":
    main()
