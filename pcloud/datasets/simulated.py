"""Embedded sample, which is part of the package: top and QCD jets by the Landscape recipe.

There are 36 000 jets for training, 5 000 for validation and 10 000 for testing, half of them top
jets. They were produced by

    python -m pcloud.simulate.embedded FOLDER

with the default seed, 2026, and with Pythia 8.317 and FastJet 3.5. The same command reproduces the
same jets exactly. `provenance` reads this information and all settings from the files.

Momenta are rounded to the grid of `pcloud.datasets.compact`, with steps of 0.2 % in pt and 0.001 in
eta and phi. This changes the mass of a jet by 0.05 % (standard deviation); the width of the top peak
is 7 %.
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
        Name of the split: ``"train"``, ``"val"`` or ``"test"``.

    Returns
    -------
    ak.Array
        Shuffled jets with `p4` (massless, float32, GeV, sorted by pt) and `label` (1 = top);
        ``attrs["classes"]`` contains the names of the classes.

    Raises
    ------
    UnknownNameError
        If there is no such split.
    """
    return read_compact(_path(split)).to_awkward(CLASSES)


def provenance(split: str) -> dict[str, Any]:
    """Command, seed, versions and settings with which a split was produced."""
    return read_metadata(_path(split))


def _path(split: str) -> Path:
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS, where="data set 'simulated'")
    return FOLDER / f"{split}.parquet"
