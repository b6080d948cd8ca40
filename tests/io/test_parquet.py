from __future__ import annotations

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import JetSchema, iter_jets, parquet, read_jets, write_jets
from tests.io.conftest import assert_same_jets, make_flat


@pytest.fixture
def jets():
    return make_flat(num_jets=500, extras=True).to_awkward(("qcd", "top"))


def test_awkward_reads_what_is_written(tmp_path, jets):
    write_jets(jets, tmp_path / "a.parquet")
    found = ak.from_parquet(tmp_path / "a.parquet")
    assert set(found.fields) == {*jets.fields, "split_key"}
    assert ak.array_equal(found.p4.px, jets.p4.px, dtype_exact=True)
    assert ak.array_equal(found.charge, jets.charge)
    np.testing.assert_array_equal(found.label, jets.label)


def test_what_awkward_writes_is_read(tmp_path, jets):
    ak.to_parquet(jets, tmp_path / "a.parquet")
    found = read_jets(tmp_path / "a.parquet")
    assert_same_jets(found, jets)
    assert "classes" not in found.attrs  # awkward has its own metadata


def test_row_groups_bound_the_memory_and_are_joined(tmp_path, jets, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", 2000)
    write_jets(jets, tmp_path / "a.parquet")
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert len(groups) > 6
    assert all(2000 <= group.column(0).num_values < 2060 for group in groups[:-1])
    assert_same_jets(read_jets(tmp_path / "a.parquet"), jets)
    for start, stop in ((0, 64), (63, 65), (100, 400), (499, 500)):
        assert_same_jets(
            read_jets(tmp_path / "a.parquet", start=start, stop=stop), jets[start:stop]
        )


def test_large_row_groups_are_read_in_batches(tmp_path, jets, monkeypatch):
    write_jets(jets, tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "_MAX_GROUP_BYTES", 0)
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 48)
    assert_same_jets(read_jets(tmp_path / "a.parquet"), jets)
    assert_same_jets(read_jets(tmp_path / "a.parquet", start=200, stop=350), jets[200:350])
    chunks = list(iter_jets(tmp_path / "a.parquet", chunk_size=70))
    assert_same_jets(ak.concatenate(chunks), jets)


def test_list_columns_of_ones_own_are_read_by_a_schema(tmp_path):
    pt = [[100.0, 20.0], [50.0]]
    table = pa.table(
        {
            "pt": pa.array(pt, pa.large_list(pa.float64())),
            "eta": pa.array([[0.1, 0.2], [1.0]]),
            "phi": pa.array([[0.0, 1.0], [2.0]]),
            "cand": pa.array([[{"q": 1}, {"q": -1}], [{"q": 0}]]),
            "jet": pa.array([{"mass": 80.0}, {"mass": 5.0}]),
            "y": pa.array([1, 0], pa.int8()),
            "name": pa.array(["a", "b"]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    schema = JetSchema(
        {"pt": "pt", "eta": "eta", "phi": "phi"},
        particle={"charge": "cand.q"},
        jet={"jet_mass": "jet.mass"},
        label="y",
    )
    jets = read_jets(tmp_path / "a.parquet", schema)
    assert jets.charge.to_list() == [[1, -1], [0]]
    assert jets.jet_mass.to_list() == [80.0, 5.0]
    assert jets.label.to_list() == [1, 0]
    np.testing.assert_allclose(ak.flatten(jets.p4.pt), ak.flatten(pt))
    assert ak.type(jets.p4.E).content.content.primitive == "float64"


def test_fixed_size_lists_are_padded_arrays(tmp_path):
    values = np.zeros((3, 5, 4), dtype=np.float32)
    values[:, :2] = [[5, 3, 0, 4], [2, 0, 2, 0]]
    lists = pa.FixedSizeListArray.from_arrays(values.ravel(), 4)
    pq.write_table(
        pa.table({"X": pa.FixedSizeListArray.from_arrays(lists, 5)}), tmp_path / "a.parquet"
    )
    jets = read_jets(
        tmp_path / "a.parquet",
        JetSchema({n: f"X[{i}]" for i, n in enumerate(("E", "px", "py", "pz"))}),
    )
    assert jets.p4.pz.to_list() == [[4, 0]] * 3


def test_missing_values_make_a_jet_bad(tmp_path):
    columns = {
        "px": [[1.0, None], [1.0], None, [2.0]],
        "py": [[1.0, 2.0], [1.0], None, [2.0]],
        "pz": [[1.0, 2.0], [1.0], None, [2.0]],
        "y": [0, None, 1, 1],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    schema = JetSchema({n: n for n in ("px", "py", "pz")}, label="y")
    message = (
        r"no particles \(jet 2\); .*NaN or infinity in px \(jet 0\); .*y not a whole .*\(jet 1\)"
    )
    with pytest.raises(InputError, match=message):
        read_jets(tmp_path / "a.parquet", schema)


def test_text_is_no_column_of_numbers(tmp_path):
    pq.write_table(pa.table({"px": [["1"]], "py": [[1.0]], "pz": [[1.0]]}), tmp_path / "a.parquet")
    with pytest.raises(UnknownNameError, match="no column named 'px'"):
        read_jets(tmp_path / "a.parquet", JetSchema({n: n for n in ("px", "py", "pz")}))


def test_damage_is_noticed_by_the_checksums(tmp_path, jets):
    write_jets(jets, tmp_path / "a.parquet")
    good = (tmp_path / "a.parquet").read_bytes()
    for position in np.linspace(100, len(good) * 0.8, 40).astype(int):
        bad = bytearray(good)
        bad[position] ^= 16
        (tmp_path / "a.parquet").write_bytes(bytes(bad))
        with pytest.raises(InputError, match=r"a\.parquet: "):
            read_jets(tmp_path / "a.parquet")


def test_names_of_classes_must_be_a_list(tmp_path, jets):
    write_jets(jets, tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet").replace_schema_metadata({"classes": '{"a": 1}'})
    pq.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(InputError, match="cannot read the names of the classes"):
        read_jets(tmp_path / "b.parquet")
