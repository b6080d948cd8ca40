"""The table of models says what is true, in the docs too."""

from __future__ import annotations

from pathlib import Path

import pytest

import pcloud
from pcloud.cli.model_table import model_table, to_markdown

NOT_MEASURED = {"deepjet", "jet_images", "gn2", "gru", "lstm", "rnn"}
"""Models without a row among the results on the embedded jets, as the docs say."""

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.fixture(scope="module")
def table():
    return model_table(flops=True)


def test_the_docs_have_the_table_of_the_command(table):
    written = to_markdown(table)
    assert written in DOCS.read_text(), f"docs/models.md: pcloud models --markdown gives\n{written}"


def test_all_tables_of_the_docs_have_the_same_operations_and_parameters(table):
    header, *rows = table
    expected = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    found = [row for row in tables(DOCS.read_text()) if "MFLOP per jet" in row]
    measured = [row for row in rows if row[0] not in NOT_MEASURED]
    assert len(found) >= len(rows) + len(measured)
    for row in found:
        model = expected[row["model"].strip("`")]
        assert row["MFLOP per jet"] == model["MFLOP per jet"]
        assert row["parameters"] == model["parameters"]


def test_the_docs_list_every_model():
    names = {row["model"].strip("`") for row in tables(DOCS.read_text()) if "paper" in row}
    assert names == set(pcloud.list_models())


def tables(text):
    """Rows of all tables in Markdown, by the names of their columns."""
    header = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if not line.startswith("|"):
            header = None
        elif header is None:
            header = cells
        elif not cells[0].startswith("---"):
            yield dict(zip(header, cells, strict=True))
