"""Points, digits and jet images as vectors, for examples/vae.py and examples/gan.py."""

import numpy as np
import torch
from sklearn.datasets import load_digits

import pcloud
from pcloud.evaluation.figures import save_figure
from pcloud.evaluation.figures.generators import (
    generator_curves_figure,
    images_figure,
    points_figure,
)
from pcloud.evaluation.generation import spacing, wasserstein
from pcloud.images import JetImages
from pcloud.nn import RaggedLayout

_PIXELS = 12


def load(name):
    """Vectors, their classes, and other vectors of the same kind."""
    if name == "points":
        tables = [pcloud.load_dataset("moons", split, n=4000) for split in ("train", "val")]
        x, other = (torch.tensor(table.matrix(tuple(table.columns))).float() for table in tables)
        mean, spread = x.mean(0), x.std(0)
        return (x - mean) / spread, torch.as_tensor(tables[0].label).long(), (other - mean) / spread
    if name == "digits":
        images, labels = load_digits(return_X_y=True)
        x, label = torch.tensor(images).float() / 16, torch.tensor(labels).long()
        return x[::2], label[::2], x[1::2]
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "val"))
    (batch,) = pcloud.JetLoader(data, len(data))
    images = JetImages(("pt",), pixels=_PIXELS)
    pixels = images(batch.x, batch.p4, RaggedLayout.from_ptr(batch.ptr)).flatten(1)
    shares = pixels / pixels.amax(1, keepdim=True)
    pixels = shares.sqrt()  # the root shows faint pixels
    return pixels[::2], data.y[::2], pixels[1::2]


def compare(x, other, made):
    """Print the Wasserstein distance of each component, on average, and the spacing."""
    real, second, new = (values[: len(other)].numpy() for values in (x, other, made))
    distances = [[wasserstein(b[:, k], s[:, k]) for k in range(b.shape[1])]
                 for b, s in ((second, new), (second, real))]  # fmt: skip
    print("Wasserstein distance {:.4f}, of real samples {:.4f}".format(*np.mean(distances, axis=1)))
    share = spacing(second, new)
    said = "the generator has collapsed" if share < 0.5 else "no collapse"
    print(f"generated vectors are {share:.2f} times as far from each other as real ones: {said}")


def draw(folder, name, curves, x, made, label):
    """Draw the curves of the training, and samples beside real vectors."""
    save_figure(generator_curves_figure(curves), f"{folder}/{name}_curves")
    if x.shape[1] == 2:
        figure = points_figure(x.numpy(), made.numpy(), label.numpy())
    else:
        side = int(x.shape[1] ** 0.5)
        rows = {"real": x[:10], "generated": made[:10]}
        figure = images_figure({n: v.view(-1, side, side).numpy() for n, v in rows.items()})
    save_figure(figure, f"{folder}/{name}")
