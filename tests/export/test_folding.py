"""Batch normalisations inside the linear maps of exported networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pcloud
from pcloud.export.folding import with_folded_norms
from pcloud.nn.attention.pair_mlp import NormedMLP
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import higher_derivatives

SIZES = {
    "particlenet": {"k": 3, "widths": [[8, 8], [8]], "head_widths": [8]},
    "dgcnn": {},
    "part": {"embed_widths": [16], "num_layers": 1, "num_class_layers": 1, "num_heads": 2},
    "lorentznet": {"width": 8, "num_layers": 1},
}


def with_statistics(network: nn.Module) -> nn.Module:
    """Network whose normalisations are far from the identity."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=generator))
            module.running_var.copy_(torch.rand(shape, generator=generator) + 0.1)
            if module.affine:
                module.weight.data.copy_(torch.randn(shape, generator=generator))
                module.bias.data.copy_(torch.randn(shape, generator=generator))
    return network.double().eval()


def norms_with_statistics(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm1d) for module in network.modules())


@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_folded_networks_give_the_same_logits(name):
    torch.manual_seed(0)
    network = with_statistics(pcloud.build_model(name, in_features=3, num_outputs=2, **SIZES[name]))
    counts = torch.tensor([1, 2, 6, 12])
    p4 = torch.randn(int(counts.sum()), 4).double()
    p4[:, 0] = p4[:, 1:].norm(dim=1) + 0.1
    layout = RaggedLayout.from_ptr(torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]))
    arguments = (torch.randn(len(p4), 3).double(), p4, layout.batch, layout)
    folded = with_folded_norms(network)
    assert norms_with_statistics(folded) < norms_with_statistics(network)
    with higher_derivatives():
        found, expected = folded(*arguments), network(*arguments)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_normalised_inputs_are_folded_too():
    network = with_statistics(NormedMLP([4, 8, 3]))
    folded = with_folded_norms(network)
    assert norms_with_statistics(folded) == 0
    x = torch.randn(5, 4).double()
    with higher_derivatives():
        torch.testing.assert_close(folded(x), network(x))
