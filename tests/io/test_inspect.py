"""Contents of files, and proposed schemas."""

from __future__ import annotations

import awkward as ak
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot

from pcloud.cli.program import main
from pcloud.errors import InputError
from pcloud.io import JetSchema, read_jets, write_jets
from pcloud.io.inspect import inspect_file
from pcloud.yaml_files import parse_yaml
from tests.io.conftest import landscape_frame, make_flat, padded


def proposed(path, **options):
    """Proposed schema, as its YAML says."""
    return parse_yaml(inspect_file(path, **options).schema_text()) or {}


@pytest.fixture
def jets():
    return make_flat(num_jets=40, extras=True).to_awkward()


def weaver_columns(jets):
    columns = {f"pfcand_{name}": getattr(jets.p4, name) for name in ("pt", "eta", "phi")}
    columns |= {"pfcand_energy": jets.p4.E, "pfcand_charge": jets.charge, "pfcand_d0": jets.d0}
    columns |= {"pfcand_isMuon": jets.is_muon, "jet_sdmass": jets.jet_sdmass}
    columns |= {"label_QCD": jets.label == 0, "label_Top": jets.label == 1}
    number = np.arange(len(jets), dtype=np.uint64)
    return columns | {"genWeight": number / 7, "event": number, "run": number // 9}


def test_the_names_of_weaver_are_understood(tmp_path, jets):
    with uproot.recreate(tmp_path / "a.root") as file:
        for name in ("Events", "Runs"):
            columns = weaver_columns(jets if name == "Events" else jets[:2])
            types = {n: ak.type(ak.Array(c)).content for n, c in columns.items()}
            file.mktree(name, types)
            file[name].extend(columns)
    contents = inspect_file(tmp_path / "a.root")
    assert contents.trees == {"Events": 40, "Runs": 2}
    assert proposed(tmp_path / "a.root") == {
        "tree": "Events",
        "p4": {"E": "pfcand_energy", **{q: f"pfcand_{q}" for q in ("pt", "eta", "phi")}},
        "particle": {"charge": "pfcand_charge", "d0": "pfcand_d0", "is_muon": "pfcand_isMuon"},
        "jet": {"jet_sdmass": "jet_sdmass"},
        "label": ["label_QCD", "label_Top"],
        "weight": "genWeight",
        "event": {"event": "event", "run": "run"},
    }
    assert proposed(tmp_path / "a.root", tree="Runs")["tree"] == "Runs"
    schema = {
        n: v for n, v in proposed(tmp_path / "a.root").items() if n not in ("weight", "event")
    }
    found = read_jets(tmp_path / "a.root", JetSchema.from_dict(schema))
    np.testing.assert_array_equal(found.label, jets.label)
    np.testing.assert_allclose(
        ak.flatten(found.p4.px), ak.flatten(jets.p4.px), rtol=1e-4, atol=1e-3
    )


def test_lists_of_lists_and_indices_are_events(tmp_path, jets):
    counts = [2, 0, 3] * 8
    names = ("pt", "eta", "phi", "E")
    nested = {f"jet_const_{n}": ak.unflatten(getattr(jets.p4, n), counts) for n in names}
    total = ak.sum(jets.p4, axis=1)
    per_jet = {n: ak.unflatten(getattr(total, n), counts) for n in names[:3]}
    per_jet["mass"] = per_jet["pt"] / 10
    top = ak.unflatten(jets.label, counts)
    columns = nested | {f"jet_{n}": column for n, column in per_jet.items()} | {"jet_isTop": top}
    ak.to_parquet(ak.Array(columns), tmp_path / "a.parquet")
    p4 = {"pt": "jet_const_pt", "eta": "jet_const_eta", "phi": "jet_const_phi", "E": "jet_const_E"}
    assert proposed(tmp_path / "a.parquet") == {
        "p4": p4,
        "jet_p4": {name: f"jet_{name}" for name in per_jet},
        "label": "jet_isTop",
        "classes": ["other", "Top"],
        "keep": ["index"],
    }
    nano = {f"PFCands_{n.removeprefix('jet_const_')}": ak.flatten(c, 2) for n, c in nested.items()}
    jet = ak.flatten(ak.broadcast_arrays(ak.local_index(top, axis=1), nested["jet_const_pt"])[0], 2)
    nano |= {"FatJetPFCands_jetIdx": jet, "FatJetPFCands_pFCandsIdx": ak.local_index(jet)}
    nano |= {f"FatJet_{name}": column for name, column in per_jet.items()}
    nano["FatJet_hadronFlavour"] = 5 * top
    ak.to_parquet(ak.Array(nano), tmp_path / "b.parquet")
    found = proposed(tmp_path / "b.parquet")
    assert found["index"] == {"jet": "FatJetPFCands_jetIdx", "particle": "FatJetPFCands_pFCandsIdx"}
    assert found["p4"]["pt"] == "PFCands_pt"
    assert found["jet_p4"]["mass"] == "FatJet_mass"
    assert found["classes"] == {"light": 0, "b": 5}


def test_flavour_tagging_files_have_a_mask_flavours_and_mev(tmp_path):
    rng = np.random.default_rng(0)
    tracks = np.zeros((50, 10), [("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("valid", "?")])
    tracks["valid"] = np.arange(10) < rng.integers(1, 10, 50)[:, None]
    tracks["pt"] = np.where(tracks["valid"], 5e4, np.nan)
    per_jet = np.zeros(50, [("HadronConeExclTruthLabelID", "i4"), ("eventNumber", "i8")])
    per_jet["HadronConeExclTruthLabelID"] = rng.choice([0, 4, 5, 15], 50)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["jets"] = per_jet
        file["tracks"] = tracks
    assert proposed(tmp_path / "a.h5") == {
        "unit": "MeV",
        "p4": {name: f"tracks/{name}" for name in ("pt", "eta", "phi")},
        "mask": "tracks/valid",
        "label": "jets/HadronConeExclTruthLabelID",
        "classes": {"light": 0, "c": 4, "b": 5, "tau": 15},
        "event": {"event": "jets/eventNumber"},
    }
    row = next(r for r in inspect_file(tmp_path / "a.h5").rows() if r[0] == "tracks/pt")
    missing = 1 - tracks["valid"].mean()
    assert row[1:] == ["(50, 10)", "float32", "", "50000", "50000", f"{missing:.2%}"]


def test_slots_and_arrays_are_momenta(tmp_path):
    flat = make_flat(num_jets=30)
    landscape_frame(flat).to_hdf(tmp_path / "a.h5", key="table", format="table")
    found = proposed(tmp_path / "a.h5")
    assert found["p4"] == {"px": "PX_{i}", "py": "PY_{i}", "pz": "PZ_{i}", "E": "E_{i}"}
    block = padded(flat, 70)
    np.savez(tmp_path / "b.npz", X=block[..., [1, 2, 3, 0]], y=flat.jet["label"])
    order = {"E": "X[3]", "px": "X[0]", "py": "X[1]", "pz": "X[2]"}
    assert proposed(tmp_path / "b.npz") == {"p4": order, "label": "y"}
    jets = read_jets(tmp_path / "b.npz", proposed(tmp_path / "b.npz"))
    np.testing.assert_array_equal(ak.flatten(jets.p4.pz), flat.p4[3])
    np.savez(tmp_path / "c.npz", p4=np.stack(flat.p4, axis=-1), counts=flat.counts)
    assert proposed(tmp_path / "c.npz")["counts"] == "counts"
    write_jets(flat.to_awkward(), tmp_path / "ours.parquet")
    assert "no schema is needed" in inspect_file(tmp_path / "ours.parquet").schema_text()


def test_real_events_of_nanoaod_are_clouds_of_their_jets(reference_data):
    found = proposed(reference_data / "nanoAOD_2015_CMS_Open_Data_ttbar.root")
    assert found["p4"] == {name: f"Jet_{name}" for name in ("pt", "eta", "phi", "mass")}
    assert found["event"] == {"event": "event", "run": "run", "lumi": "luminosityBlock"}
    assert "index" not in found


def test_names_of_files_are_text_on_the_terminal(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **{"\x1b[31mred_pt": np.ones(3), "[bold]x": np.ones(3)})
    assert main(["inspect", str(tmp_path / "a.npz")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[31mred_pt" in out
    assert "[bold]x" in out
    assert "No momenta were recognised" in out


def test_the_command_writes_a_schema_that_is_read(tmp_path, jets, capsys):
    columns = weaver_columns(jets)
    columns = {n: c for n, c in columns.items() if n not in ("genWeight", "event", "run")}
    ak.to_parquet(ak.Array(columns), tmp_path / "it's.parquet")
    words = ["inspect", str(tmp_path / "it's.parquet"), "-o", str(tmp_path / "s.yaml")]
    assert main(words) == 0
    assert "label: [label_QCD, label_Top]" in capsys.readouterr().out
    with pytest.raises(InputError) as error:
        read_jets(tmp_path / "it's.parquet")
    assert str(error.value).endswith(f"pcloud inspect '{tmp_path}/it'\"'\"'s.parquet'")
    schema = parse_yaml((tmp_path / "s.yaml").read_text(encoding="utf-8"))
    assert len(read_jets(tmp_path / "it's.parquet", schema)) == 40
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err


def test_columns_that_cannot_be_read_are_listed_with_their_reason(tmp_path, jets):
    table = ak.to_arrow_table(ak.Array(weaver_columns(jets)), extensionarray=False)
    pq.write_table(table, tmp_path / "a.parquet", write_page_checksum=True)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[40:60] = bytes(20)
    (tmp_path / "a.parquet").write_bytes(content)
    contents = inspect_file(tmp_path / "a.parquet")
    assert len(contents.unreadable) == 1
    assert len(contents.columns) == len(weaver_columns(jets)) - 1
    with pytest.raises(InputError, match="rows must be at least 1"):
        inspect_file(tmp_path / "a.parquet", rows=0)
