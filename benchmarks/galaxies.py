"""Small CNN and ResNet-34 on SDSS galaxies: ordinary, on rotated images, averaged, equivariant.

    python benchmarks/galaxies.py galaxies.npz

Trains each network with each seed in runs/galaxies and prints the table of docs/images.md. Finished
trainings are not repeated, and interrupted ones resume. The accuracy is that of the test images,
unchanged and rotated; its first error is binomial, the second is the standard deviation over seeds.
"handedness" is the fraction of the spirals whose direction is correctly classified when only the
two directions are allowed; a guess gives 0.5.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import pcloud
from pcloud.evaluation.figures.style import figure_style, line_styles, new_figure, save_figure
from pcloud.evaluation.measured import Measured
from pcloud.images import ImageSet, RotationAverage, read_images, rotate
from pcloud.training.data import load_splits

CLASSES = ("elliptical", "clockwise", "anticlockwise", "edge-on", "merger")
SPIRALS = (1, 2)
TURNS = range(0, 361, 30)

TURNED: dict[str, Any] = {"model": "rotated", "model_options": {"network": "cnn"}}
NETWORKS: dict[str, dict[str, Any]] = {
    "CNN": {"model": "cnn"},
    "CNN, trained on rotated images": TURNED,
    "CNN on p4": {"model": "group_cnn", "model_options": {"group": "p4"}},
    "CNN on p4m": {"model": "group_cnn", "model_options": {"group": "p4m"}},
    "CNN on c8": {"model": "group_cnn", "model_options": {"group": "c8"}},
    "ResNet-34": {"model": "resnet34", "batch_size": 32, "epochs": 8},
    "ResNet-34 on p4, equal number of operations": {
        "model": "group_resnet34",
        "model_options": {"group": "p4", "width": 16},
        "batch_size": 32,
        "epochs": 8,
    },
}
AVERAGED = ("CNN", "CNN, trained on rotated images")  # also measured with 4 averaged orientations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="sdss_galaxies_69x69.npz")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/galaxies"), help="folder of the runs"
    )
    parser.add_argument(
        "--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, help="networks"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the CNNs")
    parser.add_argument(
        "--shrink", type=int, default=1, help="side of the squares of pixels that are averaged"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="time after which no run is started"
    )
    parser.add_argument("--figure", type=Path, help="file of the figure of accuracy against angle")
    options = parser.parse_args()
    images = named_images(options.data, options.out, options.shrink)
    began = time.monotonic()
    for seed in options.seeds:
        for name in options.networks:
            if time.monotonic() - began < 60 * options.minutes:
                train_and_measure(name, seed, images, options)
    results = collect(options.out)
    print(table(results))
    if options.figure:
        save_figure(rotation_figure(results), options.figure.with_suffix(""))


def named_images(path: Path, out: Path, shrink: int) -> Path:
    """Write the images with the names of their classes, for runs and reports."""
    sample = read_images(path)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "galaxies.npz"
    images = nn.functional.avg_pool2d(sample.images.float(), shrink).round().byte()
    np.savez(file, images=images, labels=sample.labels, classes=CLASSES)
    return file


def train_and_measure(name: str, seed: int, images: Path, options: argparse.Namespace) -> None:
    folder = options.out / f"{name.replace(' ', '_').replace(',', '')}-{seed}"
    if (folder / "benchmark.json").exists():
        return
    run = pcloud.train(
        **{"epochs": options.epochs, "data": images, "out": folder, "seed": seed} | NETWORKS[name],
        test_fraction=0.3,
        monitor="val_acc",
    )
    train, test = load_splits(run.config, "train", "test")
    measured = [measure(name, run.model(), run, train, test)]
    if name in AVERAGED:
        averaged = RotationAverage(run.model(), 4)
        measured.append(measure(f"{name}, 4 orientations averaged", averaged, run, train, test))
    (folder / "benchmark.json").write_text(json.dumps(measured, indent=1), encoding="utf-8")


def measure(
    name: str, model: nn.Module, run: pcloud.Run, train: ImageSet, test: ImageSet
) -> dict[str, Any]:
    def scores(images: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return torch.cat([model(p).softmax(-1) for p in images.split(128)]).numpy()

    def correct(images: torch.Tensor, labels: torch.Tensor) -> float:
        return float((scores(images).argmax(1) == labels.numpy()).mean())

    @cache
    def correct_at(angle: int) -> float:
        return correct(rotate(test.images.float(), math.radians(angle)), test.labels)

    # A score that is invariant under rotations by 90 degrees is computed for fewer angles.
    period = 360 if name in AVERAGED or name == "ResNet-34" else 90
    spiral = (test.labels == SPIRALS[0]) | (test.labels == SPIRALS[1])
    senses, truth = test.images[spiral], test.labels[spiral].numpy()
    found = scores(senses)[:, list(SPIRALS)].argmax(1) + SPIRALS[0]
    return {
        "name": name,
        "seed": run.config.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": sum(row["seconds"] for row in run.history),
        "train": correct(train.images, train.labels),
        "test": correct(test.images, test.labels),
        "test_images": len(test),
        "handedness": float((found == truth).mean()),
        "spirals": int(spiral.sum()),
        "turned": {angle: correct_at(angle % period) for angle in TURNS},
    }


def collect(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Measurements of each network, in the order of `NETWORKS`."""
    found = [
        m
        for file in out.glob("*/benchmark.json")
        for m in json.loads(file.read_text(encoding="utf-8"))
    ]
    order = [n for name in NETWORKS for n in (name, f"{name}, 4 orientations averaged")]
    return {
        name: sorted((m for m in found if m["name"] == name), key=lambda m: m["seed"])
        for name in order
        if any(m["name"] == name for m in found)
    }


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        ["network", "parameters", "seeds", "training", "test", "test, rotated", "handedness", "s"],
        ["---"] * 8,
    ]
    for name, runs in results.items():
        spins = [np.mean(list(run["turned"].values())) for run in runs]
        lines.append(
            [
                name,
                f"{runs[0]['parameters']:,}",
                str(len(runs)),
                f"{np.mean([run['train'] for run in runs]):.3f}",
                with_errors([run["test"] for run in runs], runs[0]["test_images"]),
                with_errors(spins, runs[0]["test_images"]),
                with_errors([run["handedness"] for run in runs], runs[0]["spirals"]),
                f"{np.mean([run['seconds'] for run in runs]):.0f}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_errors(values: list[float], number: int) -> str:
    """Mean over seeds ± binomial error ± standard deviation over seeds."""
    mean = float(np.mean(values))
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{Measured.fraction(mean * number, number)}{spread}"


@figure_style()
def rotation_figure(results: dict[str, list[dict[str, Any]]]) -> Any:
    figure, (axes,) = new_figure(5.2)
    for style, (name, runs) in zip(line_styles(len(results)), results.items(), strict=True):
        curves = np.array([list(run["turned"].values()) for run in runs])
        axes.plot(list(TURNS), curves.mean(0), label=name, **style)
        if len(runs) > 1:
            spread = curves.std(0, ddof=1)
            low, high = curves.mean(0) - spread, curves.mean(0) + spread
            axes.fill_between(list(TURNS), low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.set(xlabel="rotation of the test images (degrees)", ylabel="accuracy", xlim=(0, 360))
    axes.set_xticks(range(0, 361, 45))
    figure.legend(loc="outside lower center", fontsize=9)
    return figure


if __name__ == "__main__":
    main()
