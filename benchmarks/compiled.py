"""Training steps of compiled networks on ten batches of different sizes.

    python benchmarks/compiled.py [--models particlenet_lite pfn] [--batch-size 128]

Printed are the number of compiled graphs after each batch, the time of the first step, which includes
the compilation, and the ratio of the CPU times of the plain and the compiled network in alternating
steps: above 1, compilation pays once the compilation is made up for. It needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from torch._dynamo.utils import counters
from torch.nn import functional as F
from torch_geometric.data import Batch

import pcloud
from pcloud.batch import collate
from pcloud.nn.layout import RaggedLayout

_PORTIONS = (1.0, 0.8, 1.1, 0.9, 1.2, 0.7, 1.05, 0.95, 1.15, 0.85)  # of the batch size


def batches(size: int) -> Iterator[Batch]:
    """Ten batches of different sizes."""
    numbers = [round(size * portion) for portion in _PORTIONS]
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[: sum(numbers)])
    for jets in torch.arange(sum(numbers)).split(numbers):
        yield collate(data, jets)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["particlenet_lite", "pfn"])
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args()
    print("| network | graphs after each batch | first step, s | plain / compiled |")
    print("|---|---|---|---|")
    for name in options.models:
        torch._dynamo.reset()
        counters.clear()
        model = pcloud.build_model(name, in_features=7)
        network = torch.compile(model, dynamic=True)
        graphs, ratios, first = [], [], 0.0
        for batch in batches(options.batch_size):
            seconds = []
            for forward in (network, model, network, model):
                start = time.process_time()
                layout = RaggedLayout.from_ptr(batch.ptr)
                F.cross_entropy(forward(batch.x, batch.p4, batch.batch, layout), batch.y).backward()
                model.zero_grad()
                seconds.append(time.process_time() - start)
            first = first or seconds[0]
            ratios.append(seconds[3] / seconds[2])
            graphs.append(counters["stats"]["unique_graphs"])
        low, high = min(ratios), max(ratios)
        ratio = f"{statistics.median(ratios):.2f} [{low:.2f}, {high:.2f}]"
        print(f"| {name} | {graphs} | {first:.0f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
