"""Sequential recombination against FastJet, and the axes of exclusive subjets."""

from __future__ import annotations

import math

import pytest
import torch

from pcloud import kinematics as kin
from pcloud.errors import UnknownNameError
from pcloud.nn import RaggedLayout
from pcloud.nn.clustering import (
    ALGORITHMS,
    clustering_trees,
    e_scheme,
    exclusive_axes,
    winner_take_all,
)
from tests.models.contract import make_jets

pytestmark = pytest.mark.rounding

COUNTS = [1, 2, 40, 17, 3, 60, 4]


@pytest.fixture(scope="module")
def jets():
    _, p4, batch = make_jets(COUNTS)
    p4 = p4.double()
    p4[4] *= 2  # the contract's coinciding pair would merge in either order
    return p4, RaggedLayout.from_batch(batch)


def fastjet_merges(p4, algorithm, recombination="E_scheme"):
    """Momenta of all pseudojets, in the order in which FastJet makes them."""
    fastjet = pytest.importorskip("fastjet", reason="compares with FastJet")
    scheme = getattr(fastjet, recombination)
    definition = fastjet.JetDefinition(getattr(fastjet, algorithm), 1000.0, scheme)
    particles = [fastjet.PseudoJet(*p[[1, 2, 3, 0]].tolist()) for p in p4]
    sequence = fastjet.ClusterSequence(particles, definition)
    return sequence, [[j.e(), j.px(), j.py(), j.pz()] for j in sequence.jets()]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_pseudojet_is_one_of_fastjet(jets, algorithm):
    p4, layout = jets
    trees = clustering_trees(p4, layout, algorithm)
    momenta = trees.momenta(p4)
    for i, n in enumerate(COUNTS):
        own = momenta[trees.batch == i]
        _, made = fastjet_merges(p4[layout.batch == i], f"{algorithm}_algorithm")
        expected = torch.tensor(made, dtype=torch.float64)
        assert len(own) == len(expected) == 2 * n - 1
        order, expected_order = own[:, 0].argsort(), expected[:, 0].argsort()
        torch.testing.assert_close(own[order], expected[expected_order], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("recombine", "scheme"), [(e_scheme, "E_scheme"), (winner_take_all, "WTA_pt_scheme")]
)
def test_exclusive_axes_are_those_of_fastjet(jets, recombine, scheme):
    p4, layout = jets
    axes = exclusive_axes(p4, layout, 4, recombine=recombine)
    for i, n in enumerate(COUNTS):
        sequence, _ = fastjet_merges(p4[layout.batch == i], "kt_algorithm", scheme)
        for number in range(1, min(n, 4) + 1):
            subjets = sequence.exclusive_jets(number)
            expected = sorted(
                (j.pt(), j.rap(), math.remainder(j.phi(), 2 * math.pi)) for j in subjets
            )
            own = axes[number - 1][i]
            found = sorted(
                zip(*(f(own).tolist() for f in (kin.pt, kin.rapidity, kin.phi)), strict=True)
            )
            for a, b in zip(found, expected, strict=True):
                assert a == pytest.approx(b, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_tree_holds_each_particle_once_under_one_root(jets, algorithm):
    p4, layout = jets
    trees = clustering_trees(p4, layout, algorithm)
    children = trees.children.flatten()
    assert len(children.unique()) == len(children)  # no node has two parents
    every = torch.arange(len(trees.batch))
    assert torch.equal(torch.cat([children, trees.root]).sort().values, every)
    assert torch.equal(trees.batch[trees.children[:, 0]], trees.batch[layout.num_particles :])
    totals = torch.zeros(len(COUNTS), 4, dtype=torch.float64).index_add(0, layout.batch, p4)
    torch.testing.assert_close(trees.momenta(p4)[trees.root], totals)


def test_children_are_made_before_their_parents_and_the_harder_comes_first(jets):
    p4, layout = jets
    trees = clustering_trees(p4, layout, "antikt")
    pt = kin.pt(trees.momenta(p4))[trees.children]
    assert (pt[:, 0] >= pt[:, 1]).all()
    first = layout.num_particles
    for size in trees.levels:
        start = first - layout.num_particles
        assert (trees.children[start : start + size] < first).all()
        first += size
    assert first == len(trees.batch)


def test_the_tree_of_a_jet_does_not_depend_on_the_batch(jets):
    p4, layout = jets
    whole = clustering_trees(p4, layout)
    momenta = whole.momenta(p4)
    for i in range(len(COUNTS)):
        own = layout.batch == i
        alone = clustering_trees(
            p4[own], RaggedLayout.from_batch(torch.zeros_like(layout.batch[own]))
        )
        assert torch.equal(alone.momenta(p4[own]), momenta[whole.batch == i])


def test_an_empty_jet_has_no_root_and_zero_axes(jets):
    p4, _ = jets
    layout = RaggedLayout.from_ptr(torch.tensor([0, 3, 3, 4]))
    trees = clustering_trees(p4[:4], layout)
    assert trees.root.tolist() == [5, -1, 3]
    assert trees.batch.tolist() == [0, 0, 0, 2, 0, 0]
    assert all((axes[1] == 0).all() for axes in exclusive_axes(p4[:4], layout, 2))


def test_an_unknown_algorithm_is_refused_with_the_nearest(jets):
    with pytest.raises(UnknownNameError, match="did you mean 'antikt'"):
        clustering_trees(*jets, "anti-kt")
