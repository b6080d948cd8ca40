from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import FlatJets, JetSchema, read_jets, write_jets
from pcloud.io.particle_labels import UNKNOWN_LABEL
from pcloud.keys import fingerprint_hashes

P4 = {name: name for name in ("px", "py", "pz")}
CLASSES = {"primary": 2, "heavy": [3, 5], "fake": -1}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two jets of 2 and 1 particles and 1 and 0 vertices, with labels of both."""
    path = tmp_path / "jets.parquet"
    columns = {
        "px": [[3.5, 2.0], [1.0]],
        "py": [[0.0, 1.0], [1.0]],
        "pz": [[0.0, 1.0], [1.0]],
        "origin": [[2, 5], [-1]],
        "vertex": [[0.0, np.nan], [-2.0]],
        "sv_x": [[0.5], []],
        "sv_kind": [[1], []],
    }
    pq.write_table(pa.table(columns), path)
    return path


def schema(**labels) -> JetSchema:
    collections = {"sv": {"columns": {"x": "sv_x"}}}
    return JetSchema(P4, collections=collections, particle_labels=labels)


def test_labels_are_read_as_classes_or_numbers(file):
    labels = {"origin": {"value": "origin", "classes": CLASSES}, "vertex": "vertex"}
    jets = read_jets(file, schema(**labels, **{"sv.kind": "sv_kind"}))
    assert jets.particle_labels.origin.to_list() == [[0, 1], [2]]
    assert jets.particle_labels.vertex.to_list() == [[0, UNKNOWN_LABEL], [-2]]
    assert jets.particle_labels["sv.kind"].to_list() == [[1], []]
    assert jets.sv.fields == ["x"]  # no input by mistake
    assert "origin" not in jets.fields
    assert jets.attrs["particle_classes"] == {"origin": ["primary", "heavy", "fake"]}


def test_written_labels_are_read_back(file, tmp_path):
    jets = read_jets(file, schema(origin="origin", **{"sv.kind": "sv_kind"}))
    write_jets(jets, tmp_path / "copy.parquet")
    copy = read_jets(tmp_path / "copy.parquet")
    for name in ("origin", "sv.kind"):
        assert ak.array_equal(copy.particle_labels[name], jets.particle_labels[name])
    assert copy.sv.fields == ["x"]


def test_labels_are_a_part_of_the_fingerprint_of_what_learns_them(file):
    jets = read_jets(file, schema(origin="origin"))
    other = ak.with_field(jets, ak.zip({"origin": [[2, 4], [-1]]}), "particle_labels")
    names = ["particle_labels.origin"]
    assert (fingerprint_hashes(jets) == fingerprint_hashes(other)).all()
    different = fingerprint_hashes(jets, names) != fingerprint_hashes(other, names)
    assert different.tolist() == [True, False]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"origin": {"value": "origin", "classes": {"a": 2, "b": 3}}},
            "'origin' has the value 5 in 1 particles, which is none of the classes a, b",
        ),
        ({"origin": {"value": "origin", "classes": ["a", "b"]}}, "the value 2, 5 in 2 particles"),
        ({"origin": {"value": "origin", "classes": ["a"]}}, "at least two classes"),
        ({"origin": {"value": "origin", "classes": {"a": "x", "b": 1}}}, "numbers as values"),
        ({"origin": {"value": "origin", "klasses": ["a"]}}, "did you mean 'classes'"),
        ({"sw.kind": "sv_kind"}, "no collection named 'sw'"),
        ({"origin": "orign"}, "did you mean 'origin'"),
        ({"origin": "px"}, "must be whole numbers"),
    ],
)
def test_unusable_labels_are_an_error(file, labels, message):
    with pytest.raises((InputError, UnknownNameError), match=message):
        read_jets(file, schema(**labels))


def test_files_to_score_need_no_labels(file):
    known = schema(origin={"value": "absent", "classes": ["a", "b"]}).with_optional_truth()
    assert "particle_labels" not in read_jets(file, known).fields


def test_labels_that_do_not_match_the_particles_are_an_error(file):
    jets = read_jets(file, JetSchema(P4))
    wrong = ak.with_field(jets, ak.zip({"origin": [[1, 2], [1, 2]]}), "particle_labels")
    message = "'origin' does not match the number of particles in 1 of 2 jets: jet 1 has 1, and 2"
    with pytest.raises(InputError, match=message):
        FlatJets.from_awkward(wrong)
