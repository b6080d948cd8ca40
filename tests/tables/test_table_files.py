"""Tables from files: columns, labels in words, missing values, and files that cannot be used."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcloud.errors import InputError
from pcloud.tables import Table, TableColumns, read_table
from pcloud.tables.columns import MissingValueWarning

CSV = "mass,jets,Weight,Label,run\n125.5,2,0.5,s,7\n-999,0,1.5,b,7\n90,1,2,b,8\n"
SCHEMA = {"classes": {"background": "b", "signal": "s"}, "leave_out": "run"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(CSV)
    return path


def check(table):
    assert list(table.columns) == ["mass", "jets"]
    np.testing.assert_array_equal(table.columns["mass"], [125.5, np.nan, 90])
    np.testing.assert_array_equal(table.label, [1, 0, 0])
    np.testing.assert_array_equal(table.weight, [0.5, 1.5, 2])
    assert table.attrs["classes"] == ["background", "signal"]


def test_columns_have_a_name_and_a_meaning_in_every_format(file, tmp_path):
    check(read_table(file, SCHEMA))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    check(read_table(tmp_path / "a.csv.gz", SCHEMA))
    (tmp_path / "a.tsv").write_text("\ufeff" + CSV.replace(",", "\t"), encoding="utf-8")
    check(read_table(tmp_path / "a.tsv", SCHEMA))
    columns = {"mass": [125.5, -999, 90], "jets": [2, 0, 1], "Weight": [0.5, 1.5, 2]}
    columns |= {"Label": ["s", "b", "b"], "run": [7, 7, 8]}
    words = pa.array(columns["Label"]).dictionary_encode()
    pq.write_table(pa.table(columns | {"Label": words}), tmp_path / "a.parquet")
    check(read_table(tmp_path / "a.parquet", SCHEMA))
    np.savez(tmp_path / "a.npz", **{name: np.array(values) for name, values in columns.items()})
    check(read_table(tmp_path / "a.npz", SCHEMA))


def test_columns_of_one_array_have_names_or_numbers(tmp_path):
    x = np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "a.npz", x=x, y=[0, 1, 1])
    assert list(read_table(tmp_path / "a.npz").columns) == ["x[0]", "x[1]"]
    np.savez(tmp_path / "b.npz", x=x, y=[0, 1, 1], names=["pt", "eta"])
    table = read_table(tmp_path / "b.npz")
    np.testing.assert_array_equal(table.columns["eta"], x[:, 1])
    np.testing.assert_array_equal(table.label, [0, 1, 1])


def test_words_are_sorted_to_classes(file):
    table = read_table(file)
    assert table.attrs["classes"] == ["b", "s"]
    np.testing.assert_array_equal(table.label, [1, 0, 0])


def test_files_of_one_class_each_give_the_label(tmp_path):
    for name, numbers in (("a", "1\n2\n"), ("b", "3\n")):
        (tmp_path / f"{name}.csv").write_text(f"x\n{numbers}")
    files = {"signal": tmp_path / "b.csv", "other": tmp_path / "a.csv"}
    table = read_table({name: str(path) for name, path in files.items()})
    assert table.attrs["classes"] == ["signal", "other"]
    np.testing.assert_array_equal(table.columns["x"], [3, 1, 2])
    np.testing.assert_array_equal(table.label, [0, 1, 1])
    np.testing.assert_array_equal(table["entry"], [0, 0, 1])
    assert table[table.label == 1]["x"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "schema", "message"),
    [
        (CSV, {"label": "lable"}, "no column of label named 'lable'.*did you mean 'Label'"),
        (CSV, {"targets": {"m": "mas"}}, "column of target named 'mas'.*did you mean 'mass'"),
        (CSV, {"lable": "Label"}, "field of the schema of a table named 'lable'"),
        (CSV, "landscape", "mapping or a YAML file"),
        (
            CSV,
            {"classes": ["s"]},
            "2 of 3 entries are in none of the classes s, with the values 'b'",
        ),
        (CSV, {"classes": {"s": 1}}, "'Label' holds words"),
        ("1,2\n3,4\n", None, "no names of columns"),
        ("a,a\n3,4\n", None, "columns repeat: a"),
        ("a,b\n3,4\n5\n", None, "Expected 2 columns, got 1"),
        ("", None, "empty"),
        ("a,b\n", None, "cannot read the CSV|no rows"),
        ("a,y\n1,0.5\n2,1\n", None, "label 'y' is 0.5 in row 0, which is no class number"),
        ("a,y\n1,0\n,1\n", None, "column 'a' has 1 value NaN or infinite, the first in row 1"),
        ("a,y\n1,0\ninf,1\n", {"missing": "nan"}, "column 'a' has 1 value NaN"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_in_one_line(tmp_path, text, schema, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_table(path, schema)
    assert "\n" not in str(error.value)


def test_nan_is_missing_if_the_schema_says_so_or_the_event_is_dropped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,y\n1,0\nnan,1\n3,1\n")
    assert np.isnan(read_table(path, {"missing": "nan"}).columns["a"][1])
    kept = read_table(path, on_bad_event="drop")
    assert kept.columns["a"].tolist() == [1, 3]
    assert kept.label.tolist() == [0, 1]
    assert kept["entry"].tolist() == [0, 2]


def test_columns_that_nobody_uses_may_hold_anything_but_those_that_are_used_must_be_there(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,y\n1,nan,0\n2,5,1\n")
    assert len(read_table(path, used=["a"])) == 2
    with pytest.raises(InputError, match="no column of numbers named 'c'"):
        read_table(path, used=["b", "c"])
    with pytest.raises(InputError, match="column 'b' has 1 value NaN"):
        read_table(path, used=["b"])


def test_columns_of_unequal_length_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=[1.0, 2.0], b=[1.0])
    with pytest.raises(InputError, match="different lengths: a 2, b 1"):
        read_table(tmp_path / "a.npz")
    with pytest.raises(InputError, match="has the shape"):
        Table(columns={"a": [1.0, 2.0], "b": [1.0]})


def test_inputs_have_mean_0_and_width_1_and_missing_values_the_mean():
    rng = np.random.default_rng(0)
    table = Table(columns={"a": rng.normal(5, 3, 500), "b": rng.exponential(1e3, 500)})
    table.columns["b"][:100] = np.nan
    inputs = TableColumns.fit(table, ["b", "a"])
    x = inputs(table).double()
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x[100:].std(0, correction=0), [1, 1.0], rtol=0.1)
    assert (x[:100, 0] == 0).all()
    assert inputs.missing == (0.2, 0.0)
    assert TableColumns.from_dict(inputs.to_dict()) == inputs
    table.columns["a"][3] = np.nan
    with pytest.warns(MissingValueWarning, match="missing values in a"):
        assert inputs(table)[3, 1] == 0
    with pytest.raises(InputError, match="not one for each column"):
        TableColumns.from_dict(inputs.to_dict() | {"scale": [1.0]})


def test_rows_of_one_event_share_their_key_and_equal_rows_have_equal_keys(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("b,a,event,y\n1,2,5,0\n3,4,5,1\n1,2,6,0\n")
    keys = read_table(path, {"event": "event"}).keys()
    assert keys[0] == keys[1] != keys[2]
    keys = read_table(path, {"leave_out": "event"}).keys()
    assert keys[0] == keys[2] != keys[1]
    path.write_text("a,b,event,y\n2,1,5,0\n4,3,5,1\n2,1,6,0\n")
    np.testing.assert_array_equal(read_table(path, {"leave_out": "event"}).keys(), keys)
