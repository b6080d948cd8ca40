"""An input of your own is one function: this file registers one and trains with it.

    python examples/my_feature.py [--epochs 3]

A feature takes the particles of a batch, `p4 (N, 4)` in GeV, `jet (N, 4)`, `pt (N,)`, and further
columns in `extras`, and returns one value per particle. It is computed in torch, so that gradients
flow to the momenta.
"""

import argparse

from torch import Tensor

import pcloud
from pcloud.features import Particles


@pcloud.register_feature("log_mt", shift=1.7, scale=0.7, low=-5.0, high=5.0)
def log_mt(particles: Particles) -> Tensor:
    """Logarithm of the transverse mass in GeV, sqrt(E^2 - pz^2), of each particle."""
    energy, pz = particles.p4[:, 0], particles.p4[:, 3]
    return (energy**2 - pz**2).clamp(min=1e-12).log() / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--jets", type=int, default=5000, help="number of training jets")
    parser.add_argument("--out", default="runs/my_feature")
    options = parser.parse_args()
    run = pcloud.train(
        data="simulated",
        model="pfn",
        features=[*pcloud.feature_set("kin").names, "log_mt"],
        max_jets=options.jets,
        epochs=options.epochs,
        batch_size=128,
        out=options.out,
    )
    print(run.feature_set.names)


if __name__ == "__main__":
    main()
