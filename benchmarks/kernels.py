"""Gain of every kernel over the plain formula of its layer, in whole networks.

    python benchmarks/kernels.py [--batch-size 128] [--repeats 7] [--clock cpu] [--kernels NAME ...]

Each kernel is switched off alone, so that its layer computes the plain formula and all other layers
keep their kernels. One training step (forward and backward) and one inference step of a published
network are timed with the kernel and without it, alternating in one process. Printed are medians of
the ratio of the two times, without over with, and the lowest and highest ratio of a repetition. A
kernel is worth its lines if it gains 20 % in one of the two for one network.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional as F

import pcloud
from pcloud.batch import batch_arguments

KERNELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "edge_conv": (("graph.edge_conv",), ("particlenet", "particlenet_lite")),
    "knn_by_sorting": (("graph.knn",), ("particlenet", "particlenet_lite")),
    "pair_mlp": (("attention.pair_mlp",), ("part",)),
    "attention": (("attention.attention",), ("part",)),
    "pair_messages": (("pairs.messages", "pairs.messages_kernel"), ("lorentznet",)),
    "dropout": (("attention.random_mask",), ("part",)),
    "axes_by_fastjet": (("clustering_fastjet",), ("hl_mlp",)),
    "recurrence": (("sequences",), ("lstm",)),
}
"""Modules of pcloud.nn that ask whether the kernel is allowed, and networks that use it."""

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@contextmanager
def without(kernel: str) -> Iterator[None]:
    """Context in which a kernel is switched off."""
    modules = [importlib.import_module(f"pcloud.nn.{name}") for name in KERNELS[kernel][0]]
    gates = [module.kernel_allowed for module in modules]
    try:
        for module in modules:
            module.kernel_allowed = lambda *tensors: False
        yield
    finally:
        for module, gate in zip(modules, gates, strict=True):
            module.kernel_allowed = gate


def steps(name: str, batch_size: int) -> dict[str, Callable[[], None]]:
    """Return a training step and an inference step of a network, on the same jets."""
    jets = pcloud.load_dataset("simulated", "test")[:batch_size]
    data = pcloud.JetDataset(jets)
    (batch,) = pcloud.JetLoader(data, batch_size)
    torch.manual_seed(0)
    model = pcloud.build_model(name, in_features=7)
    arguments = batch_arguments(batch)

    def train() -> None:
        model.train()
        model.zero_grad()
        F.cross_entropy(model(*arguments), batch.y).backward()

    @torch.no_grad()
    def infer() -> None:
        model.eval()(*arguments)

    return {"training": train, "inference": infer}


def ratios(
    step: Callable[[], None], kernel: str, repeats: int, clock: Callable[[], float]
) -> list[float]:
    """Times without the kernel over those with it, alternating."""

    def seconds() -> float:
        start = clock()
        step()
        return clock() - start

    step()
    found = []
    for _ in range(repeats):
        with_kernel = seconds()
        with without(kernel):
            found.append(seconds() / with_kernel)
    return found[1:]  # the first time without the kernel includes the first use of its memory


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernels", nargs="+", default=[*KERNELS], choices=[*KERNELS])
    parser.add_argument("--batch-size", type=int, default=128, help="number of jets")
    parser.add_argument("--repeats", type=int, default=7, help="number of pairs of times, plus one")
    parser.add_argument("--clock", choices=[*CLOCKS], default="cpu")
    options = parser.parse_args()
    print("| kernel | network | training, without / with | inference, without / with |")
    print("|---|---|---|---|")
    for kernel in options.kernels:
        for network in KERNELS[kernel][1]:
            cells = []
            for step in steps(network, options.batch_size).values():
                found = ratios(step, kernel, options.repeats + 1, CLOCKS[options.clock])
                low, high = min(found), max(found)
                cells.append(f"{statistics.median(found):.2f} [{low:.2f}, {high:.2f}]")
            print(f"| `{kernel}` | `{network}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
