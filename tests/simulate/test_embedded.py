"""Targets of the embedded sample, added to files that exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcloud.datasets.compact import read_compact, read_metadata, write_compact
from pcloud.errors import InputError
from pcloud.io import FlatJets
from pcloud.simulate import embedded
from tests.datasets.test_simulated import random_jets

SIZES = {"train": 30, "test": 20}


@pytest.fixture
def again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlatJets:
    """Jets as they are simulated again, with targets; their files, without, are in the folder."""
    pytest.importorskip("pythia8mc", reason="the version of pythia8mc is stored")
    pytest.importorskip("fastjet", reason="the version of fastjet is stored")
    jets = random_jets(50, np.random.default_rng(4))
    start = 0
    for split, size in SIZES.items():
        part = jets.slice(start, start + size)
        write_compact(part, tmp_path / f"{split}.parquet", {"seed": 2026, "split": split})
        start += size
    jets.jet |= {"targets.pt": np.full(50, 600.0), "targets.mass": np.full(50, 80.0)}
    monkeypatch.setattr(embedded, "SIZES", SIZES)
    monkeypatch.setattr(embedded, "make_chunks", lambda *args: iter([jets]))
    return jets


def test_momenta_that_differ_are_counted_and_those_of_the_files_stay(
    again: FlatJets, tmp_path: Path
) -> None:
    before = {split: read_compact(tmp_path / f"{split}.parquet") for split in SIZES}
    for jet in (3, 7, 30 + 11):
        again.p4[1][again.offsets[jet]] *= 1.5  # far more than a step of the grid
    assert embedded.add_targets(tmp_path, progress=False) == {"train": 2, "test": 1}
    for split, old in before.items():
        new = read_compact(tmp_path / f"{split}.parquet")
        assert np.array_equal(new.p4, old.p4)
        assert np.array_equal(new.jet["label"], old.jet["label"])
        np.testing.assert_allclose(new.jet["targets.mass"], 80.0, rtol=4e-4)
        note = read_metadata(tmp_path / f"{split}.parquet")
        assert note["split"] == split
        assert note["targets"]["jets_with_other_momenta"] == {"train": 2, "test": 1}[split]
        assert note["targets"]["command"].endswith("--add-targets")


def test_other_jets_are_refused(again: FlatJets, tmp_path: Path) -> None:
    again.jet["label"][35] ^= 1
    with pytest.raises(InputError, match=r"test.parquet: the labels of the simulated jets differ"):
        embedded.add_targets(tmp_path, progress=False)
