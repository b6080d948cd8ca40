"""What grows with features and classes, against what the layers are known to be."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud.models.axes import Axis, class_axes, feature_axes
from pcloud.models.head import output_layer


@pytest.mark.parametrize("model", ["particlenet", "part", "lorentznet", "pfn", "dgcnn"])
def test_the_head_is_the_last_linear_map(model: str) -> None:
    axes = class_axes(pcloud.build_model(model, 7, 2), 2)
    assert axes == {f"head.output.{name}": Axis(0, 1, 0) for name in ("weight", "bias")}


@pytest.mark.parametrize("model", pcloud.list_models())
def test_every_model_has_a_head_that_decides_alone_between_classes(model: str) -> None:
    network = pcloud.build_model(model, in_features=7, num_outputs=3)
    larger = pcloud.build_model(model, in_features=7, num_outputs=4).state_dict()
    grown = [k for k, value in network.state_dict().items() if value.shape != larger[k].shape]
    assert grown
    assert list(class_axes(network, 3)) == grown
    assert set(grown) <= {name for name, _ in network.named_parameters()}


class Own(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = torch.nn.Linear(7, 5)
        self.last = torch.nn.Linear(5, 3)
        self.norm = torch.nn.BatchNorm1d(3)


def test_the_head_of_another_network_is_its_last_layer_with_a_row_for_each_class() -> None:
    found = output_layer(Own(), 3)
    assert found is not None
    assert found[0] == "last"
    assert output_layer(Own(), 4) is None


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
    feature_axes("pfn", 7, 2, {})
    assert torch.get_rng_state().equal(before)
