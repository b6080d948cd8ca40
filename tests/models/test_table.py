"""The table of models says what is true, in the docs too."""

from __future__ import annotations

from pathlib import Path

import pcloud
from pcloud.models.table import model_table

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_docs_list_every_model_with_its_number_of_parameters():
    lines = [line.split(" | ") for line in DOCS.read_text().splitlines() if "arxiv.org" in line]
    written = {cells[0].strip("|` "): cells for cells in lines}
    header, *rows = model_table()
    assert set(written) == set(pcloud.list_models())
    for row in rows:
        of = dict(zip(header, row, strict=True))
        assert of["parameters"] in written[of["model"]]
        assert of["inputs"] in written[of["model"]]
        assert of["good for"] == written[of["model"]][-1].strip("| ")
