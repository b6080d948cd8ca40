"""Dropout: how much is dropped, and that the mean stays."""

from __future__ import annotations

import pytest
import torch

from pcloud.nn.attention.dropout import Dropout, bernoulli_mask


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_the_share_dropped_is_p(p):
    torch.manual_seed(0)
    draws = torch.stack([bernoulli_mask((33, 7), p) for _ in range(2000)]).double()
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    n = draws.numel()
    # within a tensor the share is one of two steps of 1/256, which adds to the variance
    sigma = (p * (1 - p) / n + (0.5 / 256) ** 2 / len(draws)) ** 0.5
    assert abs(draws.mean().item() - (1 - p)) < 4 * sigma


def test_neighbouring_entries_are_dropped_independently():
    torch.manual_seed(0)
    dropped = 1 - bernoulli_mask((10_000, 16), 0.3).double()
    correlation = torch.corrcoef(dropped.T)
    correlation.fill_diagonal_(0)
    assert correlation.abs().max() < 5 / 10_000**0.5


def test_entries_are_zero_or_grown():
    torch.manual_seed(0)
    x = torch.ones(50, 50, requires_grad=True)
    out = Dropout(0.2)(x)
    assert out.unique().tolist() == pytest.approx([0.0, 1.25])
    out.sum().backward()
    assert torch.equal(x.grad, out)


def test_the_seed_decides():
    x = torch.ones(50, 50)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(Dropout(0.2)(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_evaluation_drops_nothing():
    x = torch.randn(9)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_senseless_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"at least 0 and below 1, got 1\.0"):
        Dropout(1.0)
