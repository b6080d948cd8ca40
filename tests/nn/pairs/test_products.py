"""Products of particles and pairs against loops, and their derivatives."""

from __future__ import annotations

import itertools

import torch

from pcloud.nn import RaggedLayout
from pcloud.nn.pairs.blocks import PairBlocks
from pcloud.nn.pairs.products import pairwise_dot, sum_senders

COUNTS = [3, 8, 1, 0, 8, 7]


def setting(counts=COUNTS, columns=2, width=3):
    torch.manual_seed(0)
    pairs = PairBlocks.of(RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0)))
    slots = len(pairs.source)
    receiver = torch.randn(slots, width, dtype=torch.float64, requires_grad=True)
    sender = torch.randn(slots, columns, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(pairs.num_pairs, columns, dtype=torch.float64, requires_grad=True)
    return receiver, sender, weight, pairs


def test_products_are_those_of_a_loop_over_all_pairs():
    receiver, sender, weight, pairs = setting()
    blocks = pairs.by_block(receiver), pairs.by_block(sender), pairs.pairs_by_block(weight)
    dots = pairs.pairs_by_block(pairwise_dot(receiver, sender, pairs))
    sums = pairs.by_block(sum_senders(weight, sender, pairs))
    for r, s, w, found_dots, found_sums in zip(*blocks, dots, sums, strict=True):
        jets, size, columns = s.shape[:3]
        expected = torch.zeros_like(found_sums)
        for jet, i, j, k in itertools.product(
            range(jets), range(size), range(size), range(columns)
        ):
            torch.testing.assert_close(found_dots[jet, i, j, k], (r[jet, i] * s[jet, j, k]).sum())
            expected[jet, i] += w[jet, i, j, k] * s[jet, j, k]
        torch.testing.assert_close(found_sums, expected)


def test_derivatives_are_those_of_finite_differences():
    receiver, sender, weight, pairs = setting([2, 3, 0, 1])
    for function, inputs in (
        (pairwise_dot, (receiver, sender)),
        (sum_senders, (weight, sender)),
    ):
        assert torch.autograd.gradcheck(lambda a, b, f=function: f(a, b, pairs), inputs)
        assert torch.autograd.gradgradcheck(lambda a, b, f=function: f(a, b, pairs), inputs)


def test_views_that_are_not_contiguous_are_taken():
    _, _, weight, pairs = setting()
    everywhere = torch.ones(1, 1, 1, dtype=torch.float64).expand(len(pairs.source), 2, 1)
    (sums,) = sum_senders(weight, everywhere, pairs).t()
    torch.testing.assert_close(sums.sum(), weight.sum())
