from __future__ import annotations

import pytest
import torch

from pcloud.nn.derivatives import higher_derivatives
from tests.models.contract import make_jets, make_model


def curvature(model, step=None):
    """Second derivative of a logit in a shift of all features: by autograd or by differences."""
    x, p4, batch = make_jets([9, 4])
    x = x.double()
    model = model.double()

    def slope(t):
        logit = model(x + t, p4.double(), batch)[:, 0].sum()
        return torch.autograd.grad(logit, t, create_graph=step is None)[0]

    if step is None:
        t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(slope(t), t)[0]
    ends = [torch.tensor(s, dtype=torch.float64, requires_grad=True) for s in (step, -step)]
    return (slope(ends[0]) - slope(ends[1])) / (2 * step)


@pytest.mark.parametrize("name", ["part", "transformer"])
def test_attention_can_be_differentiated_twice(name):
    model = make_model(name)
    with higher_derivatives():
        exact = curvature(model)
    torch.testing.assert_close(exact, curvature(model, 1e-4), rtol=1e-4, atol=1e-6)


def test_a_second_derivative_is_refused_rather_than_incomplete():
    with pytest.raises(RuntimeError, match="higher_derivatives"):
        curvature(make_model("transformer"))
