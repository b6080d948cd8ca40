"""The embedded sample: top and QCD jets by the Landscape recipe, shipped with the package.

36 000 jets to train on, 5 000 to validate and 10 000 to test, half of them tops, made by

    python -m pcloud.simulate.embedded FOLDER

with its seed, 2026, and Pythia 8.317 and FastJet 3.5: the same command makes the same jets
again, bit for bit. `provenance` reads these facts and all settings from the files.

Momenta are rounded to the grid of `pcloud.datasets.compact`: 0.2 % steps in pt, 0.001 in eta
and phi, which moves the mass of a jet by 0.05 % (standard deviation; the peak of
the tops is 7 % wide).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak

from pcloud.datasets.compact import read_compact, read_metadata
from pcloud.errors import UnknownNameError

CLASSES = ("qcd", "top")
SPLITS = ("train", "val", "test")
FOLDER = Path(__file__).parent / "simulated"


def load(split: str) -> ak.Array:
    """Jets of one split of the embedded sample.

    Parameters
    ----------
    split : str
        ``"train"``, ``"val"`` or ``"test"``.

    Returns
    -------
    ak.Array
        Jets with `p4` (massless, float32, GeV, ordered by pt) and `label` (1 = top), shuffled;
        ``attrs["classes"]`` names the classes.

    Raises
    ------
    UnknownNameError
        If there is no such split.
    """
    return read_compact(_path(split)).to_awkward(CLASSES)


def provenance(split: str) -> dict[str, Any]:
    """Command, seed, versions and settings that made one split."""
    return read_metadata(_path(split))


def _path(split: str) -> Path:
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS, where="data set 'simulated'")
    return FOLDER / f"{split}.parquet"
