"""LLoCa: invariance of every network in learned local frames."""

from __future__ import annotations

import copy

import pytest
import torch

import pcloud
from pcloud.errors import InputError, UnknownNameError
from tests.models.contract import FEWER_BLOCKS, make_jets
from tests.models.test_symmetry import lorentz_transformation

NETWORKS = [name for name in pcloud.list_models() if name != "lloca"]
SMALLER = {
    "dgcnn": {"widths": (8, 8), "embed_width": 16, "head_widths": (8,), "k": 5},
    "lgatr": {"num_layers": 1},
    "lgatr_slim": {"num_layers": 1},
    "particlenet": {"widths": ((8, 8), (8,)), "k": 5},
    "pelican": {"num_layers": 1},
}


def build(network: str, messages: str = "scalar", **options):
    torch.manual_seed(0)
    own = FEWER_BLOCKS.get(network, {}) | SMALLER.get(network, {})
    return pcloud.build_model(
        "lloca", 7, 3, network=network, messages=messages, network_options=own, **options
    ).eval()


@torch.no_grad()
def change(model: torch.nn.Module, gamma: float, *, with_references: bool = True) -> float:
    """Largest change of a logit relative to the largest logit."""
    matrix = lorentz_transformation(gamma, 0)
    x, p4, batch = make_jets([1, 2, 30, 12])
    x, p4 = x.double(), p4.double()
    before = model(x, p4, batch)
    moved = copy.deepcopy(model)
    if with_references:
        for references in (moved.beams, moved.time):
            references.copy_(references @ matrix.T)
    return ((moved(x, p4 @ matrix.T, batch) - before).abs().max() / before.abs().max()).item()


@pytest.mark.rounding
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_is_invariant_with_scalar_messages(network):
    model = build(network).double()
    assert change(model, gamma=10.0) < 1e-8
    assert change(model, gamma=1.5, with_references=False) > 1e-8


@pytest.mark.rounding
@pytest.mark.parametrize("network", ["particlenet", "transformer"])
def test_networks_with_tensorial_messages_are_invariant(network):
    model = build(network, "tensor").double()
    assert change(model, gamma=10.0) < 1e-8
    assert change(model, gamma=1.5, with_references=False) > 1e-8


@pytest.mark.parametrize("network", ["particlenet", "transformer"])
@torch.no_grad()
def test_tensorial_messages_use_the_frames(network):
    tensor, scalar = build(network, "tensor"), build(network)
    scalar.load_state_dict(tensor.state_dict(), strict=False)
    jets = make_jets([3, 30, 12])
    assert (tensor(*jets) - scalar(*jets)).abs().max() > 1e-4


@torch.no_grad()
def test_features_are_used_where_they_are_asked_for():
    x, p4, batch = make_jets([3, 30, 12])
    for scalars in ("none", "features"):
        model = build("pfn", scalars=scalars)
        same = torch.equal(model(x, p4, batch), model(2 * x, p4, batch))
        assert same == (scalars == "none")


@pytest.mark.rounding
@torch.no_grad()
def test_attention_of_tensorial_messages_is_the_one_that_was_used():
    from pcloud.interpret.attention import attention_maps

    model = build("transformer", "tensor").double()
    x, p4, batch = make_jets([3, 30])
    maps = attention_maps(model, x.double(), p4.double(), batch)
    sums = torch.zeros(len(x), 8, dtype=torch.float64).index_add(0, maps.query, maps.weights[0])
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network": "pfn"}, "pfn has no tensorial messages, which particlenet and transformer"),
        ({"network": "lloca"}, "needs a network of clouds, not 'lloca'"),
        ({"network": "cnn"}, "needs a network of clouds, not 'cnn'"),
        ({"network": "pfm"}, "no model named 'pfm'; did you mean 'pfn'"),
        ({"messages": "tensors"}, "no kind of messages named 'tensors'; did you mean 'tensor'"),
        ({"beams": "none "}, "no beam references named 'none '"),
        ({"network_options": {"widht": 3}}, "widht"),
    ],
)
def test_wrong_options_are_an_error_of_one_line(options, said):
    with pytest.raises((InputError, UnknownNameError), match=said):
        pcloud.build_model("lloca", 7, **options)
