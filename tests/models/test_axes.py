"""What grows with features and classes, against what the layers are known to be."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud.models.axes import Axis, class_axes, feature_axes


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        ("particlenet", "head.3"),
        ("part", "head.0"),
        ("lorentznet", "head.3"),
        ("pfn", "classify"),
        ("dgcnn", "head.8"),
    ],
)
def test_the_head_is_the_last_linear_map(model: str, layer: str) -> None:
    axes = class_axes(model, 7, 2, {})
    assert axes == {f"{layer}.weight": Axis(0, 1, 0), f"{layer}.bias": Axis(0, 1, 0)}


@pytest.mark.parametrize("model", pcloud.list_models())
def test_every_model_has_a_head_that_decides_alone_between_classes(model: str) -> None:
    head = class_axes(model, 7, 3, {})
    network = pcloud.build_model(model, in_features=7, num_classes=3)
    assert head
    assert set(head) <= {name for name, _ in network.named_parameters()}


def test_edges_have_every_feature_twice() -> None:
    axes = feature_axes("particlenet", 7, 2, {})
    assert axes["convs.0.edge.weight"] == Axis(dim=1, blocks=2, others=0)
    assert axes["convs.0.shortcut.0.weight"] == Axis(dim=1, blocks=1, others=0)
    assert axes["norm.running_var"] == Axis(dim=0, blocks=1, others=0)
    assert {name.partition(".")[0] for name in axes} == {"norm", "convs"}


def test_what_stands_beside_the_features_is_counted() -> None:
    assert feature_axes("lorentznet", 7, 2, {}) == {}  # it sees momenta alone
    axes = feature_axes("lorentznet", 7, 2, {"scalars": "features"})
    assert axes["embed.weight"] == Axis(dim=1, blocks=1, others=2)
    assert axes["blocks.0.phi_h.0.weight"] == Axis(dim=1, blocks=1, others=2 * 72 + 2)


def test_a_look_at_the_axes_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    class_axes("pfn", 7, 2, {})
    assert torch.get_rng_state().equal(before)
