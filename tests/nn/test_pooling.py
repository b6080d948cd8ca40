"""Pooling over the particles of a jet, against a loop over jets."""

from __future__ import annotations

import pytest
import torch

from pcloud.nn import RaggedLayout, max_pool, mean_pool, sum_pool

POOLS = {
    sum_pool: lambda jet: jet.sum(0),
    mean_pool: lambda jet: jet.mean(0),
    max_pool: lambda jet: jet.amax(0),
}


@pytest.fixture(params=["torch", "torch_scatter"])
def backend(request):
    if request.param == "torch_scatter":
        pytest.importorskip("torch_scatter", reason="extra 'ext' is not installed")
    return request.param


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.__name__)
def test_pooling_is_that_of_each_jet(pool, backend):
    layout = RaggedLayout.from_ptr(torch.tensor([0, 3, 3, 4, 24]))  # jet 1 is empty
    x = (-torch.rand(24, 5) - 1).requires_grad_()
    pooled = pool(x, layout, backend=backend)
    assert pooled[1].tolist() == [0.0] * 5
    for i, (a, b) in enumerate([(0, 3), (3, 3), (3, 4), (4, 24)]):
        if a < b:
            torch.testing.assert_close(pooled[i], POOLS[pool](x[a:b]))
    pooled.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.__name__)
def test_unknown_backends_are_refused(pool):
    layout = RaggedLayout.from_ptr(torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="torch_scatter"):
        pool(torch.zeros(3, 1), layout, backend="scatter")


def test_half_precision_is_summed_in_single():
    layout = RaggedLayout.from_ptr(torch.tensor([0, 1000]))
    assert sum_pool(torch.ones(1000, 1).bfloat16(), layout).item() == 1000.0
