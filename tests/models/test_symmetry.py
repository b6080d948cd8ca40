"""Lorentz symmetry of the models that have it, and that the others fail the same test."""

from __future__ import annotations

import copy
import functools
import math

import pytest
import torch
from torch import Tensor

import pcloud
from pcloud import kinematics as kin
from pcloud.features import feature_set
from pcloud.models import model_info
from tests.models.contract import VARIANTS, make_jets, make_model

INVARIANT = [name for name in pcloud.list_models() if "Lorentz" in model_info(name).symmetries]
INVARIANT += ["lloca of particlenet"]
OTHERS = [name for name in (*pcloud.list_models(), *VARIANTS) if name not in INVARIANT]
COUNTS = [1, 2, 30, 12]
SYMMETRIC = {  # without references
    "lorentznet": {"beams": (), "num_layers": 3},
    "pelican": {"beams": (), "num_layers": 2},
    "lgatr": {"beams": "none", "time": False, "num_layers": 2},
    "lgatr_slim": {"beams": "none", "time": False, "num_layers": 2},
    "lloca": {"beams": "none", "time": False, "network_options": {"num_layers": 2}},
}
MASSES = torch.tensor([0.000511, 0.13957, 0.49368, 0.93827], dtype=torch.float64)


def lorentz_transformation(gamma: float, seed: int) -> Tensor:
    """Matrix (4, 4) of a rotation and then a boost, both in random directions."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    turn = torch.linalg.qr(normal)[0]
    turn = turn * turn.det()  # a rotation without reflection, which bivectors would not survive
    rotation = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), turn)
    direction = torch.nn.functional.normalize(normal[0], dim=0)
    beta = math.sqrt(1 - 1 / gamma**2) * direction
    return kin.boost(rotation.T, beta).T


@functools.cache
def random_model(name: str) -> torch.nn.Module:
    return make_model(name).double()


def references(model: torch.nn.Module) -> list[Tensor]:
    """The four-vectors (K, 4) that stand beside the particles of every jet."""
    return [b for n, b in model.named_buffers() if n.split(".")[-1] in ("beams", "time")]


@torch.no_grad()
def change(name: str, gamma: float, seed: int = 0, *, with_references: bool = True) -> float:
    """Largest change of a logit of random weights when jets, and references, are transformed."""
    model = copy.deepcopy(random_model(name))
    matrix = lorentz_transformation(gamma, seed)
    _, p4, batch = make_jets(COUNTS)
    p4 = p4.double()
    before = model(feature_set("kin")(p4, batch), p4, batch)
    p4 = p4 @ matrix.T
    if with_references:
        for buffer in references(model):
            buffer.copy_(buffer @ matrix.T)
    return (model(feature_set("kin")(p4, batch), p4, batch) - before).abs().max().item()


def test_transformations_keep_minkowski_products():
    for gamma in (1.0, 10.0):
        matrix = lorentz_transformation(gamma, 0)
        metric = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64).diag()
        torch.testing.assert_close(matrix.T @ metric @ matrix, metric, atol=1e-12, rtol=0)
        assert matrix[0, 0].item() == pytest.approx(gamma)


@pytest.mark.rounding
@pytest.mark.parametrize("gamma", [1.0, 1.5, 10.0])
@pytest.mark.parametrize("name", INVARIANT)
def test_scores_are_lorentz_invariant(name, gamma):
    assert max(change(name, gamma, seed) for seed in range(3)) < 1e-8


@pytest.mark.parametrize("name", INVARIANT)
def test_the_references_take_part(name):
    assert change(name, gamma=1.5, with_references=False) > 1e-4


@pytest.mark.rounding
@pytest.mark.parametrize("name", OTHERS)
def test_models_without_the_symmetry_fail_the_test(name):
    assert change(name, gamma=1.5) > 1e-3


def stored_jets(masses: Tensor, scale: float, num_jets: int) -> tuple[Tensor, Tensor, Tensor]:
    """Jets of 30 particles with pT of order `scale` in GeV, and boosted ones, in float32."""
    generator = torch.Generator().manual_seed(0)
    n = 30 * num_jets
    batch = torch.arange(num_jets).repeat_interleave(30)
    shape, real = (2, n), {"generator": generator, "dtype": torch.float64}
    axis = torch.randn(2, num_jets, **real)[:, batch]
    eta, phi = axis + 0.3 * torch.randn(shape, **real)
    pt = 0.5 - scale * torch.rand(n, **real).log()
    mass = masses[torch.randint(len(masses), (n,), generator=generator)]
    p4 = kin.from_pt_eta_phi_mass(pt, eta, phi, mass)
    direction = torch.nn.functional.normalize(torch.randn(num_jets, 3, **real), dim=1)
    boosted = kin.boost(p4, math.sqrt(1 - 1 / 10**2) * direction[batch])
    return p4.float(), boosted.float(), batch


@torch.no_grad()
def change_in_float32(name: str, mass: str, jets: tuple[Tensor, Tensor, Tensor]) -> float:
    """Root mean square change of the logits of random weights, which are in float32."""
    p4, boosted, batch = jets
    torch.manual_seed(0)
    model = pcloud.build_model(name, 7, 2, mass=mass, **SYMMETRIC[name]).eval()
    x = p4.new_zeros(len(p4), 7)
    before, after = (model(x, momenta, batch).double() for momenta in (p4, boosted))
    return (after - before).square().mean().sqrt().item()


@pytest.mark.rounding
@pytest.mark.parametrize("scale", [3.0, 30.0, 100.0])
@pytest.mark.parametrize("masses", [MASSES, MASSES[1:2]], ids=["mixture", "pions"])
@pytest.mark.parametrize("name", SYMMETRIC)
def test_regulated_masses_of_massive_particles_move_scores_no_more_than_stored_ones(
    name, masses, scale
):
    jets = stored_jets(masses, scale, num_jets=12)
    regulated, stored = (change_in_float32(name, mass, jets) for mass in ("regulated", "stored"))
    assert regulated < 1.5 * stored + 1e-6


@pytest.mark.rounding
@pytest.mark.parametrize("name", ["lorentznet", "pelican"])
def test_regulated_masses_of_massless_particles_move_scores_far_less_than_stored_ones(name):
    jets = stored_jets(torch.zeros(1, dtype=torch.float64), 30.0, num_jets=12)
    regulated, stored = (change_in_float32(name, mass, jets) for mass in ("regulated", "stored"))
    assert regulated < 0.02 * stored
