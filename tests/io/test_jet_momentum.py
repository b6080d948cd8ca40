"""The momentum of the jet itself, where a file stores it."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot
import vector

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import JetSchema, convert, read_jets, write_jets
from pcloud.io.jets import MOMENTUM
from tests.io.conftest import assert_same_jets, make_flat

SCHEMA = JetSchema(
    p4={"px": "px", "py": "py", "pz": "pz", "E": "e"},
    jet_p4={"pt": "jet_pt", "eta": "jet_eta", "phi": "jet_phi", "mass": "jet_m"},
    unit="MeV",
)


@pytest.fixture
def root_file(tmp_path):
    """Jets in MeV whose own momentum is not the sum of their particles."""
    flat = make_flat(20)
    columns = {
        name: ak.unflatten(1000 * values, flat.counts)
        for name, values in zip(("e", "px", "py", "pz"), flat.p4, strict=True)
    }
    rng = np.random.default_rng(0)
    jet = {
        "jet_pt": rng.uniform(4e5, 6e5, 20),
        "jet_eta": rng.normal(0, 1, 20),
        "jet_phi": rng.uniform(-3, 3, 20),
        "jet_m": rng.uniform(1e4, 2e5, 20),
    }
    path = tmp_path / "jets.root"
    with uproot.recreate(path) as file:
        file["tree"] = {**columns, **jet}
    return path, jet


def test_the_momentum_of_the_jet_is_read_in_gev(root_file):
    path, jet = root_file
    expected = vector.arr(
        {"pt": jet["jet_pt"], "eta": jet["jet_eta"], "phi": jet["jet_phi"], "mass": jet["jet_m"]}
    )
    stored = read_jets(path, SCHEMA).jet_p4
    for name in MOMENTUM:
        np.testing.assert_allclose(stored[name], getattr(expected, name) / 1000, rtol=1e-6)
    np.testing.assert_allclose(stored.mass, jet["jet_m"] / 1000, rtol=1e-4)  # a vector


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_it_survives_a_conversion(root_file, tmp_path, suffix):
    convert(root_file[0], tmp_path / f"a.{suffix}", SCHEMA)
    jets = read_jets(tmp_path / f"a.{suffix}")
    assert_same_jets(jets, read_jets(root_file[0], SCHEMA))
    write_jets(jets, tmp_path / f"b.{suffix}")
    assert_same_jets(read_jets(tmp_path / f"b.{suffix}"), jets)


def test_a_jet_whose_own_momentum_is_not_finite_is_bad(root_file, tmp_path):
    _, jet = root_file
    flat = make_flat(20)
    columns = dict(zip(("e", "px", "py", "pz"), flat.p4, strict=True))
    jet["jet_pt"][3] = np.nan
    with uproot.recreate(tmp_path / "bad.root") as file:
        ragged = {name: ak.unflatten(1000 * v, flat.counts) for name, v in columns.items()}
        file["tree"] = {**ragged, **jet}
    with pytest.raises(InputError, match=r"NaN or infinity in jet_pt/.* \(jet 3\)"):
        read_jets(tmp_path / "bad.root", SCHEMA)


def test_a_schema_names_all_of_it_or_nothing():
    p4 = {"px": "px", "py": "py", "pz": "pz"}
    with pytest.raises(InputError, match="jet_p4 needs px, py, pz or"):
        JetSchema(p4=p4, jet_p4={"pt": "jet_pt"})
    with pytest.raises(UnknownNameError, match="momentum quantity"):
        JetSchema(p4=p4, jet_p4={"energie": "e"})
    assert JetSchema.from_dict(SCHEMA.to_dict()) == SCHEMA


def test_a_public_sample_without_it_is_still_read(tmp_path):
    flat = make_flat(5)
    names = ("part_energy", "part_px", "part_py", "part_pz")
    columns = dict(zip(names, flat.p4, strict=True))
    with uproot.recreate(tmp_path / "jetclass.root") as file:
        file["tree"] = {name: ak.unflatten(v, flat.counts) for name, v in columns.items()}
    assert "jet_p4" not in read_jets(tmp_path / "jetclass.root", "jetclass2").fields
