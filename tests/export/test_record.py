"""Constants of a recorded graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from pcloud.errors import InputError
from pcloud.export.record import Session, record
from pcloud.kinematics import atan2, wrap_phi
from pcloud.nn.graph.distances import rounded


class Constants(torch.nn.Module):
    def forward(self, x):
        angle = wrap_phi(x)
        arctangent = atan2(x, 1 - x)
        return 1.7 - x, x.clamp(min=1e-300), rounded(x), angle, arctangent, softplus(5 * x - 20)


@pytest.mark.rounding
def test_numbers_beside_float64_keep_all_digits(needs_onnx):
    """PyTorch's exporter passes them through float32: pi is wrong by 9e-8, and 1e-300 is 0."""
    names = ["difference", "bounded", "rounded", "angle", "arctangent", "softplus"]
    model = record(Constants(), [torch.rand(3, 4).double()], {"x": ["n", 4]}, names)
    x = np.random.default_rng(0).uniform(0, 9, (50, 4))
    x[:, 1] = 0
    found = Session(model)({"x": x})
    assert np.array_equal(found["difference"], 1.7 - x)
    assert np.array_equal(found["bounded"], np.maximum(x, 1e-300))
    assert np.array_equal(found["rounded"], x.astype(np.float32))
    assert np.array_equal(found["angle"], wrap_phi(torch.from_numpy(x)).numpy())
    expected = np.logaddexp(0, 5 * x - 20)
    np.testing.assert_allclose(found["softplus"], expected, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(found["arctangent"], np.arctan2(x, 1 - x), rtol=2e-15)


class WithoutOperator(torch.nn.Module):
    def forward(self, x):
        return (torch.special.bessel_j0(x),)


def test_an_operator_that_onnx_lacks_is_named_in_one_line(needs_onnx):
    with pytest.raises(InputError, match=r"cannot be exported: .*bessel_j0") as error:
        record(WithoutOperator(), [torch.rand(3)], {"x": ["n"]}, ["y"])
    assert "\n" not in str(error.value)
