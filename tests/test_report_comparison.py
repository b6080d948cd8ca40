"""Several runs on one page."""

from __future__ import annotations

import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pcloud
from pcloud.cli import main
from pcloud.report.comparison import curves_figure, option_differences
from pcloud.report.cost import run_cost
from pcloud.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trained runs with scores of the same events."""
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for model, options in (("mlp", {"widths": [8]}), ("logistic", {})):
        run = pcloud.train(
            data="moons",
            model=model,
            model_options=options,
            out=folder / model,
            epochs=2,
            max_jets=300,
            progress=False,
        )
        run.evaluate(num_bootstrap=0)
        found.append(folder / model)
    return found


def test_a_page_has_differences_curves_cost_and_options(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *map(str, runs), "-o", "compare.html"]) == 0
    assert capsys.readouterr().out == "compare.html\n"
    page = unescape((tmp_path / "compare.html").read_text(encoding="utf-8"))
    for text in ("1000 x difference", "its ratio to that of the first run", "MFLOP", "42"):
        assert text in page
    assert '<th scope="row">model</th><td>mlp</td><td>logistic</td>' in page
    names = {path.stem for path in (tmp_path / "compare_figures").iterdir()}
    assert names == {"roc", "training"}


def test_cost_is_that_of_the_network(runs):
    # 2 x 8 and 8 x 2 products, each a multiplication and an addition
    assert run_cost(RunFolder(runs[0])) == (2 * 8 + 8 + 8 * 2 + 2, 2 * (2 * 8 + 8 * 2))


def test_runs_on_other_events_have_no_differences_but_a_page(runs, tmp_path):
    other = Path(shutil.copytree(runs[1], tmp_path / "other"))
    table = pq.read_table(other / "scores.parquet")
    labels = np.flip(table["label"].to_numpy())
    column = table.column_names.index("label")
    pq.write_table(table.set_column(column, "label", pa.array(labels)), other / "scores.parquet")
    page = tmp_path / "a.html"
    assert main(["report", str(runs[0]), str(other), "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "were evaluated on other jets, or in another order" in text
    assert "Cost" in text
    (other / "scores.parquet").unlink()
    assert main(["report", str(runs[0]), str(other), "-o", str(page)]) == 0
    assert "no scores of other: pcloud evaluate RUN writes them" in page.read_text(encoding="utf-8")


def test_options_are_compared_one_by_one():
    first = {"lr": 0.1, "out": "a", "model_options": {"width": 3, "dropout": 0.1}, "fold": None}
    second = {"lr": 0.1, "out": "b", "model_options": {"width": 4, "dropout": 0.1}}
    rows = option_differences({"a": first, "b": second})
    assert rows == [
        ["option", "a", "b"],
        ["model_options.width", "3", "4"],
        ["fold", "none", ""],
    ]


def test_curves_of_runs_share_their_panels():
    epochs = np.arange(1, 4)
    one = {"val_loss": (epochs, 1 / epochs), "val_auc": (epochs, 1 - 1 / epochs)}
    figure = curves_figure({"a": one, "b": {"val_loss": (epochs, 2 / epochs)}})
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_what_cannot_be_compared_is_said_in_one_line(runs, tmp_path, capsys):
    for words, line in (
        ([str(runs[0]), str(runs[0])], "a run is named twice"),
        ([*map(str, runs), "-o", "page"], "give a file .html, got page"),
        ([str(runs[0]), "--signal", "a"], "--signal is for a comparison of several runs"),
        ([str(runs[0]), str(tmp_path / "none")], "no folder"),
    ):
        assert main(["report", *words]) == 2
        error = capsys.readouterr().err
        assert line in error
        assert error.count("\n") == 1
