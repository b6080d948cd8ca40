"""The chunked passes of the normalised MLP against its layers one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pcloud.nn.attention.pair_mlp import NormedMLP
from pcloud.nn.numerics import chunks
from pcloud.nn.numerics.derivatives import higher_derivatives


@pytest.fixture(autouse=True)
def _many_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", 3000)


def example(dtype: torch.dtype = torch.float64) -> tuple[NormedMLP, torch.Tensor]:
    torch.manual_seed(0)
    mlp = NormedMLP([4, 16, 16, 24, 3]).to(dtype)
    for norm in mlp.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return mlp, 3 * torch.randn(301, 4).to(dtype) + 5


def one_by_one(mlp: NormedMLP, x: torch.Tensor) -> torch.Tensor:
    with higher_derivatives():
        return mlp(x)


def test_gradients_and_statistics_are_those_of_the_layers_one_by_one():
    mlp, x = example()
    plain = copy.deepcopy(mlp)
    for out in (mlp(x), one_by_one(plain, x)):
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    torch.testing.assert_close(mlp(x), one_by_one(plain, x))
    for (name, ours), theirs in zip(mlp.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    for (name, ours), theirs in zip(mlp.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_inference_is_that_of_the_layers_one_by_one():
    mlp, x = example()
    mlp(x)
    mlp.eval()
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), one_by_one(mlp, x))


@pytest.mark.usefixtures("fast_passes")
def test_a_mean_far_from_zero_leaves_the_variance_its_digits():
    mlp, x = example(torch.float32)
    with torch.no_grad():
        mlp.linears[0].bias += 1e4
        mlp.norms[0].bias += 100
    exact = copy.deepcopy(mlp).double()
    torch.testing.assert_close(mlp(x), exact(x.double()).float(), rtol=1e-3, atol=1e-3)


def test_inputs_that_want_a_gradient_get_it():
    mlp, x = example()
    assert torch.autograd.gradcheck(mlp, (x[:5].requires_grad_(),))


def test_half_precision_products_are_close():
    mlp, x = example(torch.float32)
    exact = mlp(x)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = mlp(x)
    assert coarse.dtype == torch.bfloat16
    assert (coarse - exact).abs().mean() < 0.02 * exact.std()
    coarse.sum().backward()
    assert all(p.grad.isfinite().all() for p in mlp.parameters())


def test_a_saved_graph_can_be_walked_twice():
    mlp, x = example()
    out = mlp(x).square().sum()
    first = torch.autograd.grad(out, mlp.linears[1].weight, retain_graph=True)
    second = torch.autograd.grad(out, mlp.linears[1].weight)
    assert torch.equal(first[0], second[0])
