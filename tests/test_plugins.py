"""Models, data sets, features and metrics of a user, and plug-ins of installed packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import awkward as ak
import numpy as np
import pytest
import torch

import pcloud
from pcloud import plugins
from pcloud.datasets import _REGISTERED as DATASETS
from pcloud.datasets import DatasetInfo, Split
from pcloud.errors import UnknownNameError
from pcloud.evaluation import list_metrics
from pcloud.evaluation.custom_metrics import _REGISTERED as METRICS
from pcloud.feature import _REGISTERED as FEATURES
from pcloud.feature import STANDARD, Feature, list_features
from tests.evaluation.conftest import GaussianTagger
from tests.training.conftest import make_jets


@pytest.fixture
def registries():
    """Let what a test registers be gone after it."""
    kept = [(registry, dict(registry)) for registry in (FEATURES, STANDARD, METRICS, DATASETS)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


# --- features


def test_a_feature_of_ones_own_is_an_input_like_any_other(registries):
    @pcloud.register_feature("charged pt", columns=["charge"], shift=1.0, scale=2.0)
    def charged_pt(particles):
        return particles.extras["charge"].abs() * particles.pt

    features = pcloud.feature_set(["log_pt", "charged pt"])
    assert features.columns == ("charge",)
    assert "charged pt" in list_features()
    p4 = torch.tensor([[5.0, 3.0, 4.0, 0.0], [13.0, 5.0, 12.0, 0.0]], requires_grad=True)
    batch = torch.zeros(2, dtype=torch.long)
    x = features(p4, batch, {"charge": torch.tensor([-1.0, 0.0])})
    assert x[:, 1].tolist() == [(5 - 1) * 2, (0 - 1) * 2]
    (gradient,) = torch.autograd.grad(x[:, 1].sum(), p4)
    torch.testing.assert_close(gradient[0, 1:3], torch.tensor([1.2, 1.6]))
    with pytest.raises(UnknownNameError, match="charge"):
        features(p4, batch)
    assert pcloud.FeatureSet.from_dict(features.to_dict()) == features


def test_a_name_of_a_feature_is_taken_once(registries):
    with pytest.raises(ValueError, match="'log_pt' exists already"):
        pcloud.register_feature("log_pt")(lambda particles: particles.pt)
    pcloud.register_feature("mine")(lambda particles: particles.pt)
    with pytest.raises(ValueError, match="'mine' exists already"):
        pcloud.register_feature("mine")(test_a_name_of_a_feature_is_taken_once)
    assert STANDARD["mine"] == Feature("mine")


# --- data sets


def test_a_data_set_of_ones_own_trains_by_its_name(registries, tmp_path):
    def load(split):
        jets = make_jets(60, seed=len(split))
        return ak.Array(jets.layout)  # without the names of its classes

    splits = {split: Split(()) for split in ("train", "val", "test")}
    info = DatasetInfo("made", "Toy jets", splits, ("few", "many"), load=load)
    pcloud.register_dataset(info)
    assert "made" in pcloud.list_datasets()
    run = pcloud.train(
        data="made", model="pfn", epochs=1, batch_size=20, out=tmp_path / "run", progress=False
    )
    assert run.classes == ["few", "many"]
    pcloud.register_dataset(info)  # the same once more is no other
    with pytest.raises(ValueError, match="'made' exists already"):
        pcloud.register_dataset(DatasetInfo("made", "Other jets", splits, ("few", "many")))
    with pytest.raises(ValueError, match="'landscape' exists already"):
        pcloud.register_dataset(DatasetInfo("landscape", "", splits, ("few", "many")))


# --- metrics


def test_a_metric_of_ones_own_has_the_error_of_its_spread(registries):
    @pcloud.register_metric("mean score")
    def mean_score(labels, scores):
        return float(scores.mean())

    labels, scores = GaussianTagger().draw(400, 600, np.random.default_rng(1))
    entry = pcloud.evaluate(labels, scores, metrics=["mean score"])["mean score"]
    assert entry.value == pytest.approx(scores.mean())
    parts = [scores[labels == c] for c in (0, 1)]
    variance = sum(len(part) * part.var() for part in parts) / len(scores) ** 2
    assert entry.error == pytest.approx(variance**0.5, rel=0.2)
    alone = pcloud.evaluate(labels, scores, metrics=["mean score"], num_bootstrap=0)
    assert np.isnan(alone["mean score"].error)
    assert "mean score" in list_metrics()
    with pytest.raises(UnknownNameError, match="did you mean 'mean score'"):
        pcloud.evaluate(labels, scores, metrics=["mean_score"])
    with pytest.raises(ValueError, match="exists already"):
        pcloud.register_metric("mean score")(test_a_name_of_a_feature_is_taken_once)


# --- models in a file


MODEL = '''
import pcloud
from torch import nn
from pcloud.nn import RaggedLayout, mean_pool

@pcloud.register_model("model of mine", paper="0000.00000", year=2026, use="a test")
class Mine(nn.Module):
    """Mean of the features."""

    version = 1

    def __init__(self, in_features, num_outputs=2):
        super().__init__()
        self.linear = nn.Linear(in_features, num_outputs)

    def forward(self, x, p4, batch, layout=None):
        return self.linear(mean_pool(x, layout or RaggedLayout.from_batch(batch)))

with open("imports.txt", "a") as file:
    file.write("x")
'''


def test_a_file_is_imported_once_and_again_where_it_has_changed(tmp_path, monkeypatch):
    from pcloud.models.registry import _MODELS

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(MODEL)
    first = pcloud.build_model("mine.py:Mine", in_features=3)
    assert type(pcloud.build_model("mine:Mine", in_features=3)) is type(first)
    assert type(pcloud.build_model("model of mine", in_features=3)) is type(first)
    assert (tmp_path / "imports.txt").read_text() == "x"
    file.write_text(MODEL.replace("version = 1", "version = 2"))
    assert pcloud.build_model("mine.py:Mine", in_features=3).version == 2
    assert pcloud.build_model("model of mine", in_features=3).version == 2
    assert (tmp_path / "imports.txt").read_text() == "xx"
    del _MODELS["model of mine"]


# --- plug-ins


PLUGIN = """
import pcloud
from pcloud.datasets import DatasetInfo, Split, register_dataset

register_dataset(DatasetInfo("plugged", "From a plug-in", {"test": Split(())}, ("a", "b")))
"""


def test_plug_ins_are_imported_once_and_a_broken_one_is_named(tmp_path, monkeypatch, registries):
    (tmp_path / "plugged_in.py").write_text(PLUGIN)
    (tmp_path / "plugged_badly.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    group = "pcloud.datasets"
    found = [EntryPoint("good", "plugged_in", group), EntryPoint("bad", "plugged_badly", group)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found)
    plugins.load_plugins.cache_clear()
    try:
        with pytest.warns(plugins.PluginWarning, match=r"'bad' of plugged_badly.*no_such_module"):
            assert "plugged" in pcloud.list_datasets()
        assert plugins.load_plugins(group)["good"].__name__ == "plugged_in"
    finally:
        plugins.load_plugins.cache_clear()


# --- the package


def test_the_package_names_what_it_offers_and_nothing_else():
    names = dir(pcloud)
    assert {"nn", "images", "train", "register_feature", "__version__"} <= {*names}
    assert not {"Any", "importlib", "annotations"} & {*names}
    for name in names:
        assert getattr(pcloud, name) is not None
