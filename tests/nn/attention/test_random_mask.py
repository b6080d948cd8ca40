"""Random masks: the share of zeros, and their independence."""

from __future__ import annotations

import pytest
import torch

from pcloud.nn.attention import random_mask
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


@pytest.mark.usefixtures("fast_passes")
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_its_gradient_is_its_mask(p):
    torch.manual_seed(0)
    layer = random_mask.Dropout(p)
    x = torch.ones(400, 250, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    dropped = (out == 0).float().mean().item()
    assert dropped == pytest.approx(p, abs=0.01)  # of 1e5, and p to 1/256
    assert torch.equal(x.grad, out.detach())
    assert out.max().item() == pytest.approx(1 / (1 - p))
    assert torch.equal(layer.eval()(x), x)


def test_dropout_without_kernels_is_that_of_torch(monkeypatch):
    monkeypatch.setattr(random_mask, "kernel_allowed", lambda *tensors: False)
    x = torch.ones(50, 20)
    torch.manual_seed(1)
    expected = torch.nn.functional.dropout(x, 0.2)
    torch.manual_seed(1)
    assert torch.equal(random_mask.Dropout(0.2)(x), expected)
