from __future__ import annotations

import pytest
import torch
from torch import nn

from pcloud.errors import InputError
from pcloud.uncertainty import dropout_switched_on
from tests.models.contract import make_jets, make_model


@torch.no_grad()
@pytest.mark.parametrize("name", ["particlenet_lite", "part", "lorentznet"])
def test_passes_differ_and_nothing_else_changes(name):
    model, inputs = make_model(name), make_jets()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected = model(*inputs)
    with dropout_switched_on(model):
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
        assert not any(norm.training for norm in norms)
        first, second = model(*inputs), model(*inputs)
    assert not torch.equal(first, second)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(model(*inputs), expected)


@torch.no_grad()
def test_attention_and_feed_forward_drop_too():
    model, inputs = make_model("part"), make_jets()
    for module in model.modules():
        if isinstance(module, nn.Module) and type(module).__name__ == "Dropout":
            module.p = 0.0  # all that is left drops by itself
    with dropout_switched_on(model):
        assert not torch.equal(model(*inputs), model(*inputs))


@torch.no_grad()
def test_the_spread_of_a_linear_map_is_known():
    model = nn.Sequential(nn.Dropout(0.2), nn.Linear(50, 1, bias=False)).eval()
    x = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    with dropout_switched_on(model):
        drawn = torch.cat([model(x) for _ in range(4000)])
    expected = (0.2 / 0.8 * (model[1].weight * x).square().sum()).sqrt()
    assert float(drawn.std()) == pytest.approx(float(expected), rel=0.05)


def test_a_model_without_dropout_is_refused():
    with (
        pytest.raises(InputError, match=r"--model-options\.dropout"),
        dropout_switched_on(make_model("pfn")),
    ):
        pass
