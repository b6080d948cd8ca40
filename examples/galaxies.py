"""A small CNN on galaxies or other labelled images: training, evaluation and report from Python.

    python examples/galaxies.py Galaxy10.h5 --model group_cnn --epochs 20

Without a file, the script generates clockwise and anticlockwise spirals. They are mirror images,
which a network that is invariant under reflections (--group p4m) cannot distinguish.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import pcloud
from pcloud.evaluation.figures import save_figure
from pcloud.images import read_images
from pcloud.interpret.cnn_figures import filter_figure, misclassified_figure
from pcloud.report import write_report

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("file", nargs="?", type=Path, help=".npz, .h5, or a folder of pictures")
parser.add_argument("--model", default="group_cnn", help="network on images")
parser.add_argument(
    "--group", default="p4", choices=["p4", "p4m", "c8", "d8"], help="symmetry of a group network"
)
parser.add_argument("--epochs", type=int, default=8, help="epochs")
parser.add_argument(
    "--out", type=Path, default=Path("runs/galaxies_example"), help="folder of the run"
)
options = parser.parse_args()


def made_spirals(number: int, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Noisy spirals with two arms in random orientations, and labels: 1 for anticlockwise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    labels = rng.integers(0, 2, number)
    phase = rng.uniform(0, 2 * np.pi, (number, 1, 1))
    sense = (2 * labels - 1).reshape(-1, 1, 1)
    arms = np.cos(2 * angle + sense * 0.6 * radius + phase) * np.exp(-((radius / 8) ** 2))
    images = 110 * (1 + arms) + rng.normal(0, 20, (number, size, size))
    return images.clip(0, 255).astype(np.uint8), labels


file = options.file
if file is None:
    images, labels = made_spirals(1200)
    file = Path("spirals.npz")
    np.savez(file, images=images, labels=labels, classes=["clockwise", "anticlockwise"])

sample = read_images(file)
for name, number in zip(sample.classes, sample.labels.bincount(), strict=True):
    print(f"{number:6} {name}")

grouped = {"group": options.group} if options.model.startswith("group") else {}
run = pcloud.train(
    data=file,
    model=options.model,
    model_options=grouped,
    out=options.out,
    epochs=options.epochs,
    test_fraction=0.25,
    progress=False,
)
for split in ("train", "test"):
    table = run.evaluate(split=split, num_bootstrap=0)
    print(f"accuracy of the {split} images: {table['accuracy']}")
print(write_report(run.path))

save_figure(filter_figure(run.model()), options.out / "figures" / "filters")
scores = run.predict(sample)
if (scores.argmax(axis=1) != sample.labels.numpy()).any():
    wrong = misclassified_figure(sample.images, sample.labels, scores, run.classes)
    save_figure(wrong, options.out / "figures" / "misclassified")
