from __future__ import annotations

import h5py
import numpy as np
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import read_jets
from pcloud.io.references import as_expression
from tests.io.columns import NUM_JETS, SCHEMA, make_columns, write_columns


@pytest.fixture
def file(tmp_path):
    return write_columns(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["pt", "jets/pt", "X[0]", "E_{i}", "p4.E", "a-b", "my column"])
def test_names_are_no_expressions(name):
    assert as_expression(name) is None


@pytest.mark.parametrize("text", ["a / b", "a - b", "a*b", "-a", "abs(a)", "0.13957", "a == 'b'"])
def test_operators_functions_and_numbers_are_expressions(text):
    assert as_expression(text) is not None


def test_relative_coordinates_give_the_same_momenta(file):
    relative = {"pt": "ptfrac * jet_pt", "eta": "jet_eta + deta", "phi": "phi"}
    found, expected = read_jets(file, {"p4": relative}).p4, read_jets(file, SCHEMA).p4
    for component in ("E", "px", "py", "pz"):
        difference = found[component] - expected[component]
        assert np.abs(difference.layout.content.data).max() < 1e-9


def test_one_mass_for_all_particles(file):
    mass = read_jets(file, {"p4": {**SCHEMA["p4"], "mass": 0.13957}}).p4.mass
    np.testing.assert_allclose(np.asarray(mass.layout.content.data), 0.13957, atol=1e-3)


def test_expressions_of_particles_and_jets(file):
    schema = {
        **SCHEMA,
        "particle": {"is_charged": "abs(charge) == 1", "share": "pt / jet_pt"},
        "jet": {"num_vertices": "num(sv_mass)", "mean": "mean(charge)", "tev": "jet_pt / 1000"},
    }
    jets = read_jets(file, schema)
    columns = make_columns()
    assert jets.num_vertices.to_list() == [len(masses) for masses in columns["sv_mass"]]
    assert jets.is_charged[3].to_list() == [abs(q) == 1 for q in columns["charge"][3]]
    np.testing.assert_allclose(jets.tev, columns["jet_pt"] / 1000)
    np.testing.assert_allclose(jets.share[3], columns["ptfrac"][3])


def test_a_column_of_the_name_has_priority(tmp_path):
    file = write_columns(tmp_path / "a.parquet", **{"jet_pt * 2": np.zeros(NUM_JETS)})
    assert read_jets(file, {**SCHEMA, "jet": {"x": "jet_pt * 2"}}).x.to_list() == [0.0] * NUM_JETS


@pytest.mark.parametrize(
    ("jet", "message"),
    [
        ("log(jet_ptt)", "no column named 'jet_ptt' .*did you mean 'jet_pt'"),
        ("lgo(jet_pt)", "no function named 'lgo'.*did you mean 'log'"),
        ("jet_pt +", "invalid syntax"),
        ("pt * 2", "has one value per particle: make one per jet"),
        ("sum(pt) + max(sv_mass) + num(word)", "takes|texts|particles"),
    ],
)
def test_wrong_expressions_are_refused_in_one_line(file, jet, message):
    with pytest.raises(InputError, match=message) as error:
        read_jets(file, {**SCHEMA, "jet": {"x": jet}})
    assert "\n" not in str(error.value)


def test_other_collections_are_no_particles(file):
    with pytest.raises(InputError, match="'sv_mass' has 0 particles in jet 0"):
        read_jets(file, {**SCHEMA, "particle": {"x": "sv_mass * 2"}})


def test_columns_of_float32_give_float32(tmp_path):
    import pyarrow as pa

    lists = pa.array(make_columns()["pt"], pa.list_(pa.float32()))
    file = write_columns(tmp_path / "a.parquet", narrow=lists)
    jets = read_jets(file, {**SCHEMA, "particle": {"x": "narrow * 2", "y": "pt * 2"}})
    assert "float32" in str(jets.x.type)
    assert "float64" in str(jets.y.type)


def test_fields_of_hdf5_and_units_of_columns(tmp_path):
    tracks = np.zeros((3, 4), [("ptfrac", "f4"), ("eta", "f4"), ("phi", "f4"), ("valid", "?")])
    tracks["ptfrac"] = 0.25
    tracks["valid"][:, :2] = True
    jets = np.zeros(3, [("pt", "f4"), ("m", "f4")])
    jets["pt"] = [1e5, 2e5, 4e5]
    jets["m"] = 5e3
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["jets"] = jets
        file["tracks"] = tracks
    schema = {
        "p4": {"pt": "tracks.ptfrac * jets.pt", "eta": "tracks/eta", "phi": "tracks/phi"},
        "mask": "tracks/valid",
        "units": {"pt": "MeV", "jet_mass": "MeV"},
        "jet": {"jet_mass": "jets/m", "gev": 'column("jets/pt") / 1000'},
        "keep": ["jets/pt"],
    }
    found = read_jets(tmp_path / "a.h5", schema)
    np.testing.assert_allclose(found.p4.pt.to_numpy(), [[25, 25], [50, 50], [100, 100]], rtol=1e-6)
    np.testing.assert_allclose(found.jet_mass, 5)
    np.testing.assert_allclose(found.gev, [100, 200, 400])
    np.testing.assert_allclose(found.pt, [1e5, 2e5, 4e5])
    assert found.attrs["kept"] == ["pt"]
    with pytest.raises(UnknownNameError, match=r"no data set named 'tracks\.ptfracc'"):
        read_jets(tmp_path / "a.h5", {**schema, "particle": {"x": "tracks.ptfracc * 2"}})


def test_missing_values_are_filled_or_stay(tmp_path):
    import pyarrow as pa

    d0 = make_columns()["d0"]
    d0[2][0] = float("nan")
    hits = [None if i == 1 else i for i in range(NUM_JETS)]
    large = pa.array([None if i == 1 else 2**60 + i for i in range(NUM_JETS)], pa.int64())
    file = write_columns(tmp_path / "a.parquet", d0=d0, hits=hits, large=large)
    schema = {**SCHEMA, "particle": {"d0": "d0"}, "jet": {"hits": "hits"}}
    kept = read_jets(file, schema)  # no input of anything: neither an error nor a dropped jet
    assert len(kept) == NUM_JETS
    assert np.isnan(kept.d0[2][0])
    assert np.isnan(kept.hits[1])
    with pytest.raises(InputError, match=r"infinity in d0 \(jet 2\); fill=\{'d0': 0\} in the sch"):
        read_jets(file, schema, columns=["d0"])
    filled = read_jets(file, {**schema, "fill": {"d0": 0, "hits": -1}}, columns=["d0", "hits"])
    assert filled.d0[2][0] == 0
    assert filled.hits[:3].to_list() == [0, -1, 2]
    assert "int64" in str(filled.hits.type)
    with pytest.raises(InputError, match=r"'large' has missing values .*above 2\^53.*fill"):
        read_jets(file, {**SCHEMA, "jet": {"large": "large"}})
    exact = read_jets(file, {**SCHEMA, "jet": {"large": "large"}, "fill": {"large": 0}})
    assert exact.large[:3].to_list() == [2**60, 0, 2**60 + 2]


def test_only_the_columns_of_the_schema_are_read(file, monkeypatch):
    from pcloud.io.parquet import ParquetTable

    names = []
    read = ParquetTable.read_columns

    def spy(table, wanted, start, stop):
        names.extend(wanted)
        return read(table, wanted, start, stop)

    monkeypatch.setattr(ParquetTable, "read_columns", spy)
    schema = {
        **SCHEMA,
        "particle": {"x": "d0 * charge"},
        "select": "jet_pt > 0",
        "collections": {"sv": {"columns": {"mass": "sv_mass", "eta": "sv_eta"}}},
    }
    read_jets(file, schema, columns=["sv.mass"])
    assert set(names) == {"pt", "eta", "phi", "jet_pt", "sv_mass"}
