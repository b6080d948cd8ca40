"""Linear map and GELU in one pass, against the two layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pcloud.nn.numerics import fused_linear
from pcloud.nn.numerics.fused_linear import gelu_of_linear


def example(rows: int, bias: bool = True) -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Linear(24, 40, bias), 3 * torch.randn(rows, 24)


@pytest.mark.usefixtures("fast_passes")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 700])
def test_the_fused_map_is_that_of_the_layers(rows: int, bias: bool) -> None:
    linear, x = example(rows, bias)
    expected = F.gelu(linear(x))
    torch.testing.assert_close(gelu_of_linear(linear, x), expected, rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(
            gelu_of_linear(linear, x), expected.detach(), atol=1e-5, rtol=1e-5
        )


@pytest.mark.usefixtures("fast_passes")
def test_the_operator_is_used_where_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    linear, x = example(600)
    monkeypatch.setattr(F, "gelu", None)  # the plain formula fails
    with torch.no_grad():
        if fused_linear._HAS_OPERATOR:
            assert gelu_of_linear(linear, x).shape == (600, 40)
    monkeypatch.undo()
    monkeypatch.setattr(fused_linear, "_HAS_OPERATOR", False)
    with torch.no_grad():
        assert torch.equal(gelu_of_linear(linear, x), F.gelu(linear(x)))


def test_hooks_of_the_layer_see_its_output() -> None:
    linear, x = example(600)
    seen = []
    linear.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        out = gelu_of_linear(linear, x)
    assert torch.equal(F.gelu(seen[0]), out)
