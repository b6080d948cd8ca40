"""Minkowski geometry: masses, products and reference vectors."""

from __future__ import annotations

import pytest
import torch

from pcloud import kinematics as kin
from pcloud.errors import UnknownNameError
from pcloud.nn import RaggedLayout
from pcloud.nn.lorentz.minkowski import (
    mass_treatment,
    pair_products,
    psi,
    regulated_mass,
    stored_mass,
    sum_differences,
    with_references,
    zero_mass,
)
from pcloud.nn.pairs.blocks import PairBlocks

pytestmark = pytest.mark.rounding


def particles(pt, mass, n=500, seed=0):
    generator = torch.Generator().manual_seed(seed)
    eta, phi = torch.randn(2, n, generator=generator, dtype=torch.float64)
    pt, mass = (torch.full_like(eta, value) for value in (pt, mass))
    return kin.from_pt_eta_phi_mass(pt, eta, phi, mass)


def test_psi_is_odd_and_linear_near_zero():
    x = torch.tensor([-1e6, -1.0, -1e-9, 0.0, 1e-9, 1.0, 1e6], dtype=torch.float64)
    assert torch.equal(psi(-x), -psi(x))
    torch.testing.assert_close(psi(x[4]), x[4])
    torch.testing.assert_close(psi(x[-1]), torch.log1p(x[-1]))


def pairs_of(*counts):
    return PairBlocks.of(RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0)))


def test_products_are_those_of_a_loop():
    p4, pairs = particles(20.0, 1.0, n=12), pairs_of(6, 6)
    (products,) = pairs.pairs_by_block(pair_products(pairs.gather(p4), pairs))
    p4 = p4.view(2, 6, 4)
    for i in range(6):
        for j in range(6):
            a, b = p4[:, i], p4[:, j]
            torch.testing.assert_close(products[:, i, j, 1], kin.minkowski_dot(a, b))
            torch.testing.assert_close(products[:, i, j, 0], kin.mass2(a - b), rtol=1e-9, atol=1e-9)


def test_products_survive_a_boost_in_float64_but_not_in_float32():
    p4, pairs = particles(20.0, 0.14, n=50), pairs_of(50)
    beta = torch.tensor([0.6, -0.5, 0.55], dtype=torch.float64)
    exact, boosted = pair_products(p4, pairs), pair_products(kin.boost(p4, beta), pairs)
    torch.testing.assert_close(boosted, exact, rtol=1e-9, atol=1e-7)
    assert (pair_products(p4.float(), pairs) - exact).abs().max() > 1e-3


def test_sum_of_differences_is_that_of_a_loop():
    p4, pairs = particles(20.0, 1.0, n=6), pairs_of(6)
    weight = torch.randn(6, 6, dtype=torch.float64)
    differences = p4.unsqueeze(1) - p4.unsqueeze(0)
    expected, weight = (weight.unsqueeze(-1) * differences).sum(1), weight.flatten()
    torch.testing.assert_close(sum_differences(p4, weight, pairs), expected)
    torch.testing.assert_close(sum_differences(p4, weight, pairs, limit=1e9), expected)
    bounded = (weight.view(6, 6, 1) * differences).clamp(-5, 5).sum(1)
    torch.testing.assert_close(sum_differences(p4, weight, pairs, limit=5.0), bounded)


def test_stored_masses_are_those_of_the_momenta():
    p4 = particles(20.0, 0.14)
    same, mass = stored_mass(p4)
    assert torch.equal(same, p4)
    torch.testing.assert_close(mass, kin.mass(p4))


def test_zero_masses_leave_the_momentum():
    p4, mass = zero_mass(particles(20.0, 0.5))
    assert not mass.any()
    torch.testing.assert_close(p4[:, 1:], particles(20.0, 0.5)[:, 1:])
    assert (kin.mass2(p4).abs() < 1e-15 * p4[:, 0] ** 2).all()


@pytest.mark.parametrize("pt", [0.5, 20.0, 500.0])
def test_regulated_masses_ignore_the_rounding_of_massless_particles(pt):
    p4 = particles(pt, 0.0).float()
    momenta, mass = regulated_mass(p4)
    assert momenta.dtype == mass.dtype == torch.float64
    assert (mass - 5e-3).abs().max() < 1e-5
    noise, kept = kin.mass2(p4.double()).abs(), kin.mass2(momenta).abs()
    assert kept.max() < 1e-6 * noise.max()


def test_regulated_masses_ignore_the_rounding_before_a_boost():
    """The noise of 20 GeV in a frame of 1 GeV is far above the precision there."""
    p4 = particles(20.0, 0.0).float().double()
    slow = kin.boost(p4, torch.tensor([0.0, 0.0, 0.995], dtype=torch.float64)).float()
    rounding = torch.finfo(torch.float32).eps * slow[:, 0].double() ** 2
    assert (kin.mass2(slow.double()) > 20 * rounding).any()
    assert (regulated_mass(slow)[1] - 5e-3).abs().max() < 1e-5
    assert (regulated_mass(p4)[1] - 5e-3).abs().max() < 1e-5  # float32 passed on as float64


def test_regulated_masses_are_those_stored_where_a_mass_is_resolved():
    massive = particles(2.0, 0.14)
    momenta, mass = regulated_mass(massive)
    torch.testing.assert_close(momenta, massive, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(mass, torch.full_like(mass, (0.14**2 + 5e-3**2) ** 0.5))
    fast = particles(300.0, 0.14, n=5)
    mixed = torch.cat([massive, fast]).float()
    momenta, _ = regulated_mass(mixed)
    positive = kin.mass2(mixed.double()) >= 0
    assert positive[-5:].any()
    torch.testing.assert_close(momenta[positive], mixed[positive].double(), rtol=1e-15, atol=0)


def test_a_resolved_mass_counts_in_its_own_jet_alone():
    p4 = torch.cat([particles(2.0, 0.14, n=3), particles(300.0, 0.0, n=4)]).float()
    layout = RaggedLayout.from_ptr(torch.tensor([0, 3, 3, 7]))
    momenta, mass = regulated_mass(p4, layout)
    assert (mass[:3] - 0.14).abs().max() < 1e-3
    assert (mass[3:] - 5e-3).abs().max() < 1e-9
    torch.testing.assert_close(momenta[3:], zero_mass(p4[3:])[0])


def test_regulated_masses_have_finite_gradients():
    p4 = torch.cat([particles(500.0, 0.0, n=50), particles(1.0, 0.14, n=50), torch.zeros(1, 4)])
    p4 = p4.float().requires_grad_()
    momenta, mass = regulated_mass(p4)
    (gradient,) = torch.autograd.grad(momenta.sum() + mass.sum(), p4)
    assert gradient.isfinite().all()


def test_treatments_of_masses_have_names():
    assert mass_treatment("zero") is mass_treatment(zero_mass) is zero_mass
    with pytest.raises(UnknownNameError, match="did you mean 'regulated'"):
        mass_treatment("regular")


@pytest.mark.parametrize("counts", [[3, 0, 5, 1], [0, 0], [40, 40, 17, 0, 39, 2], [1]])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_references_stand_before_the_particles_of_each_jet(counts, count):
    batch = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    layout = RaggedLayout.from_batch(batch, len(counts))
    nodes, order = with_references(layout, count)
    n = len(batch)
    assert nodes.counts.tolist() == [c + count for c in counts]
    names = torch.cat([torch.arange(n), -1 - torch.arange(count).repeat(len(counts))])[order]
    for i, own in enumerate(names.split(nodes.counts.tolist())):
        assert own[:count].tolist() == [-1 - r for r in range(count)]
        assert own[count:].tolist() == torch.arange(n)[batch == i].tolist()
    assert torch.equal(nodes.batch, torch.arange(len(counts)).repeat_interleave(nodes.counts))
    assert nodes.num_pairs == sum((c + count) * (c + count + 1) // 2 for c in counts)
    if nodes.blocks:
        assert torch.equal(nodes.flatten(list(nodes.gather(names))), names)
    real = [block.index[block.mask] for block in nodes.blocks]
    assert sorted(torch.cat(real).tolist() if real else []) == list(range(nodes.num_particles))
