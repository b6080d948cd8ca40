"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REFERENCE = Path(
    os.environ.get("PCLOUD_REFERENCE_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
)


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of real jets and official weights, which the project does not ship."""
    if not REFERENCE.is_dir():
        pytest.skip(f"no reference data at {REFERENCE}: set PCLOUD_REFERENCE_DATA")
    return REFERENCE.resolve()
