"""Changes of float32 scores under transformations that leave exact scores invariant.

    python benchmarks/symmetry.py --masses    # treatments of masses, no runs needed
    python benchmarks/symmetry.py runs/top_tagging/lorentznet/seed1 runs/top_tagging/pelican/seed1

The first command compares the treatments of masses for massless and massive particles, which are
stored in float32 before and after a boost of gamma = 10 in a random direction. The networks have
random weights and no reference vectors. The second command takes runs of Lorentz-equivariant
networks, such as those of top_tagging.py. Test jets are rotated about the beam axis, and boosted
along it together with the reference vectors of the network. Momenta are stored in float32 before
and after, and the networks compute in float32. If the environment variable PCLOUD_REFERENCE_DATA
names the folder of the reference data, jets of the Landscape sample and the official weights of
LorentzNet are included.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import sys

import numpy as np
import torch
from lorentznet import EdgeListLorentzNet, official_mass, official_model, reference_jets
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import pcloud
from pcloud import kinematics as kin
from pcloud.errors import InputError
from pcloud.models import model_info

ANGLE, VELOCITY = 0.7, (0.0, 0.0, 0.8)  # rad; gamma = 1.67

SYMMETRIC = {  # without reference vectors
    "lorentznet": {"beams": ()},
    "pelican": {"beams": ()},
    "lgatr": {"beams": "none", "time": False},
    "lgatr_slim": {"beams": "none", "time": False},
}
MASSES = {  # GeV
    "massless": (0.0,),
    "e, π, K, p": (0.000511, 0.13957, 0.49368, 0.93827),
    "π": (0.13957,),
    "photons, π": (0.0, 0.13957),
}
SCALES = (3.0, 30.0, 100.0)  # GeV, mean pT of a particle
GAMMA, PARTICLES = 10.0, 40

Jets = tuple[Tensor, Tensor, np.ndarray]  # momenta, jet indices, labels


def trained(folder: str) -> tuple[str, str, nn.Module]:
    """Name, weights and network of a run.

    Raises
    ------
    InputError
        If the network is not Lorentz-equivariant.
    """
    run = pcloud.Run(folder)
    name = run.config.model
    if "Lorentz" not in model_info(name).symmetries:
        raise InputError(f"{folder}: {name} is not Lorentz-equivariant")
    jets = f"{run.config.max_jets or 'all'} jets, {run.config.epochs} epochs"
    return f"`{name}`", jets, run.model().eval()


def references(model: nn.Module) -> list[Tensor]:
    """Reference vectors, which are added to the particles of every jet."""
    return [b for n, b in model.named_buffers() if n.split(".")[-1] in ("beams", "time")]


@torch.inference_mode()
def scores(model: nn.Module, p4: Tensor, batch: Tensor, step: int = 20) -> Tensor:
    """Signal score of each jet, `step` jets at a time."""
    found = []
    for first in range(0, int(batch[-1]) + 1, step):
        own = (batch >= first) & (batch < first + step)
        logits = model(torch.zeros(int(own.sum()), 7), p4[own], batch[own] - first)
        found.append(logits.double().softmax(1)[:, 1])
    return torch.cat(found)


def movement(model: nn.Module, jets: Jets) -> list[str]:
    """AUC, and changes of the score under a rotation and a boost: median / largest."""
    p4, batch, label = jets
    before = scores(model, p4, batch)
    cells = [f"{roc_auc_score(label, before):.3f}"]
    turned = kin.rotate_z(p4.double(), ANGLE).to(p4.dtype)
    cells.append(change(scores(model, turned, batch), before))

    beta = torch.tensor(VELOCITY, dtype=torch.float64)
    moving = copy.deepcopy(model)
    for vectors in references(moving):
        vectors.copy_(kin.boost(vectors.double(), beta))
    boosted = kin.boost(p4.double(), beta).to(p4.dtype)
    return [*cells, change(scores(moving, boosted, batch), before)]


def change(after: Tensor, before: Tensor) -> str:
    difference = (after - before).abs()
    return f"{difference.median():.0e} / {difference.max():.0e}"


def boosted_jets(masses: tuple[float, ...], scale: float, num_jets: int) -> tuple[Tensor, ...]:
    """Momenta in float32 before and after a boost in a random direction, and jet indices."""
    generator = torch.Generator().manual_seed(0)
    real = {"generator": generator, "dtype": torch.float64}
    n = PARTICLES * num_jets
    batch = torch.arange(num_jets).repeat_interleave(PARTICLES)
    eta, phi = torch.randn(2, num_jets, **real)[:, batch] + 0.3 * torch.randn(2, n, **real)
    pt = 0.5 - scale * torch.rand(n, **real).log()
    mass = torch.tensor(masses).double()[torch.randint(len(masses), (n,), generator=generator)]
    p4 = kin.from_pt_eta_phi_mass(pt, eta, phi, mass)
    direction = nn.functional.normalize(torch.randn(num_jets, 3, **real), dim=1)
    boosted = kin.boost(p4, (1 - 1 / GAMMA**2) ** 0.5 * direction[batch])
    return p4.float(), boosted.float(), batch


def compare_masses(num_jets: int) -> None:
    print("| network | particles | mean pT, GeV | stored | regulated |\n|---|---|---|---|---|")
    for name, options in SYMMETRIC.items():
        models = []
        for mass in ("stored", "regulated"):
            torch.manual_seed(0)
            models.append(pcloud.build_model(name, 7, 2, mass=mass, **options).eval())
        for particles, masses in MASSES.items():
            for scale in SCALES:
                before, after, batch = boosted_jets(masses, scale, num_jets)
                cells = [
                    change(scores(model, after, batch), scores(model, before, batch))
                    for model in models
                ]
                row = " | ".join([f"`{name}`", particles, f"{scale:g}", *cells])
                print(f"| {row} |", flush=True)


def samples(num_jets: int) -> dict[str, Jets]:
    """Jets of the embedded test sample, and of the Landscape sample if they are available."""
    test = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:num_jets])
    batch = torch.arange(num_jets).repeat_interleave(test.ptr.diff())
    found = {"embedded": (test.p4, batch, test.y.numpy())}
    if "PCLOUD_REFERENCE_DATA" in os.environ:
        p4, batch, _, label = reference_jets()
        few = batch < num_jets
        found["Landscape"] = (p4[few], batch[few], label[:num_jets])
    return found


def row(network: str, weights: str, model: nn.Module, data: dict[str, Jets]) -> None:
    for jets, values in data.items():
        print(
            f"| {network} | {weights} | {jets} | {' | '.join(movement(model, values))} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="*", help="folders of runs of Lorentz-equivariant networks")
    parser.add_argument("--masses", action="store_true", help="compare treatments of masses")
    parser.add_argument("--jets", type=int, default=200, help="jets of each sample")
    options = parser.parse_args()
    if options.masses:
        compare_masses(options.jets)
        return
    try:
        networks = [trained(folder) for folder in options.runs]
    except InputError as error:
        sys.exit(f"symmetry.py: {error}")
    data = samples(options.jets)
    print(f"torch {torch.__version__}, {platform.machine()}", file=sys.stderr)
    print("| network | weights | jets | AUC | rotation about the beam | boost along the beam |")
    print("|---|---|---|---|---|---|")
    if "PCLOUD_REFERENCE_DATA" in os.environ:
        official = official_model()
        single = copy.deepcopy(official)
        single.mass = official_mass
        row("LorentzNet, all in float32", "official", EdgeListLorentzNet(single).eval(), data)
        row("`lorentznet`, products in float64", "official", official, data)
    for network in networks:
        row(*network, data)


if __name__ == "__main__":
    main()
