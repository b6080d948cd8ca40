"""Gated feed-forward network and root-mean-square normalisation against their formulas."""

from __future__ import annotations

import pytest
import torch

from pcloud.nn.attention.feed_forward import GatedFeedForward
from pcloud.nn.attention.rms_norm import RMSNorm


def test_rows_have_a_root_mean_square_of_the_weight():
    norm = RMSNorm(6)
    torch.nn.init.constant_(norm.weight, 3.0)
    out = norm(10 * torch.randn(8, 2, 6))
    torch.testing.assert_close(out.square().mean(-1).sqrt(), torch.full((8, 2), 3.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_norm_is_that_of_torch(dtype):
    torch.manual_seed(0)
    ours = RMSNorm(6).to(dtype)
    theirs = torch.nn.RMSNorm(6).to(dtype)
    torch.nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(20, 6, dtype=dtype) * 10.0 ** torch.arange(-10, 10).unsqueeze(1)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_norm_of_half_precision_is_computed_in_single():
    norm = RMSNorm(64)
    x = 0.02 * torch.randn(8, 64)  # the constant of bfloat16 would halve it
    half = norm(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half - norm(x)).abs().max() < 0.03


def test_a_zero_row_has_finite_gradients():
    norm = RMSNorm(4)
    x = torch.zeros(2, 4, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("bias", [True, False])
def test_one_map_gates_the_other(bias):
    torch.manual_seed(0)
    layer = GatedFeedForward(4, 6, bias=bias).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    h = torch.nn.functional.layer_norm(x, (4,))
    gate = layer.gate(h)
    expected = layer.contract(gate / (1 + (-gate).exp()) * layer.expand(h))
    torch.testing.assert_close(layer(x), expected)
    biases = [name for name, _ in layer.named_parameters() if name.endswith("bias")]
    assert len(biases) == (4 if bias else 1)
