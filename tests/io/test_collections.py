from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import FlatJets, read_jets, write_jets
from tests.io.columns import NUM_JETS, SCHEMA, make_columns, write_columns

COLLECTIONS = {
    "sv": {
        "p4": {"pt": "abs(sv_eta) + 1", "eta": "sv_eta", "phi": "sv_phi", "mass": "sv_mass"},
        "columns": {"mass": "sv_mass", "share": "sv_mass / jet_pt"},
    },
    "place": {"position": {"eta": "sv_eta", "phi": "sv_phi"}},
}


@pytest.fixture
def jets(tmp_path):
    schema = {**SCHEMA, "collections": COLLECTIONS}
    return read_jets(write_columns(tmp_path / "a.parquet"), schema)


def test_collections_have_their_own_lengths(jets):
    columns = make_columns()
    assert jets.sv.mass.to_list() == columns["sv_mass"]
    assert jets.place.eta.to_list() == columns["sv_eta"]
    assert ak.num(jets.sv.p4, axis=1).to_list() == [len(m) for m in columns["sv_mass"]]
    np.testing.assert_allclose(ak.flatten(jets.sv.p4.mass), ak.flatten(jets.sv.mass), rtol=1e-6)
    expected = ak.Array(columns["sv_mass"]) / columns["jet_pt"]
    np.testing.assert_allclose(ak.flatten(jets.sv.share), ak.flatten(expected))


def test_collections_survive_flat_columns_slices_and_selections(jets):
    flat = FlatJets.from_awkward(jets)
    assert ak.array_equal(flat.to_awkward(), jets)
    parts = [flat.slice(0, 7), flat.slice(7, NUM_JETS)]
    assert ak.array_equal(FlatJets.concatenate(parts).to_awkward(), jets)
    keep = np.arange(NUM_JETS) % 3 == 0
    assert ak.array_equal(flat.select(keep).to_awkward(), ak.to_packed(jets[keep]))
    assert flat.nbytes > FlatJets(flat.offsets, flat.p4, flat.particle, flat.jet).nbytes


def test_collections_and_targets_are_written_to_parquet_and_read_back(tmp_path, jets):
    jets = ak.with_field(jets, ak.zip({"mass": np.arange(NUM_JETS) / 3}), "targets")
    write_jets(jets, tmp_path / "b.parquet")
    found = read_jets(tmp_path / "b.parquet")
    assert set(found.fields) == {*jets.fields, "split_key"}
    for name in jets.fields:
        assert ak.array_equal(found[name], jets[name]), name
    with pytest.warns(UserWarning, match="the npz format has no column for sv, place: omitted"):
        write_jets(jets, tmp_path / "b.npz")
    np.testing.assert_array_equal(read_jets(tmp_path / "b.npz").targets.mass, jets.targets.mass)


def test_collections_are_read_by_column(tmp_path):
    file = write_columns(tmp_path / "a.parquet")
    schema = {**SCHEMA, "collections": COLLECTIONS}
    assert read_jets(file, schema, columns=["sv.mass"]).sv.fields == ["p4", "mass"]
    assert read_jets(file, schema, columns=["place"]).fields[-1] == "place"
    assert "sv" not in read_jets(file, schema, columns=[]).fields


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"columns": {"mass": "sv_mas"}}, "no column named 'sv_mas' .*did you mean 'sv_mass'"),
        ({"column": {"mass": "sv_mass"}}, "no field named 'column' in the collection 'sv'"),
        ({}, "needs p4, position or columns"),
        ({"position": {"eta": "sv_eta"}}, "collection 'sv': position needs eta and phi"),
        ({"columns": {"m": "sv_mass", "q": "charge"}}, "'charge' has . particles in jet 0"),
    ],
)
def test_wrong_collections_are_refused(tmp_path, part, message):
    file = write_columns(tmp_path / "a.parquet")
    with pytest.raises((InputError, UnknownNameError), match=message):
        read_jets(file, {**SCHEMA, "collections": {"sv": part}})


def test_one_name_stands_for_the_momenta_of_a_collection(tmp_path):
    from tests.collection_jets import write_columns as write_jets_of_collections

    file = write_jets_of_collections(tmp_path / "a.parquet", 10)
    p4 = {name: f"part_{name}" for name in ("E", "px", "py", "pz")}
    quantities = {q: f"sv_{q}" for q in ("pt", "eta", "phi", "mass")}
    long = read_jets(file, {"p4": p4, "collections": {"sv": {"p4": quantities}}})
    short = read_jets(file, {"p4": p4, "collections": {"sv": {"p4": "sv"}}})
    assert ak.array_equal(short, long)
    wrong = {"p4": p4, "collections": {"sv": {"p4": "vertex"}}}
    with pytest.raises(UnknownNameError, match="no four-momentum named 'vertex'"):
        read_jets(file, wrong)
    absent = read_jets(file, {**wrong, "optional": ["sv"]})
    assert "sv" not in absent.fields
