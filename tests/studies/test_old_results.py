"""Result files of earlier versions are read."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pcloud.evaluation import Measured
from pcloud.studies.attribution import read_attribution
from pcloud.studies.taylor import read_taylor
from pcloud.studies.uncertainty import read_uncertainty


def test_uncertainties_with_errors_as_lists_and_old_names(tmp_path):
    means = {part: [0.2, 0.01] for part in ("total", "aleatoric", "epistemic", "logit_spread")}
    old = {
        "facts": {"method": "dropout", "passes": 5},
        "classes": ["a", "b"],
        "samples": {"test jets": means, "taken right": means, "taken wrong": means},
        "roc": None,
    }
    (tmp_path / "uncertainty.json").write_text(json.dumps(old))
    columns = {"label": [0, 1], "score_a": [0.9, 0.2], "score_b": [0.1, 0.8]}
    columns |= {part: [0.1, 0.2] for part in means}
    pq.write_table(pa.table(columns), tmp_path / "uncertainty.parquet")
    stored = read_uncertainty(tmp_path)
    assert list(stored.samples) == ["test jets", "correctly classified", "misclassified"]
    expected = Measured(0.2, 0.01, "mean over jets")
    assert str(stored.samples["test jets"]["total"]) == str(expected)
    assert stored.source == "5 passes with dropout switched on"
    np.testing.assert_array_equal(stored.jets.mean, [[0.9, 0.1], [0.2, 0.8]])


def test_taylor_coefficients_with_errors_as_lists(tmp_path):
    parts = {"all": {"pt": [0.3, 0.02]}, "alone": {"pt": [0.5, 0.02]}}
    values = {"parts": parts, "pair_jets": 0, "course": {"1": {"pt": [0.1, 0.05]}}}
    values["map"] = {"input": "pt", "values": [[1.0, None], [None, 2.0]]}
    old = {"checkpoint": "best", "classes": {"top": values}, "jets": 10}
    (tmp_path / "taylor.json").write_text(json.dumps(old))
    stored = read_taylor(tmp_path)
    expansion = stored.classes["top"]
    assert str(expansion.parts["all"]["pt"]) == "0.300 ± 0.020"
    assert list(expansion.course) == [1]
    np.testing.assert_array_equal(expansion.map, [[1, np.nan], [np.nan, 2]])
    assert stored.rows()[1] == ["top", "pt", "0.300 ± 0.020"]


def test_attributions_of_one_class_and_of_several(tmp_path):
    one = {
        "signal": "top",
        "jets": 3,
        "checkpoint": "best",
        "methods": {"occlusion": {"shares": {"particle": 1.0}}},
        "images": {"pt": {}},
        "drawn": [],
    }
    path = tmp_path / "attribution.json"
    path.write_text(json.dumps(one))
    assert [found.signal for found in read_attribution(tmp_path).classes] == ["top"]
    path.write_text(json.dumps({"classes": {"top": one, "qcd": {**one, "signal": "qcd"}}}))
    stored = read_attribution(tmp_path)
    assert [found.signal for found in stored.classes] == ["top", "qcd"]
    assert stored.to_dict() == json.loads(path.read_text())
