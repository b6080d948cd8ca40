"""Features of jets: given to networks with ``u``, repeated for each particle of others."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch

import pcloud
from pcloud.batch import batch_arguments
from pcloud.errors import InputError
from pcloud.features import FeatureSet, feature_set
from pcloud.models.registry import takes_jet_features
from pcloud.nn import RaggedLayout
from tests.models.contract import FEWER_BLOCKS, make_jets
from tests.training.conftest import TINY
from tests.training.conftest import make_jets as make_records

TAKES_U = [
    "deepjet",
    "gn2",
    "gru",
    "lstm",
    "part",
    "particlenet",
    "particlenet_collections",
    "particlenet_lite",
    "pfn",
    "rnn",
    "transformer",
]
FEATURES = ["jet_mass", "max(pt)", "ntrk"]


@pytest.fixture(scope="module")
def jets() -> ak.Array:
    jets = make_records(200)
    return ak.with_field(jets, ak.num(jets.p4) * 2.0, "ntrk")


def test_networks_with_features_of_jets():
    assert [name for name in pcloud.list_models() if takes_jet_features(name)] == TAKES_U


@pytest.mark.parametrize("name", TAKES_U)
def test_features_of_jets_change_the_scores_of_their_jets(name):
    torch.manual_seed(0)
    options = FEWER_BLOCKS.get(name, {})
    model = pcloud.build_model(name, 7, 3, num_jet_features=2, **options).eval()
    x, p4, batch = make_jets([3, 5, 20])
    u = torch.randn(3, 2)
    scores = model(x, p4, batch, u=u)
    layout = RaggedLayout.from_batch(batch).with_rows(u=u)
    assert torch.equal(model(x, p4, batch, layout), scores)
    changed = u.clone()
    changed[1] += 1
    differ = (model(x, p4, batch, u=changed) - scores).abs().max(-1).values
    assert differ[1] > 1e-4
    assert differ[[0, 2]].max() < 1e-6
    for wrong in (None, u[:, :1]):
        with pytest.raises(InputError, match="takes 2 features of jets, u, and got"):
            model(x, p4, batch, u=wrong)


def test_features_of_jets_are_computed_for_each_jet(jets):
    data = pcloud.JetDataset(jets, feature_set("kin", FEATURES))
    total = ak.sum(jets.p4.E, axis=1) ** 2 - sum(
        ak.sum(jets.p4[c], axis=1) ** 2 for c in ["px", "py", "pz"]
    )
    np.testing.assert_allclose(data.u[:, 0], np.sqrt(np.maximum(total, 0)), rtol=1e-3, atol=1e-2)
    pt = np.hypot(jets.p4.px, jets.p4.py)
    np.testing.assert_allclose(data.u[:, 1], ak.max(pt, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(data.u[:, 2], ak.num(jets.p4) * 2)
    assert data.x.shape[1] == 7
    (batch,) = pcloud.JetLoader(data[[3, 5]], 2)
    assert torch.equal(batch.u, data.u[[3, 5]])
    assert torch.equal(batch_arguments(batch)[3].u, batch.u)
    assert torch.equal(data[3].u, data.u[3:4])


def test_networks_without_u_get_them_for_each_particle(jets):
    features = feature_set("kin", FEATURES)
    repeated = features.for_network(takes_u=False)
    data = pcloud.JetDataset(jets, repeated)
    u = pcloud.JetDataset(jets, features).u
    batch = torch.repeat_interleave(torch.arange(len(data)), data.ptr.diff())
    assert data.u is None
    assert torch.equal(data.x[:, 7:], u[batch])
    assert features.for_network(takes_u=True) is features
    assert FeatureSet.from_dict(features.to_dict()) == features


def test_a_feature_of_particles_is_no_feature_of_jets(jets):
    with pytest.raises(InputError, match=r"'pt' of jets has one value per particle: sum\(\)"):
        pcloud.JetDataset(jets, feature_set("kin", ["pt"]))
    with pytest.raises(InputError, match="given twice: log_pt"):
        feature_set("kin", ["log_pt"])


@pytest.mark.parametrize(("model", "in_u"), [("pfn", 3), (TINY, 0)])
def test_a_run_stores_its_features_of_jets(jets, tmp_path, model, in_u):
    run = pcloud.train(
        data=jets, model=model, jet_features=FEATURES, out=str(tmp_path / "run"), epochs=1,
        batch_size=64, progress=False,
    )  # fmt: skip
    stored = pcloud.Run(run.path)
    assert len(stored.feature_set.jet_features) == in_u
    assert len(stored.feature_set.features) == 10 - in_u
    scores = stored.predict(jets)
    other = ak.with_field(jets, jets.ntrk + 50.0, "ntrk")
    assert np.abs(stored.predict(other) - scores).max() > 1e-4
    np.testing.assert_allclose(stored.predict(jets[:7]), scores[:7], atol=1e-6)


def test_jets_with_stored_momenta_can_be_trained_on(jets, tmp_path):
    total = ak.zip({c: ak.sum(jets.p4[c], axis=1) for c in ("E", "px", "py", "pz")})
    stored = ak.with_field(jets, total, "jet_p4")
    run = pcloud.train(
        data=stored, model="pfn", out=str(tmp_path / "run"), epochs=1, batch_size=64,
        progress=False,
    )  # fmt: skip
    assert run.feature_set.reference == "stored"
    assert np.isfinite(run.predict(stored[:5])).all()


def test_decisions_of_networks_with_features_of_jets_are_explained(jets, tmp_path):
    run = pcloud.train(
        data=jets, model="particlenet_lite", jet_features=FEATURES, out=str(tmp_path / "run"),
        epochs=1, batch_size=64, model_options={"widths": ((8,), (8,))}, progress=False,
    )  # fmt: skip
    run.explain("occlusion", jets=2)
    assert (run.path / "attribution.json").exists()
