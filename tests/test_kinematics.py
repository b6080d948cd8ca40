"""Kinematics against scikit-hep's vector, closed forms and symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import vector
from hypothesis import given
from hypothesis import strategies as st

from pcloud import kinematics as kin

pytestmark = pytest.mark.rounding

AWKWARD_CASES = {
    "massless": [5.0, 3.0, 0.0, 4.0],
    "at rest": [2.0, 0.0, 0.0, 0.0],
    "along the beam": [5.0, 0.0, 0.0, 4.0],
    "against the beam": [5.0, 0.0, 0.0, -4.0],
    "massless on the beam": [5.0, 0.0, 0.0, 5.0],
    "at phi = pi": [5.0, -3.0, 0.0, 1.0],
    "at phi = -pi": [5.0, -3.0, -0.0, 1.0],
    "just below pi": [5.0, -3.0, 1e-12, 1.0],
    "nothing": [0.0, 0.0, 0.0, 0.0],
}
FUNCTIONS = ["pt", "pt2", "eta", "phi", "rapidity", "mass", "momentum", "energy"]
VECTOR_NAMES = {"momentum": "p", "energy": "E"}


def random_momenta(n: int, seed: int = 0, mass: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    p = torch.randn(n, 3, generator=generator, dtype=torch.float64) * 50
    e = (p.square().sum(-1) + mass**2).sqrt()
    return torch.cat([e[:, None], p], dim=-1)


def as_vector(p4: torch.Tensor) -> vector.VectorNumpy4D:
    e, px, py, pz = p4.numpy().T
    return vector.array({"E": e, "px": px, "py": py, "pz": pz})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_random_momenta_agree_with_vector(name):
    p4 = random_momenta(10_000)
    expected = getattr(as_vector(p4), VECTOR_NAMES.get(name, name))
    rtol = 1e-10 if name == "mass" else 1e-12  # E^2 - p^2 cancels by three digits
    np.testing.assert_allclose(getattr(kin, name)(p4).numpy(), expected, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", AWKWARD_CASES)
def test_awkward_momenta_agree_with_vector(name, case):
    p4 = torch.tensor([AWKWARD_CASES[case]], dtype=torch.float64)
    with np.errstate(all="ignore"):
        expected = getattr(as_vector(p4), VECTOR_NAMES.get(name, name))
    if name == "rapidity" and case in ("nothing",):
        expected = np.zeros(1)  # vector: 0/0
    np.testing.assert_allclose(getattr(kin, name)(p4).numpy(), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", AWKWARD_CASES)
def test_gradients_are_finite_everywhere(name, case):
    p4 = torch.tensor([AWKWARD_CASES[case]], dtype=torch.float64, requires_grad=True)
    getattr(kin, name)(p4).nan_to_num(posinf=0.0, neginf=0.0).sum().backward()
    assert p4.grad.isfinite().all()


@pytest.mark.parametrize("name", ["pt", "eta", "phi", "rapidity", "mass", "momentum"])
def test_gradients_are_those_of_finite_differences(name):
    p4 = random_momenta(20, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(getattr(kin, name), (p4,))


def test_delta_r_of_coinciding_particles_has_a_gradient():
    p4 = random_momenta(5)
    a, b = p4.clone().requires_grad_(), p4.clone()
    kin.delta_r(a, b).sum().backward()
    assert a.grad.isfinite().all()


def test_distances_agree_with_vector():
    a, b = random_momenta(5_000, 1), random_momenta(5_000, 2)
    va, vb = as_vector(a), as_vector(b)
    np.testing.assert_allclose(kin.delta_r(a, b).numpy(), va.deltaR(vb), rtol=1e-11)
    np.testing.assert_allclose(kin.delta_phi(a, b).numpy(), va.deltaphi(vb), atol=1e-14)
    np.testing.assert_allclose(kin.minkowski_dot(a, b).numpy(), va.dot(vb), rtol=1e-9)


def test_azimuths_across_pi_are_close():
    angles = torch.tensor([math.pi - 0.01, -math.pi + 0.01], dtype=torch.float64)
    a, b = kin.from_pt_eta_phi_mass(torch.ones(2).double(), torch.zeros(2).double(), angles)[
        :, None
    ]
    torch.testing.assert_close(kin.delta_phi(a, b), torch.tensor([-0.02]).double())
    torch.testing.assert_close(kin.delta_r(a, b), torch.tensor([0.02]).double())


@given(st.floats(-100, 100))
def test_wrapped_angles_are_the_same_direction(angle):
    wrapped = kin.wrap_phi(torch.tensor(angle, dtype=torch.float64)).item()
    assert -math.pi <= wrapped < math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-12)
    assert math.sin(wrapped) == pytest.approx(math.sin(angle), abs=1e-12)


@pytest.mark.parametrize("maker", [kin.from_pt_eta_phi_mass, kin.from_pt_rapidity_phi_mass])
def test_momenta_are_rebuilt_from_their_coordinates(maker):
    p4 = random_momenta(1_000, mass=5.0)
    polar = kin.eta(p4) if maker is kin.from_pt_eta_phi_mass else kin.rapidity(p4)
    rebuilt = maker(kin.pt(p4), polar, kin.phi(p4), kin.mass(p4))
    torch.testing.assert_close(rebuilt, p4, rtol=1e-9, atol=1e-9)


def test_boost_agrees_with_vector():
    p4 = random_momenta(1_000)
    beta = torch.tensor([0.3, -0.5, 0.7], dtype=torch.float64)
    boosted = as_vector(p4).boost(vector.obj(x=0.3, y=-0.5, z=0.7))
    expected = np.stack([boosted.E, boosted.px, boosted.py, boosted.pz], -1)
    np.testing.assert_allclose(kin.boost(p4, beta).numpy(), expected, rtol=1e-10, atol=1e-9)


def test_boost_keeps_products_and_turns_back():
    a, b = random_momenta(500, 1), random_momenta(500, 2)
    beta = torch.tensor([0.0, 0.6, 0.79], dtype=torch.float64)  # gamma = 8
    product = kin.minkowski_dot(kin.boost(a, beta), kin.boost(b, beta))
    torch.testing.assert_close(product, kin.minkowski_dot(a, b), rtol=1e-8, atol=1e-7)
    torch.testing.assert_close(kin.boost(kin.boost(a, beta), -beta), a, rtol=1e-10, atol=1e-9)


def test_boost_by_nothing_changes_nothing():
    p4 = random_momenta(10)
    torch.testing.assert_close(kin.boost(p4, torch.zeros(3).double()), p4)
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\)"):
        kin.boost(p4, torch.zeros(4).double())


def test_rotation_about_the_beam_adds_to_the_azimuth():
    p4 = random_momenta(100)
    turned = kin.rotate_z(p4, 0.7)
    torch.testing.assert_close(
        kin.delta_phi(turned, p4), torch.full((100,), 0.7, dtype=torch.float64)
    )
    torch.testing.assert_close(kin.eta(turned), kin.eta(p4))


def test_mass_is_the_known_one():
    for m in (0.0, 0.14, 5.0):
        torch.testing.assert_close(
            kin.mass2(random_momenta(1_000, mass=m)),
            torch.full((1_000,), m**2, dtype=torch.float64),
            rtol=0,
            atol=1e-10,
        )


def test_rapidity_keeps_its_digits_in_float32_far_forward():
    p4 = random_momenta(1_000, mass=0.14)
    p4 = kin.boost(p4, torch.tensor([0.0, 0.0, 0.995], dtype=torch.float64))
    stored = p4.float()
    error = (kin.rapidity(stored).double() - kin.rapidity(stored.double())).abs()
    assert error.max() < 2e-6
