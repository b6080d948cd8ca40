"""Exported networks for single jets against the networks themselves."""

from __future__ import annotations

import pytest
import torch

from pcloud.models import OneJet, build_model


def jet(particles):
    torch.manual_seed(particles)
    momentum = torch.randn(particles, 3) + torch.tensor([50.0, 3.0, 4.0])
    energy = momentum.square().sum(1, keepdim=True).add(0.02).sqrt()
    return torch.randn(particles, 7), torch.cat([energy, momentum], 1)


@pytest.mark.parametrize(
    ("name", "options", "empty"),
    [
        ("particlenet_lite", {}, 8),
        ("dgcnn", {}, 20),
        ("lorentznet", {"blocks": 2, "hidden": 8}, 0),
        ("pfn", {}, 0),
        ("efn", {}, 0),
    ],
)
def test_an_exported_network_takes_jets_of_any_length(name, options, empty):
    model = build_model(name, in_features=7, **options).eval()
    particles = torch.export.Dim("particles", min=2, max=500)
    program = torch.export.export(
        OneJet(model, empty_slots=empty), jet(30), dynamic_shapes=({0: particles},) * 2
    )
    for n in (2, 5, 30, 120):
        x, p4 = jet(n)
        expected = model(x, p4, torch.zeros(n, dtype=torch.long))
        torch.testing.assert_close(program.module()(x, p4), expected, rtol=1e-4, atol=1e-5)


def test_without_empty_slots_a_neighbour_search_asks_for_enough_particles():
    model = build_model("particlenet_lite", in_features=7).eval()
    particles = torch.export.Dim("particles", min=2, max=500)
    with pytest.raises(torch._dynamo.exc.UserError, match="8 <= "):
        torch.export.export(OneJet(model), jet(30), dynamic_shapes=({0: particles},) * 2)
