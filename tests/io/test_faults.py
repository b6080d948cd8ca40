"""Changed files of every format: an error of one line or physical jets, never anything else.

The files are read in child processes by `benchmarks/faults.py`, so that a crash of a C library is
seen, too. `test_fuzz.py` does the same in this process for chosen kinds of damage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux tells it"
    ),
]

NUM_FILES = 300
FORMATS = (
    "Parquet, pcloud",
    "Parquet, pyarrow",
    "npz, pcloud",
    "HDF5, pandas table",
    "HDF5, gzip",
    "TTree, zlib",
    "RNTuple, zlib",
    "Parquet, events",
    "images, packed npz",
    "images, packed HDF5",
    "images, idx.gz",
    "images, PNG",
    "images, JPEG",
    "images, TIFF",
    "images, BMP",
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("faults")
    script = [sys.executable, str(REPOSITORY / "benchmarks" / "faults.py"), "--seed", "7"]
    number = ["--files", str(NUM_FILES * len(FORMATS)), "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*script, *number, "--formats", *FORMATS], env=environment, check=False, timeout=400
    )
    return json.loads((folder / "faults.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FORMATS)
def test_changed_files_are_refused_in_one_line_or_read(outcomes, name):
    counts = Counter(outcomes[name]["counts"])
    assert counts.total() == NUM_FILES
    crashes = [fault for fault in outcomes[name]["faults"] if fault["kind"] == "crash"]
    assert outcomes[name]["faults"] == crashes  # which are those of C libraries
    assert counts["refused"] > NUM_FILES / 10
