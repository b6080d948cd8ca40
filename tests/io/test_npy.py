"""Arrays in npy files, with the labels in a second file."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from pcloud.cli.program import main
from pcloud.errors import InputError
from pcloud.io import JetSchema, read_jets
from pcloud.training.config import TrainConfig
from tests.io.conftest import assert_same_jets, make_flat, padded

SCHEMA = JetSchema(
    {name: f"X[{i}]" for i, name in enumerate(("E", "px", "py", "pz"))},
    label="y",
    classes=("qcd", "top"),
    optional=("label",),
)


@pytest.fixture
def flat():
    return make_flat(num_jets=30)


def save(folder, flat, x="x.npy", y="y.npy", **options):
    np.save(folder / x, padded(flat, 70), **options)
    np.save(folder / y, flat.jet["label"])
    return folder / x


@pytest.mark.parametrize(
    ("x", "y"),
    [
        *(("x.npy", "y.npy"), ("X_train.npy", "Y_train.npy"), ("X_val.npy", "y_val.npy")),
        *(("top-data.npy", "top-labels.npy"), ("train.jets.npy", "train.labels.npy")),
    ],
)
def test_labels_are_in_the_file_beside(tmp_path, flat, x, y):
    assert_same_jets(read_jets(save(tmp_path, flat, x, y), SCHEMA), flat)
    part = read_jets(tmp_path / x, SCHEMA, start=7, stop=19)
    assert_same_jets(part, flat.to_awkward()[7:19])


def test_labels_can_be_in_any_file(tmp_path, flat):
    path = save(tmp_path, flat, "a.npy", "b.npy")
    assert "label" not in read_jets(path, SCHEMA).fields
    schema = SCHEMA.to_dict()
    assert_same_jets(read_jets(path, {**schema, "labels": "b.npy"}), flat)
    assert_same_jets(read_jets(path, {**schema, "labels": str(tmp_path / "b.npy")}), flat)
    with pytest.raises(FileNotFoundError, match=r"c\.npy: no such file with the labels of"):
        read_jets(path, {**schema, "labels": "c.npy"})


def test_the_order_of_the_array_does_not_matter(tmp_path, flat):
    path = save(tmp_path, flat)
    np.save(path, np.asfortranarray(padded(flat, 70)))
    assert_same_jets(read_jets(path, SCHEMA), flat)


def test_arrays_with_fields_have_a_column_for_each(tmp_path, flat):
    block = padded(flat, 70)
    array = np.zeros(block.shape[:2], [(name, "f4") for name in ("E", "px", "py", "pz")])
    for i, name in enumerate(array.dtype.names):
        array[name] = block[..., i]
    np.save(tmp_path / "a.npy", array)
    jets = read_jets(tmp_path / "a.npy", {"p4": {name: name for name in array.dtype.names}})
    assert ak.array_equal(jets.p4, flat.to_awkward().p4)


def test_files_that_do_not_belong_together_are_refused(tmp_path, flat):
    path = save(tmp_path, flat)
    np.save(tmp_path / "y.npy", flat.jet["label"][:20])
    with pytest.raises(InputError, match=r"y\.npy: has 20 rows, but .*x\.npy has 30"):
        read_jets(path, SCHEMA)
    np.save(tmp_path / "y.npy", np.array([{}] * 30), allow_pickle=True)
    with pytest.raises(InputError, match=r"y\.npy: cannot read the npy file"):
        read_jets(path, SCHEMA)
    save(tmp_path, flat)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"x\.npy: cannot read the npy file"):
        read_jets(path, SCHEMA)


def test_the_command_takes_the_file_of_the_labels(tmp_path, flat, capsys):
    path = save(tmp_path, flat, "a.npy", "b.npy")
    schema = tmp_path / "schema.yaml"
    schema.write_text("p4: {E: 'X[0]', px: 'X[1]', py: 'X[2]', pz: 'X[3]'}\n")
    words = [
        "convert",
        str(path),
        str(tmp_path / "out.parquet"),
        "--labels",
        str(tmp_path / "b.npy"),
    ]
    assert main(words) == 2
    assert "labels in a second file need a schema" in capsys.readouterr().err
    assert main([*words, "--schema", str(schema)]) == 0
    found = read_jets(tmp_path / "out.parquet")
    np.testing.assert_array_equal(found.label, flat.jet["label"])


def test_a_run_keeps_the_file_of_the_labels_in_its_schema(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    schema = SCHEMA.to_dict()
    config = TrainConfig(data="a.npy", labels="b.npy", schema=schema, model="pfn", out="runs/a")
    assert config.inputs.labels is None
    assert config.inputs.schema["labels"] == str(tmp_path / "b.npy")
