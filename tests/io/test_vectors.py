"""Four-momenta of one name: objects of ROOT, records, columns with a common beginning."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import JetSchema, read_jets, root
from tests.io.conftest import assert_same_jets, make_flat


@pytest.fixture
def jets():
    return make_flat(num_jets=20, dtype=np.float64).to_awkward()[["p4"]]


def as_root_vectors(p4):
    """Records with the members of TLorentzVector, and of ROOT::Math::LorentzVector."""
    position = ak.zip({f"f{axis.upper()}": p4[f"p{axis}"] for axis in "xyz"})
    xyzt = ak.with_field(position, p4.E, "fT")
    ptm = ak.zip({"fPt": p4.pt, "fEta": p4.eta, "fPhi": p4.phi, "fM": p4.mass})
    return {
        "lorentz": ak.zip({"fP": position, "fE": p4.E}, depth_limit=2),
        "cartesian": ak.zip({"fCoordinates": xyzt}, depth_limit=2),
        "polar": ak.zip({"fCoordinates": ptm}, depth_limit=2),
        "record": ak.zip({name: p4[name] for name in ("px", "py", "pz", "E")}),
    }


@pytest.mark.parametrize("name", ["lorentz", "cartesian", "record"])
def test_records_are_four_momenta(tmp_path, jets, name):
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("tree", as_root_vectors(jets.p4))
    assert_same_jets(read_jets(tmp_path / "a.root", {"p4": name}), jets)


def test_coordinates_of_pt_eta_phi_and_mass_are_converted(tmp_path, jets):
    ak.to_parquet(ak.Array(as_root_vectors(jets.p4)), tmp_path / "a.parquet")
    found = read_jets(tmp_path / "a.parquet", {"p4": "polar"})
    for name in ("E", "px", "py", "pz"):
        np.testing.assert_allclose(ak.flatten(found.p4[name]), ak.flatten(jets.p4[name]), rtol=1e-9)


def test_objects_in_a_ttree_are_read_once_by_their_members(tmp_path, jets, monkeypatch):
    # uproot does not write objects: the branch of a file is given those of TLorentzVector.
    vectors = as_root_vectors(jets.p4)["lorentz"]
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("tree", {"Jet_p4": "var * float64"})
        file["tree"].extend({"Jet_p4": jets.p4.E})
    reads = []

    def read_branch(self, name, start, stop):
        reads.append(name)
        return vectors[start:stop]

    monkeypatch.setattr(root, "_form", lambda branch: vectors.layout.form)
    monkeypatch.setattr(root.RootTree, "_read_branch", read_branch)
    assert_same_jets(read_jets(tmp_path / "a.root", {"p4": "Jet_p4"}), jets)
    assert reads == ["Jet_p4"]
    fields = {"px": "Jet_p4.fP.fX", "py": "Jet_p4.fP.fY", "pz": "Jet_p4.fP.fZ", "E": "Jet_p4.fE"}
    assert_same_jets(read_jets(tmp_path / "a.root", {"p4": fields}), jets)


def test_members_that_are_branches_are_found_below_their_object(tmp_path, jets):
    columns = {f"Jet_p4/Jet_p4.{n}": jets.p4[c] for n, c in (("fE", "E"), ("fP.fX", "px"))}
    columns |= {f"Jet_p4/Jet_p4.fP.f{n.upper()}": jets.p4[f"p{n}"] for n in "yz"}
    ak.to_parquet(ak.Array(columns), tmp_path / "a.parquet")
    assert_same_jets(read_jets(tmp_path / "a.parquet", {"p4": "Jet_p4"}), jets)


def test_the_beginning_of_a_name_stands_for_the_columns_of_a_collection(reference_data):
    path = reference_data / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    full = {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi", "mass": "Jet_mass"}
    with pytest.warns(match="no particles"):
        jets = read_jets(path, {"p4": "Jet", "tree": "Events"}, on_bad_jet="drop")
    with pytest.warns(match="no particles"):
        expected = read_jets(path, {"p4": full, "tree": "Events"}, on_bad_jet="drop")
    assert_same_jets(jets, expected)


def test_what_is_no_four_momentum_is_an_error(tmp_path, jets):
    columns = as_root_vectors(jets.p4) | {"number": ak.num(jets.p4), "part_pt": jets.p4.pt}
    ak.to_parquet(ak.Array(columns), tmp_path / "a.parquet")

    def read(name):
        return read_jets(tmp_path / "a.parquet", {"p4": name})

    with pytest.raises(UnknownNameError, match=r"no four-momentum named 'lorenz'.*'lorentz'"):
        read("lorenz")
    with pytest.raises(InputError, match="'number' has numbers and is no four-momentum"):
        read("number")
    with pytest.raises(InputError, match="'part' there are only part_pt; needed are"):
        read("part")
    assert JetSchema.from_dict(JetSchema(p4="part").to_dict()) == JetSchema(p4="part")
