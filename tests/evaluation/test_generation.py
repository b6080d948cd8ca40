"""Distances of generated jets: known values, brute force, and the number of multigraphs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import pcloud
from pcloud.errors import InputError
from pcloud.evaluation.energy_flow import connected_multigraphs, energy_flow_polynomials
from pcloud.evaluation.generation import (
    compare_samples,
    coverage,
    frechet_distance,
    frechet_limit,
    kernel_distance,
    spacing,
    wasserstein,
)
from pcloud.io.jets import FlatJets
from pcloud.observables import correlators, momenta_and_layout


def test_multigraphs_are_counted_as_in_the_paper():
    numbers = [len(graph) for graph in connected_multigraphs(5)]
    # connected loopless multigraphs by edges, https://oeis.org/A076864
    assert [numbers.count(d) for d in range(1, 6)] == [1, 2, 5, 12, 33]
    with pytest.raises(InputError, match="between 1 and 5"):
        connected_multigraphs(6)


@pytest.fixture(scope="module")
def jets():
    sample = pcloud.load_dataset("simulated", "test")
    few = sample[[len(jet) <= 12 for jet in sample.p4.E.tolist()]][:3]
    return momenta_and_layout(FlatJets.from_awkward(few))


def test_polynomials_are_their_sums(jets):
    p4, layout = jets
    graphs = connected_multigraphs(4)
    found = energy_flow_polynomials(p4, layout)
    assert found.shape == (3, 35)
    first, last = layout.ptr[0], layout.ptr[1]
    own = p4[first:last].numpy()
    pt, y, phi = (
        np.hypot(own[:, 1], own[:, 2]),
        np.arctanh(own[:, 3] / own[:, 0]),
        np.arctan2(own[:, 2], own[:, 1]),
    )
    z = pt / pt.sum()
    dphi = (phi[:, None] - phi + np.pi) % (2 * np.pi) - np.pi
    angle = np.hypot(y[:, None] - y, dphi)
    for column, graph in enumerate(graphs):
        vertices = max(v for edge in graph for v in edge) + 1
        if vertices > 4:
            continue
        total = 0.0
        for i in itertools.product(range(len(z)), repeat=vertices):
            total += np.prod(z[list(i)]) * np.prod([angle[i[a], i[b]] for a, b in graph])
        assert found[0, column].item() == pytest.approx(total, rel=1e-5, abs=1e-12)
    e2, e3 = correlators(p4, layout)
    assert torch.allclose(found[:, 0] / 2, e2, rtol=1e-5)
    triangle = graphs.index(((0, 1), (0, 2), (1, 2)))
    assert torch.allclose(found[:, triangle] / 6, e3, rtol=1e-5)


def test_the_frechet_distance_of_gaussians_is_known():
    generator = np.random.default_rng(0)
    a = generator.normal(size=(40_000, 2)) * [1.0, 2.0]
    b = generator.normal(size=(40_000, 2)) * [1.0, 3.0] + [0.5, 0.0]
    assert frechet_distance(a, b) == pytest.approx(0.25 + 1.0, rel=0.05)
    assert frechet_limit(a, b).value == pytest.approx(1.25, rel=0.1)
    # the bias of finite samples of one distribution is gone in the limit
    x, y = generator.normal(size=(2, 2000, 8))
    assert abs(frechet_limit(x, y).value) < 0.6 * frechet_distance(x[:800], y[:800])


def test_the_kernel_distance_has_no_bias():
    generator = np.random.default_rng(1)
    found = [kernel_distance(*generator.normal(size=(2, 300, 3)), seed=i).value for i in range(20)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(20)
    shifted = generator.normal(size=(300, 3)) + 1.0
    assert kernel_distance(generator.normal(size=(300, 3)), shifted).value > 5 * np.std(found)
    assert wasserstein(np.zeros(5), np.ones(5)) == 1.0


def test_floors_are_those_of_real_samples_and_errors_are_right():
    generator = np.random.default_rng(2)
    real, good = generator.normal(size=(2, 1000, 2))
    bad = good * [1.0, 1.3]
    polynomials = tuple(np.abs(generator.normal(size=(1000, 3))) for _ in range(2))
    rows = {d.quantity: d for d in compare_samples("x", real, good, ["a", "b"], polynomials)}
    assert list(rows) == ["a", "b", "coverage", "FPD", "KPD"]
    for name in ("a", "b"):
        assert abs(rows[name].ratio.value - 1) < 4 * rows[name].ratio.error
    worse = {d.quantity: d for d in compare_samples("x", real, bad, ["a", "b"], polynomials)}
    # scipy: the distance of Gaussians of one mean is 0.3 sqrt(2 / pi)
    assert worse["b"].distance.value == pytest.approx(0.3 * np.sqrt(2 / np.pi), rel=0.25)
    assert worse["b"].ratio.value > 3
    assert worse["a"].distance.value == rows["a"].distance.value


def test_a_collapse_is_seen():
    generator = np.random.default_rng(3)
    real, good = generator.normal(size=(2, 500, 4))
    same = np.repeat(real[:5], 100, axis=0) + 1e-3 * generator.normal(size=(500, 4))
    assert coverage(real, good) > 0.9
    assert spacing(real, good) == pytest.approx(1.0, abs=0.15)
    assert coverage(real, same) < 0.1
    assert spacing(real, same) < 0.1
