"""Rotated digits: a dense network, filters in four orientations, and pixels as a graph.

    python examples/digits.py mnist.npz --models dense rotated_dense p4cnn pixel_cloud

Without a file, the script generates images of bars, corners and crosses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import pcloud
from pcloud.images import ImageSet, pixel_graph, read_images, turn_at_random

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument(
    "file", nargs="?", type=Path, help="MNIST: an npz file or a folder of idx files"
)
parser.add_argument(
    "--models", nargs="+", default=["dense", "rotated_dense", "pixel_cloud"], help="models"
)
parser.add_argument("--epochs", type=int, default=4, help="epochs")
parser.add_argument("--images", type=int, default=1000, help="maximum number of images")
options = parser.parse_args()


def made_shapes(number: int, size: int = 28) -> ImageSet:
    """A bar, a corner or a cross near the middle of each image."""
    rng = np.random.default_rng(0)
    images = np.zeros((number, 1, size, size), dtype=np.uint8)
    labels = rng.integers(0, 3, number)
    for image, label in zip(images[:, 0], labels, strict=True):
        row, column = rng.integers(11, 17, 2)
        image[row - 1 : row + 1, column - 8 : column + 8] = 230
        if label == 1:
            image[row : row + 8, column - 8 : column - 6] = 230
        if label == 2:
            image[row - 8 : row + 8, column - 1 : column + 1] = 230
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels), ["bar", "corner", "cross"])


digits = read_images(options.file) if options.file else made_shapes(options.images)
digits = turn_at_random(digits[: options.images])
np.savez("turned.npz", images=digits.images, labels=digits.labels, classes=digits.classes)

graph = pixel_graph(digits.images[:1].float() / 255, k=8, threshold=0.3)
print(f"one image as a graph: {graph}")

for model in options.models:
    run = pcloud.train(
        data="turned.npz",
        model=model,
        out=Path("runs") / f"digits_{model}",
        epochs=options.epochs,
        test_fraction=0.3,
        progress=False,
    )
    table = run.evaluate(num_bootstrap=0)
    parameters = sum(p.numel() for p in run.model().parameters())
    print(f"{model:15} {parameters:9,} parameters, accuracy {table['accuracy']}")
