"""Exported networks on tables and series."""

from __future__ import annotations

import numpy as np
import pytest

import pcloud
from pcloud.errors import InputError
from pcloud.export.record import Session
from pcloud.series import Series
from pcloud.tables import Table


def trained(sample, model, folder, **options):
    return pcloud.train(
        data=sample, model=model, out=str(folder / model), epochs=2, batch_size=32,
        test_fraction=0.3, progress=False, **options,
    )  # fmt: skip


def test_columns_of_a_table_are_inputs_by_name(needs_onnx, tmp_path):
    rng = np.random.default_rng(0)
    label = np.arange(160) % 2
    mass = 1e9 + label + rng.normal(size=160)  # which float32 would round to multiples of 64
    met = np.where(rng.random(160) < 0.1, np.nan, rng.normal(size=160))
    columns = {"mass": mass, "met": met, "phi": rng.normal(size=160)}
    table = Table(columns=columns, label=label, attrs={"classes": ["a", "b"]})
    run = trained(table, "logistic", tmp_path)
    written = run.export(tmp_path / "table.onnx")
    assert written.parity.difference < 1e-6
    assert [(e["name"], e["type"]) for e in written.metadata["inputs"]] == [
        ("mass", "float64"), ("met", "float64"), ("phi", "float64"),
    ]  # fmt: skip
    session = Session(str(written.path))
    event = {name: values[:1] for name, values in columns.items()}
    np.testing.assert_allclose(session(event)["probabilities"], run.predict(table[:1]), atol=1e-6)
    with pytest.raises(InputError, match="are for jets, not for events"):
        run.export(tmp_path / "padded.onnx", padded=True)


def test_records_of_series_are_inputs(needs_onnx, tmp_path):
    rng = np.random.default_rng(0)
    label = np.arange(120) % 2
    records = rng.normal(5 + label[:, None, None], 2.0, (120, 1, 64))
    series = Series(records=records, label=label, attrs={"classes": ["a", "b"]})
    for model in ("series_lstm", "series_cnn"):
        options = {"model_options": {"width": 8}} if model == "series_lstm" else {}
        run = trained(series, model, tmp_path, **options)
        written = run.export(tmp_path / f"{model}.onnx")
        assert written.parity.difference < 1e-5
        assert written.metadata["inputs"][0]["shape"] == ["num_entries", 1, 64]
