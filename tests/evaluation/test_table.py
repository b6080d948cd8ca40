from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation import (
    EvaluationTable,
    Measured,
    evaluate,
    read_metrics,
    write_metrics,
)


@pytest.fixture
def table() -> EvaluationTable:
    return EvaluationTable(
        entries={
            "auc": Measured(0.984746, 0.000152, "DeLong", 0.000163),
            "accuracy": Measured(0.938371, 0.000378, "binomial", 0.000365),
            "rejection@0.3": Measured(1269.94, 100.63, "counting", 103.2),
            "rejection@0.5": Measured(67412.3, 0.0, "no background passes", limit="lower"),
        },
        classes=("qcd", "top"),
        counts=(201920, 202080),
        notes=("A note.",),
    )


@pytest.fixture
def many() -> EvaluationTable:
    entries = {
        "accuracy": Measured(0.86, 0.001),
        "auc[Hbb]": Measured(0.99, 0.001),
        "rejection@0.5[Hbb]": Measured(800.0, 10.0),
        "auc[a|b]": Measured(0.98, 0.002),
    }
    return EvaluationTable(entries=entries)


def test_table_is_a_mapping(table: EvaluationTable):
    assert list(table) == ["auc", "accuracy", "rejection@0.3", "rejection@0.5"]
    assert str(table["auc"]) == "0.98475 ± 0.00015"
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy'"):
        table["acuracy"]
    assert table.get("acuracy") is None


def test_printed_table_shows_values_errors_and_notes(table: EvaluationTable):
    assert str(table) == "\n".join(
        [
            "                  value ± error      bootstrap  error from",
            "AUC               0.98475 ± 0.00015  ± 0.00016  DeLong",
            "accuracy          0.93837 ± 0.00038  ± 0.00036  binomial",
            "1/εB at εS = 0.3  1270 ± 100         ± 100      counting",
            "1/εB at εS = 0.5  > 67000                       no background passes",
            "",
            "A note.",
        ]
    )


def test_rich_prints_what_the_plain_table_holds(table: EvaluationTable, many: EvaluationTable):
    for each in (table, many):
        console = Console(file=io.StringIO(), width=100, color_system=None)
        console.print(each)
        assert console.file.getvalue().split() == str(each).split()


def test_markdown_has_a_row_for_each_value(table: EvaluationTable):
    lines = table.to_markdown().splitlines()
    assert lines[0] == "|  | value ± error | bootstrap | error from |"
    assert lines[1] == "| --- | ---: | ---: | ---: |"
    assert lines[4] == "| 1/εB at εS = 0.3 | 1270 ± 100 | ± 100 | counting |"
    assert lines[-1] == "A note."


def test_classes_are_rows_of_a_second_table(many: EvaluationTable):
    assert many.by_class() == [
        ["class", "AUC", "1/εB at εS = 0.5"],
        ["Hbb", "0.9900 ± 0.0010", "800 ± 10"],
        ["a|b", "0.9800 ± 0.0020", ""],
    ]
    assert "| a\\|b | 0.9800 ± 0.0020 |  |" in many.to_markdown()


def test_metrics_file_gives_the_same_table(tmp_path: Path):
    generator = np.random.default_rng(0)
    scores = generator.dirichlet(np.ones(3), size=60)
    table = evaluate(np.arange(60) % 3, scores, classes=["a", "b", "c"], background="a")
    path = write_metrics(tmp_path, table)
    assert path == tmp_path / "metrics.json"
    back = read_metrics(tmp_path)
    assert back.to_dict() == table.to_dict()
    assert str(back) == str(table)
    strict = json.loads(path.read_text(), parse_constant=pytest.fail)  # neither NaN nor Infinity
    assert strict["settings"]["background"] == "a"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"metrics": {"auc": {"worth": 1}}}', "{"])
def test_files_that_hold_no_metrics_are_refused(tmp_path: Path, text: str):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=r"metrics\.json holds no table of metrics"):
        read_metrics(tmp_path)
