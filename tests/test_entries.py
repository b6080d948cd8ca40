"""Further collections of the jets as rows of a batch."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch

from pcloud import kinematics
from pcloud.batch import JetDataset, JetLoader, batch_arguments, particles_of
from pcloud.entries import positions
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FeatureSet
from tests.collection_jets import jets_with_collections, shuffled_entries

LISTS = {"sv": ["default", "x"], "lost": None, "flow": ["pt"]}


@pytest.fixture(scope="module")
def jets(tmp_path_factory):
    return jets_with_collections(tmp_path_factory.mktemp("jets") / "a.parquet")


@pytest.fixture(scope="module")
def data(jets):
    return JetDataset(jets, "kin", collections=LISTS)


def test_the_rows_of_a_jet_are_its_particles_and_then_each_collection(jets, data):
    for i in range(len(jets)):
        rows = slice(int(data.ptr[i]), int(data.ptr[i + 1]))
        expected = np.repeat(range(4), [len(jets[n][i]) for n in ("p4", "sv", "lost", "flow")])
        assert data.collection[rows].tolist() == expected.tolist()
    assert data.feature_set.widths == (7, 8, 4, 1)
    assert data.x.shape == (len(data.collection), 8)
    for i, width in enumerate(data.feature_set.widths):
        assert not data.x[data.collection == i, width:].any()


def test_the_particles_are_as_without_further_collections(jets, data):
    alone = JetDataset(jets, "kin")
    particles = data.collection == 0
    assert torch.equal(data.x[particles, :7], alone.x)
    assert torch.equal(data.p4[particles], alone.p4)
    assert alone.collection is None
    assert alone.jet_p4 is None
    p4, layout = data.particles()
    assert torch.equal(p4, alone.p4)
    assert torch.equal(layout.ptr, alone.ptr)


def test_the_momentum_of_a_jet_is_the_sum_of_its_particles_alone(jets, data):
    expected = np.stack([ak.to_numpy(ak.sum(jets.p4[n], axis=1)) for n in ("E", "px", "py", "pz")])
    np.testing.assert_allclose(data.jet_p4.numpy(), expected.T, rtol=1e-12)
    (batch,) = JetLoader(data, len(data))
    assert torch.equal(batch_arguments(batch)[3].jet_p4, data.jet_p4)


def test_a_stored_momentum_of_the_jet_goes_before_the_sum(jets):
    axis = ak.zip({"pt": 400.0, "eta": np.full(len(jets), 0.1), "phi": 2.0, "mass": 50.0})
    stored = ak.with_field(jets, axis, "jet_p4")
    data = JetDataset(stored, "kin", collections={"lost": ["deta"]})
    assert data.feature_set.reference == "stored"
    np.testing.assert_allclose(kinematics.eta(data.jet_p4), 0.1)
    rows = data.collection == 1
    expected = ak.flatten(jets.lost.eta) - 0.1
    np.testing.assert_allclose(sorted(data.x[rows, 0]), sorted(expected), atol=1e-6)


def test_positions_take_the_place_of_momenta(jets, data):
    axis = data.jet_p4
    jet = torch.repeat_interleave(torch.arange(len(jets)), data.ptr.diff())
    eta, phi = kinematics.eta(axis)[jet], kinematics.phi(axis)[jet]
    lost = data.collection == 2
    eta_found = (data.pos[lost, 0] + eta[lost]).numpy()
    phi_found = kinematics.wrap_phi(data.pos[lost, 1] + phi[lost]).numpy()
    np.testing.assert_allclose(sorted(eta_found), sorted(ak.flatten(jets.lost.eta)), atol=1e-5)
    np.testing.assert_allclose(sorted(phi_found), sorted(ak.flatten(jets.lost.phi)), atol=1e-5)
    assert not data.p4[lost].any()
    assert not data.pos[data.collection == 3].any()
    with_momenta = data.collection < 2
    expected = kinematics.eta(data.p4.double()) - eta
    torch.testing.assert_close(
        data.pos[with_momenta, 0].double(), expected[with_momenta], atol=1e-5, rtol=0
    )
    assert JetDataset(jets, "kin", collections=["sv"]).pos is None


def test_the_order_of_entries_does_not_matter(jets, data):
    other = JetDataset(shuffled_entries(jets), data.feature_set)
    for name in ("x", "p4", "pos", "collection", "jet_p4", "ptr"):
        assert torch.equal(getattr(other, name), getattr(data, name)), name


def test_rows_return_to_the_order_of_the_input(jets, data):
    in_input = data.in_input_order(data.x[:, :1])
    first = slice(int(data.ptr[3]), int(data.ptr[4]))
    log_pt = data.feature_set.features[0]
    pt = (in_input[first][data.collection[first] == 0, 0] / log_pt.scale + log_pt.shift).exp()
    np.testing.assert_allclose(pt.numpy(), np.hypot(jets.p4.px[3], jets.p4.py[3]), rtol=1e-5)


def test_chunks_subsets_and_concatenations_have_the_same_rows(jets, data, monkeypatch):
    monkeypatch.setattr("pcloud.batch.dataset._CHUNK_JETS", 7)
    chunked = JetDataset(jets, data.feature_set)
    whole = JetDataset.concatenate([data[:20], data[20:]])
    for other in (chunked, whole):
        for name in ("x", "p4", "pos", "collection", "jet_p4", "ptr", "order"):
            assert torch.equal(getattr(other, name), getattr(data, name)), name
    (batch,) = JetLoader(data[[5, 2]], 2)
    assert batch.collection.tolist() == [
        *data.collection[data.ptr[5] : data.ptr[6]].tolist(),
        *data.collection[data.ptr[2] : data.ptr[3]].tolist(),
    ]
    one = data[4]
    assert one.collection.tolist() == data.collection[data.ptr[4] : data.ptr[5]].tolist()
    p4, layout = particles_of(batch)
    assert len(p4) == len(jets.p4[5]) + len(jets.p4[2])
    assert layout.num_jets == 2


def test_momenta_of_collections_may_have_other_coordinates(jets, data):
    polar = ak.zip(
        {
            "pt": np.hypot(jets.sv.p4.px, jets.sv.p4.py),
            "pz": jets.sv.p4.pz,
            "phi": np.arctan2(jets.sv.p4.py, jets.sv.p4.px),
            "energy": jets.sv.p4.E,
        }
    )
    polar["eta"] = np.arcsinh(polar.pz / polar.pt)
    changed = ak.with_field(jets, polar[["pt", "eta", "phi", "energy"]], ["sv", "p4"])
    torch.testing.assert_close(
        JetDataset(changed, data.feature_set).x, data.x, rtol=1e-4, atol=1e-5
    )


def test_bad_collections_are_named(jets, data):
    without = jets[[name for name in jets.fields if name != "sv"]]
    with pytest.raises(UnknownNameError, match="no collection named 'sv'"):
        JetDataset(without, data.feature_set)
    with pytest.raises(InputError, match="there is no collection 'sv': the schema names none"):
        JetDataset(without[["p4"]], "kin", collections=["sv"])
    with pytest.raises(UnknownNameError, match=r"no collection named 'svs'.*'sv'"):
        JetDataset(jets, "kin", collections=["svs"])
    with pytest.raises(UnknownNameError, match="no column named 'y' in collection 'sv'"):
        JetDataset(jets, "kin", collections={"sv": ["y"]})
    with pytest.raises(InputError, match="feature 'pt' of collection 'lost' needs its momenta"):
        JetDataset(jets, "kin", collections={"lost": ["pt"]})
    with pytest.raises(InputError, match="features of collection 'sv' given twice: x"):
        JetDataset(jets, "kin", collections={"sv": ["x", "x"]})
    for wrong in (3, {"sv": 3}, {"sv": [3]}, {"sv": []}):
        with pytest.raises(InputError, match="collection"):
            JetDataset(jets, "kin", collections=wrong)
    flat = ak.with_field(jets, ak.num(jets.sv, axis=1), "sv")
    with pytest.raises(InputError, match="collection 'sv' must be a list of records for each jet"):
        JetDataset(flat, data.feature_set)
    energy = ak.where(ak.local_index(jets.sv.x) == 0, np.nan, jets.sv.p4.E)
    bad = ak.with_field(jets, energy, ["sv", "p4", "E"])
    with pytest.raises(InputError, match="NaN or infinity in E of sv"):
        JetDataset(bad, data.feature_set)


def test_a_feature_set_with_collections_is_stored(data):
    stored = data.feature_set.to_dict()
    assert FeatureSet.from_dict(stored) == data.feature_set
    assert "of lost deta, dphi, delta_r, q" in data.feature_set.describe()
    assert "sv: 0 to 2 entries, mean" in repr(data)
    assert set(data.feature_set.columns) == {
        "sv.p4",
        "sv.x",
        "lost.eta",
        "lost.phi",
        "lost.q",
        "flow.pt",
    }


def test_a_recorded_network_takes_any_number_of_entries_with_columns_alone(data):
    flow = data.feature_set.collections[2]
    assert flow.entries == "columns"

    class Positions(torch.nn.Module):
        def forward(self, p4):
            return positions(flow, p4, {}, p4)

    entries = (torch.zeros(17, 4),)
    free = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Positions(), entries, dynamic_shapes=free).module()
    assert program(torch.zeros(5, 4)).shape == (5, 2)
