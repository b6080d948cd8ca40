"""LorentzNet compared with an edge-list implementation: time, memory, and official weights.

    python benchmarks/lorentznet.py speed     # ratios of CPU time, alternating in one process
    python benchmarks/lorentznet.py apart     # ratios of wall-clock time, each in its own process
    python benchmarks/lorentznet.py memory    # peak memory, each measurement in its own process
    python benchmarks/lorentznet.py official  # official weights on 1000 real jets

Jets are those of the embedded sample. ``official`` needs the reference data: a folder named by the
environment variable PCLOUD_REFERENCE_DATA.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

import pcloud
from pcloud.models import LorentzNet
from pcloud.nn import RaggedLayout, mean_pool
from pcloud.nn.lorentz.minkowski import psi

MODES = ("train", "infer")


class EdgeListLorentzNet(nn.Module):
    """The same network with the same weights, implemented with an edge list in one precision.

    As in most graph networks, every quantity of a pair of particles is a row of a tensor over all
    pairs of the batch. The rows are gathered, concatenated, passed through ``nn.Sequential`` and
    summed by index. The momenta are rounded to the precision of `p4`.
    """

    def __init__(self, model: LorentzNet) -> None:
        super().__init__()
        self.model = model
        self.phi_e = nn.ModuleList(
            nn.Sequential(b.phi_e.linear, b.phi_e.norm, nn.ReLU(), b.messages.linear, nn.ReLU())
            for b in model.blocks
        )

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C)."""
        layout = layout or RaggedLayout.from_batch(batch)
        momenta, scalars, nodes = self.model.with_beams(x, p4, layout)
        x, scalars = momenta.to(p4), scalars.to(p4)
        i, j = edges(nodes)
        others = (nodes.counts - 1)[nodes.batch].unsqueeze(-1)
        h = self.model.embed(scalars)
        for block, phi_e in zip(self.model.blocks, self.phi_e, strict=True):
            difference = x[i] - x[j]
            products = torch.stack([dot(difference, difference), dot(x[i], x[j])], dim=-1)
            m = phi_e(torch.cat([h[i], h[j], psi(products)], dim=-1))
            m = m * block.messages.phi_m(m).sigmoid()
            total = torch.zeros_like(h).index_add(0, i, m)
            if block.messages.phi_x is not None:
                shift = difference * block.messages.phi_x(m)
                if block.limit is not None:
                    shift = shift.clamp(-block.limit, block.limit)
                x = x + block.step * torch.zeros_like(x).index_add(0, i, shift) / others
            h = h + block.phi_h(torch.cat([h, total, scalars], dim=-1))
        return self.model.head(mean_pool(h, nodes))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Minkowski product of each row of `a` with the same row of `b`."""
    return (a * b * a.new_tensor([1.0, -1.0, -1.0, -1.0])).sum(-1)


def edges(layout: RaggedLayout) -> tuple[Tensor, Tensor]:
    """Receiver and sender of every pair of different particles of a jet."""
    jets = torch.arange(layout.num_particles).split(layout.counts.tolist())
    i, j = torch.cat([torch.cartesian_prod(jet, jet) for jet in jets]).t()
    return i[i != j], j[i != j]


def official_mass(p4: Tensor, layout: RaggedLayout) -> tuple[Tensor, Tensor]:
    """Momenta as stored, and masses computed in the stored precision."""
    e2, p2 = p4[:, 0] ** 2, (p4[:, 1:] ** 2).sum(-1)
    return p4, (e2 - p2).abs().sqrt()


def sample(num_jets: int, split: str = "test") -> pcloud.JetDataset:
    return pcloud.JetDataset(pcloud.load_dataset("simulated", split)[:num_jets])


class Step:
    """One training step or one inference step of a batch of jets, by either implementation."""

    def __init__(self, num_jets: int) -> None:
        torch.manual_seed(0)
        (self.jets,) = pcloud.JetLoader(sample(num_jets), batch_size=num_jets)
        self.layout = RaggedLayout.from_ptr(self.jets.ptr)
        model = LorentzNet(7)
        self.versions = {"ours": model, "edges": EdgeListLorentzNet(model)}

    def __call__(self, version: str, mode: str) -> float:
        """CPU time of a step in seconds."""
        model = self.versions[version].train(mode == "train")
        jets, start = self.jets, time.process_time()
        with torch.inference_mode(mode == "infer"):
            logits = model(jets.x, jets.p4, jets.batch, self.layout)
            if mode == "train":
                model.zero_grad()
                F.cross_entropy(logits, jets.y).backward()
        return time.process_time() - start


def speed(num_jets: int, repeats: int) -> None:
    step = Step(num_jets)
    print(f"{num_jets} jets, {repeats} alternating repeats, {torch.get_num_threads()} threads")
    for mode in MODES:
        for version in step.versions:
            step(version, mode)
        times = np.array([[step(v, mode) for v in ("edges", "ours")] for _ in range(repeats)])
        ratio, (theirs, ours) = times[:, 0] / times[:, 1], np.median(times, axis=0)
        print(
            f"{mode:6} edge list {num_jets / theirs:6.1f} jets/s, pcloud {num_jets / ours:6.1f} jets/s, "
            f"ratio {np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"
        )


def apart(num_jets: int, repeats: int) -> None:
    """Time each implementation in its own process, as in a training."""
    print(f"{num_jets} jets, {repeats} alternating pairs of processes, three steps after one each")
    for mode in MODES:
        pairs = [in_processes("steps", num_jets, mode) for _ in range(repeats)]
        ratio = np.divide(*np.transpose(pairs))
        theirs, ours = np.median(pairs, axis=0)
        print(
            f"{mode:6} edge list {num_jets / theirs:6.1f} jets/s, pcloud {num_jets / ours:6.1f} jets/s, "
            f"ratio {np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]",
            flush=True,
        )


def in_processes(what: str, num_jets: int, mode: str) -> list[float]:
    """Numbers printed by the processes of the edge list and of pcloud."""
    command = [sys.executable, __file__, what, "--jets", str(num_jets), "--mode", mode]
    return [
        float(subprocess.check_output([*command, "--version", version]))
        for version in ("edges", "ours")
    ]


def steps(num_jets: int, version: str, mode: str) -> None:
    """Median wall-clock time of three steps, in seconds."""
    step, times = Step(num_jets), []
    for _ in range(4):
        start = time.perf_counter()
        step(version, mode)
        times.append(time.perf_counter() - start)
    print(np.median(times[1:]))


def memory(num_jets: int) -> None:
    print(f"{num_jets} jets: peak memory in addition to data and weights")
    for mode in MODES:
        edge_list, ours = in_processes("peak", num_jets, mode)
        print(
            f"{mode:6} edge list {edge_list:.0f} MB, pcloud {ours:.0f} MB: {ours / edge_list:.3f}"
        )


def peak(num_jets: int, version: str, mode: str) -> None:
    """Growth of the largest resident size of this process, in megabytes."""
    step = Step(num_jets)
    few = Step(1)
    few(version, mode)  # torch loads some libraries on first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(version, mode)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6)


def reference_jets() -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
    """Momenta, jet indices, logits and labels of the 1000 real jets."""
    jets = np.load(Path(os.environ["PCLOUD_REFERENCE_DATA"], "landscape_test_rows_0000_0999.npz"))
    batch = torch.repeat_interleave(torch.arange(1000), torch.from_numpy(jets["counts"]))
    logits = torch.from_numpy(jets["logits_lorentznet_unpadded_float64"])
    return torch.from_numpy(jets["p4"]), batch, logits, jets["label"]


def official_model() -> LorentzNet:
    path = Path(os.environ["PCLOUD_REFERENCE_DATA"], "lorentznet_top_official.pt")
    return pcloud.load_official("lorentznet", path)


@torch.inference_mode()
def official() -> None:
    p4, batch, logits, label = reference_jets()
    model = official_model()
    double, single = copy.deepcopy(model).double(), copy.deepcopy(model)
    single.mass = official_mass
    for name, ours in {
        "pcloud, all in float64": double(None, p4.double(), batch),
        "pcloud, products in float64": model(None, p4, batch),
        "edge list, all in float32": EdgeListLorentzNet(single).eval()(None, p4, batch),
    }.items():
        difference = (ours - logits).abs().amax(1)
        score = ours[:, 1] - ours[:, 0]
        print(
            f"{name:28} AUC {roc_auc_score(label, score):.5f}, "
            f"accuracy {((score > 0).numpy() == label).mean():.3f}, logits differ by "
            f"{difference.median():.1e} (median), {difference.quantile(0.99):.1e} (99 %), "
            f"{difference.max():.1e} (largest)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "what",
        choices=["speed", "apart", "memory", "official", "peak", "steps"],
        help="measurement",
    )
    parser.add_argument("--jets", type=int, default=128, help="jets in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of each measurement")
    parser.add_argument(
        "--version",
        choices=["ours", "edges"],
        default="ours",
        help="implementation, for peak and steps",
    )
    parser.add_argument("--mode", choices=MODES, default="train", help="mode, for peak and steps")
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, {platform.processor() or platform.machine()}", file=sys.stderr
    )
    if options.what == "speed":
        speed(options.jets, options.repeats)
    elif options.what == "apart":
        apart(options.jets, options.repeats)
    elif options.what == "steps":
        steps(options.jets, options.version, options.mode)
    elif options.what == "memory":
        memory(options.jets)
    elif options.what == "peak":
        peak(options.jets, options.version, options.mode)
    else:
        official()


if __name__ == "__main__":
    main()
