"""Maps between pairs against matrices jet by jet, and against pelican-lite."""

from __future__ import annotations

import itertools

import pytest
import torch

from pcloud.nn import RaggedLayout
from pcloud.nn.pairs.equivariant import EquivariantLinear, Pairs, invariant_pool

pytestmark = pytest.mark.rounding

COUNTS = [3, 1, 5, 0, 2]


def make_pairs(counts=COUNTS):
    ptr = torch.tensor([0, *counts]).cumsum(0)
    return Pairs.of(RaggedLayout.from_ptr(ptr))


def make_linear(in_channels=4, out_channels=3):
    torch.manual_seed(0)
    linear = EquivariantLinear(in_channels, out_channels).double()
    torch.nn.init.normal_(linear.bias)
    torch.nn.init.normal_(linear.diagonal_bias)
    return linear


def fifteen_maps(x):
    """All maps (15, n, n, C) of one matrix ``x (n, n, C)``, in the order of the weights."""
    n = len(x)
    diagonal, rows, columns = x.diagonal().t(), x.mean(1), x.mean(0)
    trace, mean = diagonal.mean(0), x.mean((0, 1))
    everywhere = torch.ones_like(x)
    here = torch.eye(n, dtype=x.dtype).unsqueeze(-1)
    along = [v.unsqueeze(1) * everywhere for v in (diagonal, rows, columns)]
    across = [v.unsqueeze(0) * everywhere for v in (diagonal, rows, columns)]
    on = [v.unsqueeze(1) * here for v in (diagonal, rows, columns)]
    flat = [trace * everywhere, mean * everywhere]
    on = [*on, trace * here, mean * here]
    return torch.stack([x, x.transpose(0, 1), *along, *flat, *across, *on])


def test_pairs_are_those_of_each_jet_in_order():
    pairs = make_pairs()
    ptr = pairs.layout.ptr.tolist()
    expected = [
        (i, j)
        for start, stop in itertools.pairwise(ptr)
        for i in range(start, stop)
        for j in range(start, stop)
    ]
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected
    assert torch.equal(pairs.first[pairs.transpose], pairs.second)
    assert torch.equal(pairs.second[pairs.transpose], pairs.first)
    assert torch.equal(pairs.first[pairs.diagonal], torch.arange(sum(COUNTS)))
    assert torch.equal(pairs.second[pairs.diagonal], torch.arange(sum(COUNTS)))


def test_the_map_is_the_sum_over_fifteen_matrices():
    pairs, linear = make_pairs(), make_linear()
    x = torch.randn(len(pairs.first), 4, dtype=torch.float64)
    out = linear(x, pairs)
    start = 0
    for n in COUNTS:
        matrix = x[start : start + n * n].view(n, n, 4)
        maps = fifteen_maps(matrix)
        power = torch.zeros(15, 4, dtype=torch.float64)
        power[[3, 4, 8, 9, 11, 12, 5, 6, 13, 14]] = linear.power.detach()
        maps = maps * (n / 49) ** power.view(15, 1, 1, 4)
        expected = torch.einsum("mijc,moc->ijo", maps, linear.weight()) + linear.bias
        expected = expected + torch.eye(n).unsqueeze(-1) * linear.diagonal_bias
        torch.testing.assert_close(out[start : start + n * n].view(n, n, 3), expected)
        start += n * n


def test_numbering_particles_otherwise_numbers_the_result_likewise():
    pairs, linear = make_pairs([6]), make_linear()
    x = torch.randn(6, 6, 4, dtype=torch.float64)
    order = torch.randperm(6)
    out = linear(x.flatten(0, 1), pairs).view(6, 6, 3)
    other = linear(x[order][:, order].flatten(0, 1), pairs).view(6, 6, 3)
    torch.testing.assert_close(other, out[order][:, order])


def test_pooling_gives_mean_and_trace():
    pairs = make_pairs()
    x = torch.randn(len(pairs.first), 4)
    result = invariant_pool(x, pairs)
    matrix = x[10:35].view(5, 5, 4)  # the third jet
    torch.testing.assert_close(result[2, :4], matrix.mean((0, 1)))
    torch.testing.assert_close(result[2, 4:], matrix.diagonal().mean(1))
    assert not result[3].any()


def test_the_map_is_that_of_pelican_lite():
    layers = pytest.importorskip("pelican.layers", reason="needs pelican-lite")
    n, pairs, linear = 7, make_pairs([7, 7]), make_linear()
    with torch.no_grad():
        for p in (linear.power, linear.bias, linear.diagonal_bias):
            p.zero_()
    ours = [0, 1, 10, 2, 7, 12, 11, 4, 9, 3, 8, 5, 13, 6, 14]  # in the order of pelican-lite
    weight = linear.weight()[ours]  # (15, out, in)
    weight[[11, 12]] *= n  # its mean of the diagonal is over all pairs
    theirs = layers.Aggregator2to2(4, 3, map_multipliers=False).double()
    theirs.coeffs_direct.data = weight.permute(1, 2, 0).reshape(4, 3, 15).detach()
    x = torch.randn(2 * n * n, 4, dtype=torch.float64)
    index = torch.stack([pairs.first, pairs.second])
    torch.testing.assert_close(linear(x, pairs), theirs(x, index, pairs.layout.batch))
