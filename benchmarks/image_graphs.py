"""Graph networks on the bright pixels of images, compared with CNNs.

    python benchmarks/image_graphs.py jets
    python benchmarks/image_graphs.py digits mnist.npz

``jets``: a CNN on jet images, ParticleNet-Lite on the bright pixels of the same images, and
ParticleNet-Lite on the particles themselves, trained on 4000 jets of the embedded sample with the
short recipe of top_tagging.py. ``digits``: a CNN, and ParticleNet-Lite and DGCNN on the bright
pixels, trained on 4000 digits, upright and rotated. The script prints the tables of docs/images.md:
the first error is due to the number of test images, the second is the standard deviation over
seeds. Finished trainings are not repeated, and interrupted ones resume.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from top_tagging import SHORT

import pcloud
from pcloud.evaluation.measured import Measured
from pcloud.images import (
    JetImages,
    JetImageTagger,
    PixelCloud,
    balanced,
    read_images,
    turn_at_random,
)
from pcloud.training.data import load_splits

# For few steps better than the recipe of ParticleNet.
ONE_CYCLE = {"recipe": "particlenet_lite_original"}
DIGITS: dict[str, dict[str, Any]] = {
    "CNN": {"model": "cnn"},
    "CNN on p4": {"model": "group_cnn", "model_options": {"group": "p4"}},
    "pixels, ParticleNet-Lite": {"model": "pixel_cloud", **ONE_CYCLE},
    "pixels, DGCNN": {"model": "pixel_cloud", "model_options": {"network": "dgcnn"}, **ONE_CYCLE},
}
JETS: dict[str, dict[str, Any]] = {
    "image, CNN": {"model": "image_cnn"},
    "pixels of the image, ParticleNet-Lite": {"model": f"{__file__}:image_graph"},
    "particles, ParticleNet-Lite": {"model": "particlenet_lite"},
}


def image_graph(in_features: int, num_outputs: int = 2) -> JetImageTagger:
    """ParticleNet-Lite on the non-zero pixels of the images that ``image_cnn`` uses."""
    images = JetImages(("pt", "count"))
    return JetImageTagger(images, PixelCloud(2, num_outputs, threshold=0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["jets", "digits"], help="data")
    parser.add_argument(
        "data", type=Path, nargs="?", help="MNIST, for digits: an npz file or a folder of idx files"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/image_graphs"), help="folder of the runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds")
    parser.add_argument("--images", type=int, default=4000, help="training images or jets")
    parser.add_argument("--epochs", type=int, default=6, help="epochs")
    parser.add_argument(
        "--networks", nargs="+", choices=[*JETS, *DIGITS], help="networks (default: all)"
    )
    options = parser.parse_args()
    if options.what == "jets":
        common = SHORT | {"data": "simulated", "max_jets": options.images, "max_val_jets": 500}
        print(table(train_all("jets", JETS, common, options), "AUC"))
        return
    for name in ("upright", "rotated"):
        common = {"data": digits(name, options), "batch_size": 50, "monitor": "val_acc"}
        print(f"\n{name}\n\n{table(train_all(name, DIGITS, common, options), 'accuracy')}")


def digits(name: str, options: argparse.Namespace) -> Path:
    """Write a file with equal numbers of each digit, and 5000 test digits, unless it exists."""
    file = options.out / f"{name}.npz"
    if not file.exists():
        options.out.mkdir(parents=True, exist_ok=True)
        arrays = {}
        for i, (split, number) in enumerate({"train": options.images, "test": 5000}.items()):
            images = balanced(read_images(options.data, split), number, seed=i)
            images = turn_at_random(images, seed=2 + i) if name == "rotated" else images
            arrays |= {f"x_{split}": images.images[:, 0].numpy(), f"y_{split}": images.labels}
        np.savez_compressed(file, **arrays)
    return file


def train_all(
    folder: str, networks: dict[str, Any], common: dict[str, Any], options: argparse.Namespace
) -> dict[str, list[pcloud.Run]]:
    runs: dict[str, list[pcloud.Run]] = {}
    for seed in options.seeds:
        for name, what in networks.items():
            if options.networks and name not in options.networks:
                continue
            out = options.out / folder / f"{name.replace(',', '').replace(' ', '_')}-{seed}"
            run = pcloud.train(**common | what, out=out, seed=seed, epochs=options.epochs)
            runs.setdefault(name, []).append(run)
    return runs


def table(runs: dict[str, list[pcloud.Run]], figure_of_merit: str) -> str:
    lines = [["network", "weights", "seeds", figure_of_merit, "images/s, training"], ["---"] * 5]
    for name, trained in runs.items():
        weights = sum(p.numel() for p in trained[0].model().parameters())
        rate = np.mean([row["jets_per_s"] for run in trained for row in run.history])
        values = with_errors([score(run, figure_of_merit) for run in trained])
        lines.append([name, f"{weights:,}", str(len(trained)), values, f"{rate:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def score(run: pcloud.Run, figure_of_merit: str) -> tuple[float, float]:
    """Value and error from the number of test images."""
    (test,) = load_splits(run.config, "test")
    if figure_of_merit == "accuracy":
        right = float((run.predict(test).argmax(1) == np.asarray(test.labels)).mean())
        return right, math.sqrt(right * (1 - right) / len(test))
    table = pcloud.evaluate(test.label, run.predict(test), classes=run.classes, num_bootstrap=0)
    return table["auc"].value, table["auc"].error


def with_errors(values: list[tuple[float, float]]) -> str:
    found, errors = np.transpose(values)
    spread = f" ± {found.std(ddof=1):.4f}" if len(found) > 1 else ""
    return f"{Measured(float(found.mean()), float(errors.mean()))}{spread}"


if __name__ == "__main__":
    main()
