"""GN2 and the pooling of its tracks by a gate."""

from __future__ import annotations

import torch

import pcloud
from pcloud.nn import GatedPooling, RaggedLayout
from tests.models.contract import make_jets


def test_the_pooling_is_a_mean_weighted_by_the_softmax_of_the_gate():
    torch.manual_seed(0)
    pooling = GatedPooling(3)
    x = 10 * torch.randn(6, 3)
    layout = RaggedLayout.from_ptr(torch.tensor([0, 2, 2, 6]))
    found = pooling(x, layout)
    for jet, rows in ((0, slice(0, 2)), (2, slice(2, 6))):
        weights = pooling.gate(x[rows]).softmax(dim=0)
        torch.testing.assert_close(found[jet], (weights * x[rows]).sum(0))
    assert torch.equal(found[1], torch.zeros(3))
    assert pooling(1e4 * x, layout).isfinite().all()


def test_the_default_sizes_are_those_of_salt():
    model = pcloud.build_model("gn2", 19, 4, num_jet_features=2)
    assert model.embed[0][0].in_features == 21
    assert len(model.blocks) == 4
    assert model.blocks[0].attention.heads == 8
    assert model.particle_width == 128
    assert [layer.out_features for layer in model.head if hasattr(layer, "weight")] == [
        128,
        64,
        32,
        4,
    ]


@torch.no_grad()
def test_features_of_a_jet_change_the_representation_of_each_of_its_tracks():
    torch.manual_seed(0)
    model = pcloud.build_model("gn2", 7, 3, width=16, num_layers=1, num_jet_features=2).eval()
    x, p4, batch = make_jets([3, 5])
    u = torch.randn(2, 2)
    before = model.particles(x, p4, batch, u=u).particles
    u[1] += 1
    after = model.particles(x, p4, batch, u=u).particles
    changed = (after - before).abs().max(-1).values > 1e-4
    assert changed.tolist() == [False] * 3 + [True] * 5
