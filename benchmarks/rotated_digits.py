"""Digits at random positions, and rotated digits: dense networks, CNNs and rotated filters.

    python benchmarks/rotated_digits.py mnist.npz --parts scattered turned
    python benchmarks/rotated_digits.py mnist.npz --parts p4cnn --seeds 0
    python benchmarks/rotated_digits.py --parts quarter turned --images 1400 --test-images 390

Each part creates its images from MNIST with a fixed seed, trains each network with each seed in
runs/digits and prints the table of docs/images.md: the fraction of misclassified test images in
percent, with the binomial error and the standard deviation over seeds. Finished trainings are not
repeated, and interrupted ones resume. The part p4cnn trains on 12 000 rotated digits and tests on
50 000 others. The part quarter turns by multiples of 90 degrees, equal numbers for each class and angle.
Without a file, the digits are those of scikit-learn, enlarged.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import pcloud
from pcloud.evaluation.figures.style import figure_style, line_styles, new_figure, save_figure
from pcloud.evaluation.measured import Measured
from pcloud.images import ImageSet, balanced, read_images, scatter, turn_at_random
from pcloud.training.data import load_splits


@dataclass(frozen=True)
class Part:
    """Images and networks of one part."""

    make: Callable[[argparse.Namespace], dict[str, ImageSet]]
    networks: dict[str, dict[str, Any]]
    training: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "data", nargs="?", type=Path, help="MNIST: an npz file, or a folder of idx files"
    )
    parser.add_argument("--images", type=int, default=10**6, help="most training images")
    parser.add_argument("--test-images", type=int, default=10**6, help="most test images")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="parts")
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds")
    parser.add_argument("--epochs", type=int, help="epochs, instead of those of the part")
    parser.add_argument("--figure", type=Path, help="file of the figure of the training curves")
    options = parser.parse_args()
    for name in options.parts:
        part = PARTS[name]
        runs = train_all(name, part, options)
        print(f"\n{name}\n\n{table(runs)}")
        if options.figure:
            save_figure(curves(runs), options.figure.with_name(f"{options.figure.stem}_{name}"))


def train_all(name: str, part: Part, options: argparse.Namespace) -> dict[str, list[pcloud.Run]]:
    images = options.out / f"{name}.npz"
    if not images.exists():
        images.parent.mkdir(parents=True, exist_ok=True)
        made = part.make(options)
        arrays = {f"x_{split}": sample.images[:, 0].numpy() for split, sample in made.items()}
        arrays |= {f"y_{split}": sample.labels.numpy() for split, sample in made.items()}
        np.savez_compressed(images, **arrays)
    training = part.training | ({"epochs": options.epochs} if options.epochs else {})
    return {
        network: [
            pcloud.train(
                data=images,
                out=options.out / name / f"{network.replace(' ', '_').replace(',', '')}-{seed}",
                seed=seed,
                monitor="val_acc",
                **training | what,
            )
            for seed in options.seeds
        ]
        for network, what in part.networks.items()
    }


def table(runs: dict[str, list[pcloud.Run]]) -> str:
    lines = [["network", "weights", "epochs", "test error, %", "s per epoch"], ["---"] * 5]
    for name, trained in runs.items():
        errors, number = zip(*(test_error(run) for run in trained), strict=True)
        mean = float(np.mean(errors))
        percent = Measured.fraction(mean * number[0], number[0]).scaled(100)
        spread = f" ± {100 * np.std(errors, ddof=1):.2f}" if len(errors) > 1 else ""
        history = trained[0].history
        lines.append(
            [
                name,
                f"{sum(p.numel() for p in trained[0].model().parameters()):,}",
                str(len(history)),
                f"{percent}{spread}",
                f"{np.mean([row['seconds'] for row in history]):.1f}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def test_error(run: pcloud.Run) -> tuple[float, int]:
    (test,) = load_splits(run.config, "test")
    wrong = run.predict(test).argmax(axis=1) != np.asarray(test.labels)
    return float(wrong.mean()), len(wrong)


@figure_style()
def curves(runs: dict[str, list[pcloud.Run]]) -> Any:
    figure, (axes,) = new_figure(4.6)
    for style, (name, trained) in zip(line_styles(len(runs)), runs.items(), strict=True):
        for i, run in enumerate(trained):
            epochs = [row["epoch"] for row in run.history]
            errors = [100 * (1 - row["val_acc"]) for row in run.history]
            axes.plot(epochs, errors, label=None if i else name, alpha=0.9, **style)
    axes.set(xlabel="epoch", ylabel="validation error (%)", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def digits(options: argparse.Namespace, train: int, test: int) -> dict[str, ImageSet]:
    """Digits of a file or the bundled ones, equal numbers of each class, at most as many as wanted."""
    numbers = {"train": min(train, options.images), "test": min(test, options.test_images)}
    seeds = {"train": 1, "test": 3}
    found = {}
    for split, number in numbers.items():
        path = options.data
        sample = read_images(path, split) if path else pcloud.load_dataset("digits", split)
        smallest = int(np.bincount(sample.labels).min()) * 10
        found[split] = balanced(sample, min(number, smallest), seed=seeds[split])
    return found


def scattered(options: argparse.Namespace) -> dict[str, ImageSet]:
    """Digits at random positions in 50x50 pixels: 10 000 for training, 5 000 for testing."""
    found = digits(options, 10_000, 5_000)
    return {
        "train": scatter(found["train"], 50, seed=2),
        "test": scatter(found["test"], 50, seed=4),
    }


def turned(
    options: argparse.Namespace, angles: Literal["any", "quarter"] = "any"
) -> dict[str, ImageSet]:
    """Rotated digits, equal numbers of each class: 12 000 for training, 8 000 for testing."""
    found = digits(options, 12_000, 8_000)
    return {
        "train": turn_at_random(found["train"], 2, angles=angles),
        "test": turn_at_random(found["test"], 4, angles=angles),
    }


def rotated_mnist(options: argparse.Namespace) -> dict[str, ImageSet]:
    """Rotated digits drawn from all 70 000: 12 000 for training, 50 000 others for testing."""
    parts = [read_images(options.data, split) for split in ("train", "test")]
    images = torch.cat([part.images for part in parts])
    labels = torch.cat([part.labels for part in parts])
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(images))[:62_000])
    digits = turn_at_random(ImageSet(images, labels)[order], seed=2)
    return {"train": digits[:12_000], "test": digits[12_000:]}


def _cnn(**options: Any) -> dict[str, Any]:
    return {"model": "cnn", "model_options": options}


_ROTATED: dict[str, dict[str, Any]] = {
    "dense, 100": {"model": "dense"},
    "dense, 400": {"model": "dense", "model_options": {"width": 400}},
    "100 filters in 4 orientations": {"model": "rotated_dense"},
    "100 filters in 4 orientations, largest": {
        "model": "rotated_dense",
        "model_options": {"invariant": True},
    },
}

PARTS = {
    "scattered": Part(
        scattered,
        {
            "dense, 100": {"model": "dense"},
            "dense, 100, dropout": {"model": "dense", "model_options": {"dropout": 0.5}},
            "CNN": _cnn(),
            "CNN, dropout": _cnn(dropout=0.3),
            "CNN, batch norm": _cnn(batch_norm=True),
            "CNN, average pooling": _cnn(pooling="average"),
        },
        {"epochs": 6, "batch_size": 100},
    ),
    "turned": Part(
        turned,
        _ROTATED,
        {"epochs": 15, "batch_size": 100, "lr": 1e-3},
    ),
    "quarter": Part(
        partial(turned, angles="quarter"),
        _ROTATED,
        {"epochs": 15, "batch_size": 100, "lr": 1e-3},
    ),
    "p4cnn": Part(
        rotated_mnist,
        {"P4CNN": {"model": "p4cnn"}, "Z2CNN": {"model": "z2cnn"}},
        {"epochs": 60, "batch_size": 128, "lr": 4e-3, "weight_decay": 1e-4, "val_fraction": 0.05},
    ),
}


if __name__ == "__main__":
    main()
