"""Unordered pairs against a double loop."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from pcloud.nn import RaggedLayout
from pcloud.nn.attention.unordered_pairs import UnorderedPairs

COUNTS = [1, 7, 0, 30, 2, 29, 5]


def layout_of(counts=COUNTS) -> RaggedLayout:
    return RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20))
def test_every_pair_of_a_jet_is_listed_once(counts):
    layout = layout_of(counts)
    pairs = UnorderedPairs.of(layout)
    expected = [
        (j, i)
        for a, b in itertools.pairwise(layout.ptr.tolist())
        for i, j in itertools.combinations_with_replacement(range(a, b), 2)
    ]
    assert sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == sorted(expected)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20))
def test_every_two_slots_know_their_pair(counts):
    layout = layout_of(counts)
    pairs = UnorderedPairs.of(layout)
    m = layout.num_pairs
    for block, index in zip(layout.blocks, pairs.index, strict=True):
        assert torch.equal(index == m, ~block.mask.unsqueeze(1).expand_as(index))
        both = block.mask.unsqueeze(1) & block.mask.unsqueeze(2)
        rows, columns = (block.index.unsqueeze(d).expand_as(index)[both] for d in (2, 1))
        assert torch.equal(pairs.first[index[both]], torch.maximum(rows, columns))
        assert torch.equal(pairs.second[index[both]], torch.minimum(rows, columns))


def test_pairs_spread_to_both_orders_and_padding_to_minus_infinity():
    layout = layout_of()
    pairs = UnorderedPairs.of(layout)
    x = torch.randn(layout.num_pairs, 3)
    for block, dense in zip(layout.blocks, pairs.spread(x), strict=True):
        real = block.mask[:, None, None, :].expand_as(dense)
        assert (dense[~real] == -torch.inf).all()
        both = real & block.mask[:, None, :, None]
        assert torch.equal(dense.where(both, 0), dense.mT.where(both, 0))


def test_the_gradient_of_a_pair_is_the_sum_over_both_orders():
    layout = layout_of([2, 1, 4, 3])
    pairs = UnorderedPairs.of(layout)
    x = torch.randn(layout.num_pairs, 2, dtype=torch.float64, requires_grad=True)

    def real(x):  # queries in empty slots have no gradient
        queries = [block.mask[:, None, :, None] for block in layout.blocks]
        dense = zip(pairs.spread(x), queries, strict=True)
        return tuple(d.exp().where(query, 0) for d, query in dense)

    assert torch.autograd.gradcheck(real, (x,))


def test_recorded_pairs_are_those_of_real_particles(monkeypatch):
    """And one of padding at most, so that a recorded network has a pair."""
    layout = layout_of([2, 1, 4, 0, 3])
    expected = UnorderedPairs.of(layout)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    found = UnorderedPairs.of(layout)
    assert len(layout.blocks) == 1
    assert len(found.first) <= layout.num_pairs + 1
    table = torch.randn(layout.num_particles, layout.num_particles)
    ours, theirs = (
        pairs.spread(table[pairs.first, pairs.second].unsqueeze(1))[0]
        for pairs in (found, expected)
    )
    mask = layout.blocks[0].mask
    real = (mask.unsqueeze(1) & mask.unsqueeze(2)).unsqueeze(1)
    assert torch.equal(ours[real], theirs[real])
    assert torch.equal(ours == -torch.inf, theirs == -torch.inf)
