"""Generative adversarial network of points, digits or jet images, with the class as condition.

    python examples/gan.py [points | digits | jets] [--kind textbook | wasserstein] [--steps 3000]

Prints the mean output of the discriminator, which tends to 0.5 for real and generated vectors where
neither network can improve, or the distance that the critic measures, and compares the vectors as
examples/vae.py does; draws curves and samples in the folder `gan`.
"""

import argparse

import numpy as np
import torch
from small_vectors import compare, draw, load

from pcloud.generative import GAN, fit_generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?", default="points", choices=["points", "digits", "jets"])
    parser.add_argument("--kind", default="textbook", choices=["textbook", "wasserstein"])
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    x, label, other = load(options.data)
    bounded = options.data != "points"
    shape = {"code": 4, "widths": (64, 64)} if not bounded else {}
    torch.manual_seed(0)
    model = GAN(x.shape[1], int(label.max()) + 1, kind=options.kind, bounded=bounded, **shape)
    curves = fit_generator(model, x, label, steps=options.steps, batch_size=256, lr=1e-3)
    for name, values in curves.items():
        print(f"{name}: {np.mean(values[-100:]):.3f} in the last 100 steps")
    made = model.sample(label)
    compare(x, other, made)
    draw("gan", f"{options.data}_{options.kind}", curves, x, made, label)


if __name__ == "__main__":
    main()
