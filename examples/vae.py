"""Variational autoencoder of points, digits or jet images, with the class as condition.

    python examples/vae.py [points | digits | jets] [--steps 3000] [--code 2]

Prints the two terms of the loss, unused components of the code, and the distance of generated from
real vectors beside that of two real samples; draws curves and samples in the folder `vae`.
"""

import argparse

import torch
from small_vectors import compare, draw, load

from pcloud.generative import VAE, fit_generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?", default="points", choices=["points", "digits", "jets"])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--code", type=int, help="components of the code")
    options = parser.parse_args()
    x, label, other = load(options.data)
    bounded = options.data != "points"
    code = options.code or (10 if bounded else 2)
    torch.manual_seed(0)
    model = VAE(x.shape[1], int(label.max()) + 1, code=code, bounded=bounded)
    curves = fit_generator(model, x, label, steps=options.steps, lr=2e-3)
    print(f"error {curves['error'][-1]:.3f}, divergence {curves['divergence'][-1]:.3f} nats")
    print(f"{model.unused(x, label)} of {code} components of the code are unused")
    made = model.sample(label)
    compare(x, other, made)
    draw("vae", options.data, curves, x, made, label)


if __name__ == "__main__":
    main()
