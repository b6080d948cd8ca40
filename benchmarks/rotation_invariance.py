"""Change of the logits of networks on images that are turned by 45 degrees.

    python benchmarks/rotation_invariance.py

Networks have random weights; normalisations have the statistics of the images. The images are
smooth spirals, drawn at both angles, so that no pixel is interpolated. The change is the root mean
square difference of a logit over its standard deviation among the images, mean over logits and
seeds.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, nn

from pcloud.images import RotationAverage
from pcloud.images.build import build_network

SIZE, NUM_IMAGES, NUM_OUTPUTS = 33, 60, 4
NETWORKS = {
    "`cnn`": ("cnn", {}, 1),
    "`cnn`, 8 turns averaged": ("cnn", {}, 8),
    "`group_cnn`": ("group_cnn", {}, 1),
    "`group_resnet34`, 8 channels, 1 block a stage": (
        "group_resnet34",
        {"num_blocks": (1, 1, 1, 1), "width": 8},
        1,
    ),
}


def spirals(angle: float, seed: int = 0) -> Tensor:
    """Smooth spirals of 1 to 3 arms (B, 1, SIZE, SIZE), turned by `angle` in rad."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 2, indexing="ij")
    phi, radius = torch.atan2(-y, x) - angle, torch.hypot(x, y) / (SIZE / 2)
    uniform = torch.rand(6, NUM_IMAGES, 1, 1, generator=generator)
    arms = (1 + 3 * uniform[0]).floor()
    winding = (4 + 4 * uniform[1]) * (uniform[2] - 0.5).sign()
    wave = torch.cos(arms * phi + winding * radius + 2 * math.pi * uniform[5])
    profile = torch.exp(-((radius / (0.25 + 0.25 * uniform[3])) ** 2))
    return (profile * (1 + (0.3 + 0.7 * uniform[4]) * wave * torch.tanh(6 * radius))).unsqueeze(1)


@torch.no_grad()
def change(name: str, options: dict[str, object], rotations: int, seed: int) -> float:
    """Relative change of the logits at 45 degrees."""
    torch.manual_seed(seed)
    model: nn.Module = build_network(name, 1, NUM_OUTPUTS, (SIZE, SIZE), **options)
    upright, turned = spirals(0.0), spirals(math.pi / 4)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            module.momentum = None
    model.train()(upright)
    model = RotationAverage(model, rotations).eval() if rotations > 1 else model.eval()
    before, after = model(upright).double(), model(turned).double()
    return float(((after - before).square().mean(0) / before.var(0)).sqrt().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    print("| network | group | change at 45° |\n|---|---|---|")
    for label, (name, options, rotations) in NETWORKS.items():
        for group in ("p4", "c8", "p4m", "d8") if name.startswith("group") else ("",):
            grouped = options | ({"group": group} if group else {})
            changes = torch.tensor([change(name, grouped, rotations, seed) for seed in seeds])
            shown = f"{changes.mean():.2f} ± {changes.std():.2f}"
            print(f"| {label} | {f'`{group}`' if group else ''} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
