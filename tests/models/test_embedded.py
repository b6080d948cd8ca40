"""Any network on several collections and on categories."""

from __future__ import annotations

import pytest
import torch

from pcloud.batch import JetDataset, JetLoader, batch_arguments
from pcloud.clouds import Clouds
from pcloud.errors import InputError
from pcloud.models import build_model, list_models
from pcloud.models.embedded import EmbeddedNetwork, Inputs, build_embedded
from pcloud.models.registry import reads_features, takes_positions
from tests.collection_jets import jets_with_collections, shuffled_entries

OPTIONS = {
    "image_resnext": None,  # as `image_cnn`
    "lgatr": {"num_layers": 1},
    "lgatr_slim": {"num_layers": 1},
    "lorentznet": {"num_layers": 1},
    "part": {"num_layers": 1},
    "particlenet": None,  # as `particlenet_lite`
    "pelican": {"num_layers": 1},
    "transformer": {"num_layers": 1},
}
CHARGES = {"column": "pid", "embed": 3, "categories": [22, 211, -211]}


@pytest.fixture(scope="module")
def jets(tmp_path_factory):
    return jets_with_collections(tmp_path_factory.mktemp("jets") / "a.parquet", 16)


def logits(name, data, options=None):
    torch.manual_seed(0)
    network = Clouds().network(name, data.feature_set, 2, options or {}).eval()
    with torch.no_grad():
        return network, network(*batch_arguments(next(iter(JetLoader(data, len(data))))))


@pytest.mark.parametrize("name", [n for n in list_models() if OPTIONS.get(n, {}) is not None])
def test_any_network_takes_several_collections(name, jets):
    wanted = "all" if takes_positions(name) else ["sv"]
    data = JetDataset(jets, ["kin", CHARGES], collections=wanted)
    network, found = logits(name, data, OPTIONS.get(name))
    is_embedded = isinstance(network, EmbeddedNetwork)
    assert is_embedded == reads_features(name)
    other = JetDataset(shuffled_entries(jets), data.feature_set)
    assert torch.equal(logits(name, other, OPTIONS.get(name))[1], found)
    (one,) = JetLoader(data[[3]], 1)
    with torch.no_grad():
        torch.testing.assert_close(
            network(*batch_arguments(one))[0], found[3], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", ["pfn", "particlenet_lite", "particlenet_collections"])
def test_every_parameter_of_the_embedding_is_trained(name, jets):
    data = JetDataset(jets, ["kin", CHARGES], collections="all")
    network = Clouds().network(name, data.feature_set, 2, {})
    (batch,) = JetLoader(data, len(data))
    network(*batch_arguments(batch)).square().sum().backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    biases = [n for n in missing if "norm" in n or "bias" in n]  # before a normalisation
    assert missing == biases


def test_a_network_sees_each_collection(jets):
    data = JetDataset(jets, "kin", collections="all")
    _, before = logits("particlenet_lite", data)
    for i in range(4):
        other = data.copy()
        other.x[other.collection == i, 0] += 1
        assert not torch.equal(logits("particlenet_lite", other)[1], before)
    moved = data.copy()
    moved.pos[moved.collection == 2] += torch.tensor([1.0, 0.5])
    assert not torch.equal(logits("particlenet_lite", moved)[1], before)


def test_nothing_is_embedded_without_need():
    plain = build_embedded("pfn", [Inputs(7)], 2, {"dropout": 0.5})
    assert type(plain) is type(build_model("pfn", 7))
    network = build_embedded("pfn", [Inputs(7), Inputs(2)], 3, {"embed_width": 5})
    assert network.collections.in_widths == (7, 2)
    assert network.collections.width == 5
    with pytest.raises(InputError, match="embed_width must be a whole number"):
        build_embedded("pfn", [Inputs(7), Inputs(2)], 3, {"embed_width": "wide"})


def test_the_rows_of_an_embedded_network_are_given_without_a_layout(jets):
    data = JetDataset(jets, "kin", collections="all")
    network, found = logits("pfn", data)
    (batch,) = JetLoader(data, len(data))
    rows = {"pos": batch.pos, "collection": batch.collection}
    with torch.no_grad():
        torch.testing.assert_close(network(batch.x, batch.p4, batch.batch, **rows), found)
