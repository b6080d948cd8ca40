from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcloud.errors import InputError
from pcloud.evaluation import evaluate, evaluate_scores_file, read_scores


def write(path: Path, columns: dict, classes: list[str] | None = None) -> Path:
    table = pa.table(columns)
    if classes is not None:
        table = table.replace_schema_metadata({b"classes": json.dumps(classes).encode()})
    pq.write_table(table, path)
    return path


@pytest.fixture
def columns() -> dict:
    return {
        "label": np.array([0, 0, 1, 1]),
        "score_qcd": np.array([0.9, 0.4, 0.3, 0.2], dtype=np.float32),
        "score_top": np.array([0.1, 0.6, 0.7, 0.8], dtype=np.float32),
    }


def test_scores_are_read_as_they_were_written(tmp_path: Path, columns: dict):
    path = write(tmp_path / "scores.parquet", columns, ["qcd", "top"])
    sample = read_scores(path)
    assert sample.classes == ("qcd", "top")
    np.testing.assert_array_equal(sample.labels, columns["label"])
    np.testing.assert_array_equal(sample.values[:, 1], columns["score_top"])


def test_a_file_is_evaluated_like_its_arrays(tmp_path: Path, columns: dict):
    path = write(tmp_path / "scores.parquet", columns)
    arrays = np.stack([columns["score_qcd"], columns["score_top"]], axis=1)
    expected = evaluate(columns["label"], arrays, classes=["qcd", "top"], signal="qcd")
    assert evaluate_scores_file(path, signal="qcd") == expected


def test_other_columns_do_no_harm(tmp_path: Path, columns: dict):
    path = write(tmp_path / "scores.parquet", columns | {"jet_pt": np.ones(4)})
    assert read_scores(path).classes == ("qcd", "top")


def test_files_that_hold_no_scores_are_refused(tmp_path: Path, columns: dict):
    good = write(tmp_path / "good.parquet", columns)
    cases = {
        "no column score_<class>": write(tmp_path / "a.parquet", {"label": [0, 1]}),
        "no column label": write(
            tmp_path / "b.parquet", {k: v for k, v in columns.items() if k != "label"}
        ),
        "2 jets have no label": write(
            tmp_path / "c.parquet", columns | {"label": [0, None, 1, None]}
        ),
        "are not its classes": write(tmp_path / "d.parquet", columns, ["top", "qcd"]),
        "not probabilities": write(
            tmp_path / "e.parquet", columns | {"score_top": columns["score_top"] * 5}
        ),
        r"f\.parquet: scores must have shape": write(
            tmp_path / "f.parquet", {k: v for k, v in columns.items() if k != "score_top"}
        ),
    }
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(good.read_bytes()[:-20])
    cases["not a Parquet file, or is truncated"] = cut
    for message, path in cases.items():
        with pytest.raises(InputError, match=message):
            read_scores(path)


def test_missing_files_and_folders_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.parquet"):
        read_scores(tmp_path / "nowhere.parquet")
    with pytest.raises(IsADirectoryError, match=r"scores\.parquet"):
        read_scores(tmp_path)
