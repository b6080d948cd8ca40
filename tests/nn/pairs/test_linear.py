"""The linear map of all pairs against the same map of a list of edges."""

from __future__ import annotations

import copy

import torch
from torch import nn

from pcloud.nn import RaggedLayout
from pcloud.nn.pairs.blocks import PairBlocks
from pcloud.nn.pairs.linear import PairLinear

COUNTS = [3, 40, 1, 17, 39, 2]


def setting(dtype=torch.float64):
    torch.manual_seed(0)
    layer = PairLinear(6, 2, 5).to(dtype)
    nn.init.uniform_(layer.norm.weight, 0.5, 2)
    nn.init.uniform_(layer.norm.bias, -1, 1)
    layout = RaggedLayout.from_ptr(torch.tensor([0, *COUNTS]).cumsum(0))
    h = (3 + torch.randn(layout.num_particles, 6, dtype=dtype)).requires_grad_()
    pair = 2 + torch.randn(layout.num_particles, layout.num_particles, 2, dtype=dtype)
    pair.requires_grad_()
    i, j = (
        (layout.batch.unsqueeze(0) == layout.batch.unsqueeze(1)).fill_diagonal_(False).nonzero().t()
    )
    return layer, layout, h, pair, i, j


def of_edges(layer, h, pair, i, j):
    pair = pair + pair.transpose(0, 1)
    return layer.norm(layer.linear(torch.cat([h[i], h[j], pair[i, j]], dim=-1)))


def of_pairs(layer, layout, h, pair, i, j):
    pair = pair + pair.transpose(0, 1)
    pairs = PairBlocks.of(layout)
    features = [
        pair[p.unsqueeze(2), p.unsqueeze(1)].flatten(0, 2) for p in pairs.by_block(pairs.source)
    ]
    products = torch.cat(features)  # also those of a particle with itself
    receiver, sender, weight = layer(h, products, pairs)
    return receiver[i] + sender[j] + pair[i, j] @ weight


def test_training_normalises_over_all_pairs():
    layer, layout, h, pair, i, j = setting()
    other = copy.deepcopy(layer)
    ours, theirs = of_pairs(layer, layout, h, pair, i, j), of_edges(other, h, pair, i, j)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(layer.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    upstream = torch.randn_like(ours)
    wanted = [h, pair, *layer.parameters()], [h, pair, *other.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours, wanted[0], upstream),
        torch.autograd.grad(theirs, wanted[1], upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_evaluation_uses_running_statistics():
    layer, layout, h, pair, i, j = setting()
    of_edges(layer, h, pair, i, j)
    layer.eval()
    before = copy.deepcopy(layer.state_dict())
    torch.testing.assert_close(
        of_pairs(layer, layout, h, pair, i, j), of_edges(layer, h, pair, i, j)
    )
    assert all(torch.equal(a, before[name]) for name, a in layer.state_dict().items())


def test_a_frozen_normalisation_stays_as_it_is():
    layer, layout, h, pair, i, j = setting()
    layer.norm.eval()
    of_pairs(layer, layout, h, pair, i, j)
    assert layer.norm.num_batches_tracked == 0


def test_variances_keep_their_digits_far_from_zero():
    layer, layout, h, pair, i, j = setting(torch.float32)
    h = h + 1000
    ours = of_pairs(layer, layout, h, pair, i, j)
    exact = of_edges(layer.double(), h.double(), pair.double(), i, j)
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=5e-3)
