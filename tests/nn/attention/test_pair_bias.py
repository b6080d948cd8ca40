"""Features of pairs against vector, and the bias made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vector

from pcloud import kinematics as kin
from pcloud.nn import RaggedLayout
from pcloud.nn.attention.pair_bias import PairBias, interactions
from pcloud.nn.attention.unordered_pairs import UnorderedPairs

pytestmark = pytest.mark.rounding

COUNTS = [1, 7, 0, 30, 2, 29, 5]


def layout_of(counts=COUNTS) -> RaggedLayout:
    return RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0))


def jets(counts=COUNTS, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    pt, eta, phi = torch.rand(3, sum(counts), generator=generator, dtype=torch.float64)
    return kin.from_pt_eta_phi_mass(50 * pt + 0.5, 2 * eta, 3 + 0.8 * phi, torch.tensor(0.14))


def test_interactions_are_those_of_vector():
    p4, pairs = jets(), UnorderedPairs.of(layout_of())
    momenta = vector.array(dict(zip(("E", "px", "py", "pz"), p4.numpy().T, strict=True)))
    a, b = momenta[pairs.first.numpy()], momenta[pairs.second.numpy()]
    delta = a.deltaRapidityPhi(b)
    softer = np.minimum(a.pt, b.pt)
    m2 = (a + b).mass2
    expected = [softer * delta, softer / (a.pt + b.pt), delta, m2]
    expected = torch.from_numpy(np.log(np.maximum(expected, 1e-8))).T
    torch.testing.assert_close(interactions(p4, pairs), expected, rtol=1e-6, atol=1e-6)


def test_collinear_particles_have_the_distance_of_correctly_rounded_angles():
    """An error in the last digit of an angle would be all of their distance."""
    a = jets([1000]).float()
    b = (0.037 * a.double()).float()
    p4 = torch.stack([a, b], dim=1).flatten(0, 1)
    pairs = UnorderedPairs(2 * torch.arange(1000) + 1, 2 * torch.arange(1000), ())
    e, px, py, pz = p4.numpy().T
    phi = np.arctan2(py.astype(np.float64), px).astype(np.float32)
    ratio = 1 + 2 * pz / (e - pz)
    assert ratio.dtype == np.float32
    rapidity = (0.5 * np.log(ratio.astype(np.float64))).astype(np.float32)
    delta = np.hypot(*(x[1::2] - x[::2] for x in (rapidity, phi)))
    expected = torch.from_numpy(np.log(np.maximum(delta, 1e-8)))
    assert 0.1 < (delta == 0).mean() < 0.9
    torch.testing.assert_close(interactions(p4, pairs)[:, 2], expected, rtol=0, atol=1e-5)


def test_single_precision_is_enough_for_all_but_collinear_pairs():
    p4, pairs = jets(), UnorderedPairs.of(layout_of())
    error = (interactions(p4.float(), pairs) - interactions(p4, pairs)).abs()
    apart = pairs.first != pairs.second
    assert error[apart].quantile(0.99) < 1e-3
    assert error[apart].median() < 1e-6


@pytest.mark.parametrize(
    "particle", [[0.0, 0, 0, 0], [5.0, 0, 0, 5.0], [5.0, 0, 0, -5.0], [5.0, 3.0, 0, 4.0]]
)
def test_strange_particles_have_finite_interactions(particle):
    p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], particle])
    assert interactions(p4, UnorderedPairs.of(layout_of([2]))).isfinite().all()


def test_a_particle_is_no_distance_from_itself_and_coinciding_ones():
    p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0]]).expand(2, 4)
    kt, z, delta, _ = interactions(p4, UnorderedPairs.of(layout_of([2]))).T
    lower = torch.full((3,), 1e-8).log()
    assert torch.equal(kt, lower)
    assert torch.equal(delta, lower)
    torch.testing.assert_close(z, torch.full((3,), 0.5).log())


def test_half_precision_momenta_are_taken_in_single():
    p4, pairs = jets().bfloat16(), UnorderedPairs.of(layout_of())
    features = interactions(p4, pairs)
    assert features.dtype == torch.float32
    assert torch.equal(features, interactions(p4.float(), pairs))


def test_statistics_are_taken_over_the_pairs_of_real_particles():
    p4, layout = jets().float(), layout_of()
    bias = PairBias([8], heads=2)
    bias.embed.norms[0].momentum = 1.0
    bias(p4, layout)
    features = interactions(p4, UnorderedPairs.of(layout))
    torch.testing.assert_close(bias.embed.norms[0].running_mean, features.mean(0))
    torch.testing.assert_close(bias.embed.norms[0].running_var, features.var(0))


def test_gradients_flow_where_momenta_want_one_and_in_training_none_does():
    counts = [1, 7, 0, 2, 5]
    p4, pairs = jets(counts), UnorderedPairs.of(layout_of(counts))
    assert not interactions(p4, pairs).requires_grad
    distinct = pairs.first != pairs.second  # a particle with itself is at the lower bounds
    torch.autograd.gradcheck(lambda x: interactions(x, pairs)[distinct], p4.requires_grad_())
