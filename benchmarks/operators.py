"""Number of operators in a training step and a scoring pass, as `torch.profiler` lists them.

    python benchmarks/operators.py [--models particlenet_lite pfn] [--batch-sizes 1 32 512 4096]

A step consists of the layout of the batch, the forward pass, the loss, the backward pass and a step
of AdamW. All operators of PyTorch are counted, also those that others call. In small networks and
small batches the time of a step is proportional to this number, which is the same in every run.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import pcloud
from pcloud.nn.layout import RaggedLayout
from pcloud.training.optimizers import build_optimizer

MODES = ("training", "scoring")


def count_operators(name: str, batch_size: int, mode: str) -> int:
    """Number of operators of one step on the first jets of the embedded sample, on one thread.

    Parameters
    ----------
    name : str
        Name of the network.
    batch_size : int
        Number of jets.
    mode : {"training", "scoring"}
        Step to be counted.
    """
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:batch_size])
    (batch,) = pcloud.JetLoader(data, batch_size)
    torch.manual_seed(0)
    model = pcloud.build_model(name, in_features=batch.x.shape[1])
    optimizer = build_optimizer("adamw", model, 1e-3, 0.01)

    def train() -> None:
        optimizer.zero_grad()
        layout = RaggedLayout.from_ptr(batch.ptr)
        F.cross_entropy(model(batch.x, batch.p4, batch.batch, layout), batch.y).backward()
        optimizer.step()

    @torch.inference_mode()
    def score() -> None:
        model(batch.x, batch.p4, batch.batch, RaggedLayout.from_ptr(batch.ptr))

    step = train if mode == "training" else score
    model.train(mode == "training")
    step()  # the first step makes the state of the optimizer
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    return sum(event.name.startswith("aten::") for event in profiled.events())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["particlenet_lite", "pfn"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 32, 512, 4096])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| network | | {' | '.join(map(str, options.batch_sizes))} |")
    print(f"|---|---|{'---|' * len(options.batch_sizes)}")
    for name in options.models:
        for mode in MODES:
            counts = [str(count_operators(name, size, mode)) for size in options.batch_sizes]
            print(f"| {name} | {mode} | {' | '.join(counts)} |", flush=True)


if __name__ == "__main__":
    main()
