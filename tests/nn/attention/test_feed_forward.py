"""The chunked feed-forward network against its layers one by one."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from pcloud.nn.attention.feed_forward import FeedForward
from pcloud.nn.numerics import chunks
from pcloud.nn.numerics.derivatives import higher_derivatives


@pytest.fixture(autouse=True)
def _many_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", 3000)


def example(dropout: float = 0.0) -> tuple[FeedForward, torch.Tensor]:
    torch.manual_seed(0)
    network = FeedForward(8, 32, dropout).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network, torch.randn(101, 8).double()


def one_by_one(network: FeedForward, x: torch.Tensor) -> torch.Tensor:
    with higher_derivatives():
        return network(x)


def test_values_and_gradients_are_those_of_the_layers_one_by_one():
    network, x = example()
    plain, results = copy.deepcopy(network), []
    for function, module in ((network, network), (partial(one_by_one, plain), plain)):
        own = x.clone().requires_grad_()
        out = function(own)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append([out, own.grad, *(p.grad for p in module.parameters())])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


def test_inference_is_that_of_the_layers_one_by_one():
    network, x = example(dropout=0.5)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(x), one_by_one(network, x))
        assert network(x[:0]).shape == (0, 8)


def test_dropout_has_the_gradient_of_what_it_kept():
    network, x = example(dropout=0.3)
    names, parameters = zip(*network.named_parameters(), strict=True)

    def function(x, *parameters):
        torch.manual_seed(1)
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), x)

    x = x[:30].requires_grad_()
    assert not torch.allclose(function(x, *parameters), network.eval()(x))
    network.train()
    assert torch.autograd.gradcheck(function, (x, *parameters), fast_mode=True)


def test_dropout_is_that_of_the_layers_one_by_one_on_average():
    network, x = example(dropout=0.3)
    torch.manual_seed(0)
    draws = []
    for function in (network, partial(one_by_one, network)):
        draws.append(torch.stack([function(x[:4]).detach() for _ in range(1000)]))
    ours, plain = draws
    error = ((ours.var(0) + plain.var(0)) / 1000).sqrt()
    assert ((ours.mean(0) - plain.mean(0)) / error).abs().max() < 5
    assert ((ours.var(0) / plain.var(0)) - 1).abs().max() < 0.4


def test_half_precision_products_are_close():
    network, x = example()
    network, x = network.float(), x.float()
    exact = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = network(x)
    assert coarse.dtype == torch.bfloat16
    assert (coarse - exact).abs().mean() < 0.02 * exact.std()
    coarse.sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
