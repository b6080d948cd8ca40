"""Change of the logits of networks on images that are rotated by 45 degrees.

    python benchmarks/rotation_invariance.py [--seeds 3] [--figure docs/figures/images_angles.png]

The networks have random weights and batch statistics of the images. The images are smooth spirals
that are drawn at both angles, so that no pixel is interpolated. The change is the root mean square
difference of a logit divided by its standard deviation among the images, averaged over logits and
seeds. ``--figure`` draws the change against the angle.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from pcloud.evaluation.figures import save_figure
from pcloud.evaluation.figures.style import figure_style, line_styles, new_figure
from pcloud.images import RotationAverage
from pcloud.images.build import build_network

SIZE, NUM_IMAGES, NUM_OUTPUTS = 33, 60, 4
NETWORKS = {
    "`cnn`": ("cnn", {}, 1),
    "`cnn`, average over 8 rotations": ("cnn", {}, 8),
    "`group_cnn`": ("group_cnn", {}, 1),
    "`group_resnet34`, 8 channels, 1 block per stage": (
        "group_resnet34",
        {"num_blocks": (1, 1, 1, 1), "width": 8},
        1,
    ),
}


DRAWN = {
    "p4": ("group_cnn", {"group": "p4"}, 1),
    "c8": ("group_cnn", {"group": "c8"}, 1),
    "p4, average over 8 turns": ("group_cnn", {"group": "p4"}, 8),
}
ANGLES = range(0, 181, 5)  # degrees


def spirals(angle: float, seed: int = 0) -> Tensor:
    """Smooth spirals with 1 to 3 arms (B, 1, SIZE, SIZE), rotated by `angle` in rad."""
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
def change(
    name: str, options: dict[str, object], rotations: int, seed: int, degrees: float = 45
) -> float:
    """Relative change of the logits when images are turned."""
    torch.manual_seed(seed)
    model: nn.Module = build_network(name, 1, NUM_OUTPUTS, (SIZE, SIZE), **options)
    upright, turned = spirals(0.0), spirals(math.radians(degrees))
    for module in model.modules():
        if hasattr(module, "running_mean"):
            module.momentum = None
    model.train()(upright)
    model = RotationAverage(model, rotations).eval() if rotations > 1 else model.eval()
    before, after = model(upright).double(), model(turned).double()
    return float(((after - before).square().mean(0) / before.var(0)).sqrt().mean())


@figure_style()
def draw(path: Path, seeds: range) -> None:
    """Draw the change against the angle, mean over the seeds."""
    figure, (axes,) = new_figure(4.0)
    for (label, network), style in zip(DRAWN.items(), line_styles(len(DRAWN)), strict=True):
        means = [
            sum(change(*network, seed, degrees) for seed in seeds) / len(seeds)
            for degrees in ANGLES
        ]
        axes.plot(ANGLES, means, label=label, **style)
    axes.set(xlabel="angle of the turn in degrees", xlim=(0, 180), xticks=range(0, 181, 45))
    axes.set(ylabel="change of the logits / their spread", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=len(DRAWN))
    save_figure(figure, path.with_suffix(""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--figure", type=Path, help="PNG file of the change against the angle")
    options = parser.parse_args()
    seeds = range(options.seeds)
    if options.figure:
        draw(options.figure, seeds)
        return
    print("| network | group | change at 45° |\n|---|---|---|")
    for label, (name, settings, rotations) in NETWORKS.items():
        for group in ("p4", "c8", "p4m", "d8") if name.startswith("group") else ("",):
            grouped = settings | ({"group": group} if group else {})
            changes = torch.tensor([change(name, grouped, rotations, seed) for seed in seeds])
            shown = f"{changes.mean():.2f} ± {changes.std():.2f}"
            print(f"| {label} | {f'`{group}`' if group else ''} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
