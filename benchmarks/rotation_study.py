"""Accuracy and change of the output of networks on digits against the angle of the test digits.

    python benchmarks/rotation_study.py [mnist.npz] --out runs/angles [--figure docs/figures/angles.png]

All networks are trained on the same upright digits, two of them with random turns in the training. The
digits of the test are turned by each angle, with bilinear interpolation. The change is the mean
absolute difference of the probabilities of a turned and the upright digit, summed over the classes and
divided by two: 0 for equal outputs, 1 for certain outputs of different classes. Without a file, the
digits are those of scikit-learn, enlarged. Finished trainings are not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pcloud
from pcloud.evaluation.figures.style import figure_style, line_styles, new_figure, save_figure
from pcloud.evaluation.measured import Measured
from pcloud.images import ImageSet, RotationAverage, balanced, read_images, rotate

Network = tuple[str, str, dict[str, Any], int]
_TURNED: dict[str, Any] = {"network": "group_cnn", "group": "p4"}
_RESNET: dict[str, Any] = {"num_blocks": (1, 1, 1, 1), "width": 8}
NETWORKS: dict[str, Network] = {
    "CNN": ("cnn", "cnn", {}, 1),
    "ResNet": ("resnet", "resnet34", _RESNET, 1),
    "p4": ("p4", "group_cnn", {"group": "p4"}, 1),
    "c8": ("c8", "group_cnn", {"group": "c8"}, 1),
    "p4, average of 8 turns": ("p4", "group_cnn", {"group": "p4"}, 8),
    "p4, random turns in training": ("turned", "rotated", _TURNED, 1),
    "the same, average of 8 turns": ("turned", "rotated", _TURNED, 8),
    "the same, average of 16 turns": ("turned", "rotated", _TURNED, 16),
}
"""Folder of the runs, model, its options, and number of turns to average over, by label."""
ANGLES = (0, 15, 30, 45, 60, 75, 90, 105, 120, 135, 150, 165, 180)  # degrees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?", type=Path, help="MNIST, by default bundled digits")
    parser.add_argument("--out", type=Path, default=Path("runs/angles"), help="folder of the runs")
    parser.add_argument("--images", type=int, default=4000, help="number of training digits")
    parser.add_argument("--test-images", type=int, default=1000, help="number of test digits")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="networks")
    parser.add_argument("--angles", type=int, nargs="+", default=ANGLES, help="angles in degrees")
    parser.add_argument("--figure", type=Path, help="PNG file of the figure")
    options = parser.parse_args()
    train, test = digits(options)
    file = options.out / "train.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        np.savez(file, images=train.images[:, 0], labels=train.labels)
    stored = options.out / "angles.json"
    results = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    for label in options.networks:
        for seed in options.seeds:
            key = f"{label}, seed {seed}"
            if key not in results:
                results[key] = study(label, seed, test, options)
                stored.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results, options))
    if options.figure:
        draw(results, options)


def digits(options: argparse.Namespace) -> tuple[ImageSet, ImageSet]:
    """Upright digits for training and test, equal numbers of each class."""
    if options.data:
        train, test = (read_images(options.data, split) for split in ("train", "test"))
    else:
        train, test = (pcloud.load_dataset("digits", split) for split in ("train", "test"))
    numbers = (min(options.images, len(train)), min(options.test_images, len(test)))
    if not options.data:
        return train[: numbers[0]], test[: numbers[1]]
    return balanced(train, numbers[0], seed=1), balanced(test, numbers[1], seed=2)


def study(label: str, seed: int, test: ImageSet, options: argparse.Namespace) -> dict[str, Any]:
    """Train a network, and measure it at each angle."""
    folder, model, settings, turns = NETWORKS[label]
    run = pcloud.train(
        data=options.out / "train.npz",
        model=model,
        model_options=settings,
        out=options.out / f"{folder}-{seed}",
        epochs=options.epochs,
        batch_size=100,
        seed=seed,
        progress=False,
    )
    network = run.model()
    if turns > 1:
        network = RotationAverage(network, turns)
    upright = probabilities(network, test.images.float())
    truth = np.asarray(test.labels)
    found: dict[str, Any] = {"accuracy": [], "change": []}
    for degrees in options.angles:
        scores = probabilities(network, rotate(test.images, math.radians(degrees)))
        found["accuracy"].append(float((scores.argmax(1).numpy() == truth).mean()))
        found["change"].append(float((scores - upright).abs().sum(1).mean() / 2))
    return found


@torch.no_grad()
def probabilities(network: nn.Module, images: Tensor) -> Tensor:
    """Probabilities (B, C) of images (B, 1, H, W)."""
    return torch.cat([network(part).softmax(-1) for part in images.split(200)])


def table(results: dict[str, Any], options: argparse.Namespace) -> str:
    """Accuracy and change at 0, 45 and 90 degrees; mean and half the difference of the seeds."""
    shown = [degrees for degrees in (0, 45, 90) if degrees in options.angles]
    header = [
        "network",
        *(f"accuracy at {degrees}°" for degrees in shown),
        "change at 45°",
        "mean accuracy",
    ]
    lines = [header, ["---"] * len(header)]
    for label in options.networks:
        rows = [results[f"{label}, seed {seed}"] for seed in options.seeds]
        accuracy = np.array([row["accuracy"] for row in rows])  # (seeds, angles)
        change = np.array([row["change"] for row in rows])
        at = [list(options.angles).index(degrees) for degrees in shown]
        cells = [mean(accuracy[:, i], options.test_images) for i in at]
        half = list(options.angles).index(45) if 45 in options.angles else 0
        lines.append([label, *cells, spread(change[:, half]), spread(accuracy.mean(axis=1))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean(values: Any, number: int) -> str:
    """Mean fraction with its binomial error, which all seeds share, and the spread of seeds."""
    found = Measured.fraction(round(float(np.mean(values)) * number), number)
    return f"{found}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def spread(values: Any) -> str:
    """Mean and standard deviation over seeds."""
    return f"{np.mean(values):.3f}" + (
        f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    )


@figure_style()
def draw(results: dict[str, Any], options: argparse.Namespace) -> None:
    """Draw accuracy and change against the angle, mean over seeds."""
    figure, panels = new_figure(6.6, 2, 1)
    styles = line_styles(len(options.networks))
    for style, label in zip(styles, options.networks, strict=True):
        for axes, name in zip(panels, ("accuracy", "change"), strict=True):
            rows = [results[f"{label}, seed {seed}"][name] for seed in options.seeds]
            axes.plot(options.angles, np.mean(rows, axis=0), label=label, **style)
    panels[0].set(ylabel="accuracy", xticks=range(0, 181, 45))
    panels[1].set(ylabel="change of the output", ylim=(0, None), xticks=range(0, 181, 45))
    panels[1].set_xlabel("angle of the test digits in degrees")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8)
    save_figure(figure, options.figure.with_suffix(""))


if __name__ == "__main__":
    main()
