"""Random masks: the share of zeros, and their independence."""

from __future__ import annotations

import pytest
import torch

from pcloud.nn.attention.random_mask import bernoulli_mask


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


def test_the_seed_decides():
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(bernoulli_mask((50, 50), 0.2))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
