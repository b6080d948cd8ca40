"""Columns of categories as inputs: one-hot, and numbers for vectors that a network learns."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch

from pcloud.batch import JetDataset
from pcloud.clouds import Clouds
from pcloud.errors import InputError, UnknownNameError
from pcloud.feature import Feature
from pcloud.features import FeatureSet, feature_set
from pcloud.interpret.attribution import attribute
from pcloud.interpret.taylor_cloud import cloud_taylor
from pcloud.standardisation import check_features, fit_categories, needs_standardisation
from pcloud.training.config import DataConfig
from tests.collection_jets import jets_with_collections

PIDS = [-211.0, 22.0, 211.0]


@pytest.fixture(scope="module")
def jets(tmp_path_factory):
    return jets_with_collections(tmp_path_factory.mktemp("jets") / "a.parquet")


def pid_of(jets, data):
    return data.in_order(torch.from_numpy(ak.to_numpy(ak.flatten(jets.pid)).copy()))


def test_one_hot_features_are_one_for_their_category(jets):
    features = feature_set(["log_pt", {"column": "pid", "one_hot": [22, -211]}])
    assert features.names == ("log_pt", "pid == 22", "pid == -211")
    assert not needs_standardisation(features)
    data = JetDataset(jets, features)
    pid = pid_of(jets, data)
    assert torch.equal(data.x[:, 1], (pid == 22).float())
    assert torch.equal(data.x[:, 2], (pid == -211).float())


@pytest.mark.parametrize("given", ["auto", True])
def test_categories_that_are_not_named_are_those_of_the_training_jets(jets, given):
    features = feature_set([{"column": "pid", "one_hot": given}, {"column": "pid2", "embed": 3}])
    both = ak.with_field(jets, jets.pid * 1.0, "pid2")
    with pytest.raises(InputError, match=r"categories of 'pid' are .* not known here: name them"):
        JetDataset(both, features)
    found = fit_categories(features, both)
    assert found.names == ("pid == -211", "pid == 22", "pid == 211", "pid2")
    assert found.features[-1].categories == tuple(PIDS)
    assert FeatureSet.from_dict(found.to_dict()) == found
    assert fit_categories(found, both) is found


def test_an_embedded_column_holds_numbers_of_categories(jets):
    features = feature_set([{"column": "pid", "embed": 8, "categories": [211, 22]}])
    data = JetDataset(jets, features)
    pid = pid_of(jets, data)
    expected = torch.where(pid == 211, 1, torch.where(pid == 22, 2, 0)).float()
    assert torch.equal(data.x[:, 0], expected)
    assert not needs_standardisation(features)
    network = Clouds().network("pfn", data.feature_set, 2, {})
    table = network.categories.parts[0].tables["0"]
    assert table.weight.shape == (3, 8)


def test_large_codes_are_kept_whole(jets):
    nuclei = ak.where(jets.pid == 22, 1000010020, 1000010030)
    features = feature_set([{"column": "pid", "embed": 2}])
    found = fit_categories(features, ak.with_field(jets, nuclei, "pid"))
    assert found.features[0].categories == (1000010020.0, 1000010030.0)


def test_collections_have_categories(jets):
    wanted = {"lost": [{"column": "q", "one_hot": "auto"}, {"column": "q", "embed": 2}]}
    data = DataConfig(data="x", features=["kin"], collections=wanted, standardise="none")
    features = Clouds().fit_inputs(jets, data)
    (lost,) = features.collections
    assert lost.names == ("q == -1", "q == 1", "q")
    assert lost.features[-1].categories == (-1.0, 1.0)
    filled = JetDataset(jets, features)
    x = filled.x[filled.collection == 1]
    assert torch.equal(x[:, 0] + x[:, 1], torch.ones(len(x)))
    assert torch.equal(x[:, 2], x[:, 0] + 2 * x[:, 1])
    lines = Clouds().describe_inputs(features, data)
    assert "categories of q: -1, 1" in lines


def test_a_category_may_be_absent_in_validation_jets(jets):
    features = feature_set([{"column": "pid", "one_hot": [22, 13]}])
    data = JetDataset(jets, features)
    with pytest.raises(InputError, match="feature 'pid == 13' is constant in the training jets, 0"):
        check_features(data, "the training jets")
    check_features(data, "the validation jets", is_training=False)


@pytest.mark.parametrize(
    ("feature", "error", "message"),
    [
        ({"column": "pid", "embedded": 8}, UnknownNameError, "no field of a feature named"),
        ({"column": "pid", "embed": 8, "one_hot": True}, InputError, "both embed and one_hot"),
        ({"column": "pid", "embed": -1}, InputError, "embed"),
        ({"column": "pid", "embed": 8, "scale": 2.0}, InputError, "has no shift and scale"),
        ({"column": "pid", "categories": [1, 2]}, InputError, "'pid' need embed, such as 8, or"),
        ({"column": "pid", "embed": 8, "categories": [1, 1]}, InputError, "given twice"),
        ({"column": "pid", "one_hot": [1, "b"]}, InputError, "categories"),
    ],
)
def test_mistakes_are_named(feature, error, message):
    with pytest.raises(error, match=message):
        feature_set([feature])


def test_features_of_jets_are_not_embedded():
    with pytest.raises(InputError, match="feature 'n' of jets cannot be embedded: use one_hot"):
        feature_set("kin", [{"column": "n", "embed": 2, "categories": [1, 2]}])
    found = feature_set("kin", [{"column": "n", "one_hot": [1, 2]}])
    assert found.jet_names == ("n == 1", "n == 2")


def test_what_is_no_category_is_named(jets):
    features = feature_set([Feature("d0", embed=2)])
    count = ak.num(jets.pid)
    total = int(ak.sum(count))
    for values, message in (
        (np.arange(total) * 1.0, r"feature 'd0' has \d+ different values in the training jets"),
        (np.ones(total), "feature 'd0' is constant in the training jets"),
        (np.full(total, np.nan), "feature 'd0' is NaN in some training jets"),
    ):
        changed = ak.with_field(jets, ak.unflatten(values, count), "d0")
        with pytest.raises(InputError, match=message):
            fit_categories(features, changed)


def test_a_category_has_no_derivative_but_can_be_occluded(jets):
    features = feature_set(["log_pt", {"column": "pid", "embed": 2, "categories": [22, 211]}])
    data = JetDataset(jets, features)
    network = Clouds().network("pfn", features, 2, {"phi_widths": [4], "head_widths": [4]}).eval()
    with pytest.raises(InputError, match="the category pid has none: --method occlusion"):
        cloud_taylor(network, data)
    with pytest.raises(InputError, match="attributions need derivatives"):
        attribute(network, jets[:3], "saliency", features=features)
    assert len(attribute(network, jets[:3], "occlusion", features=features).values)
