"""Jets of all kinds for the tests of reading and writing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pandas as pd
import pytest

from pcloud.io import FlatJets
from pcloud.keys import keys_of

MakeJets = Callable[..., ak.Array]


def make_flat(
    num_jets: int = 50,
    seed: int = 1,
    dtype: type = np.float32,
    extras: bool = False,
    max_particles: int = 60,
) -> FlatJets:
    """Jets of massive particles around pt 500 GeV, 1 to `max_particles` in each."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, max_particles + 1, num_jets)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    num = offsets[-1]
    pt = 20 * rng.pareto(2, num) + 1
    eta, phi, mass = rng.normal(0, 0.3, num), rng.uniform(-3, 3, num), rng.uniform(0, 1, num)
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
    p4 = tuple(component.astype(dtype) for component in (energy, px, py, pz))
    jet = {"label": rng.integers(0, 2, num_jets)}
    particle = {}
    if extras:
        particle = {
            "charge": rng.integers(-1, 2, num).astype(np.int8),
            "d0": rng.normal(size=num).astype(dtype),
            "is_muon": rng.random(num) < 0.1,
        }
        jet |= {"jet_sdmass": rng.uniform(0, 200, num_jets).astype(np.float32)}
        jet |= {"run": rng.integers(0, 9, num_jets).astype(np.uint16)}
    return FlatJets(offsets, p4, particle, jet)


@pytest.fixture
def make_jets() -> MakeJets:
    def make(classes: tuple[str, ...] = ("qcd", "top"), **options: object) -> ak.Array:
        return make_flat(**options).to_awkward(classes)  # type: ignore[arg-type]

    return make


def padded(flat: FlatJets, slots: int = 200) -> np.ndarray:
    """E, px, py, pz of each slot, shape (B, slots, 4), zero where there is no particle."""
    block = np.zeros((len(flat), slots, 4), dtype=flat.p4[0].dtype)
    block[np.arange(slots) < flat.counts[:, None]] = np.stack(flat.p4, axis=-1)
    return block


def landscape_frame(flat: FlatJets) -> pd.DataFrame:
    """The data frame of the Landscape sample."""
    names = [f"{q}_{i}" for i in range(200) for q in ("E", "PX", "PY", "PZ")]
    names += ["truthE", "truthPX", "truthPY", "truthPZ"]
    truth = np.arange(4 * len(flat), dtype=np.float32).reshape(-1, 4)
    values = np.concatenate([padded(flat).reshape(len(flat), -1), truth], axis=1)
    frame = pd.DataFrame(values, columns=names)
    frame["ttv"] = np.int64(2)
    frame["is_signal_new"] = flat.jet["label"]
    return frame


@pytest.fixture
def landscape(tmp_path: Path) -> tuple[Path, FlatJets]:
    """A file in the original layout, written by pandas, and its jets."""
    flat = make_flat(num_jets=300)
    path = tmp_path / "landscape.h5"
    landscape_frame(flat).to_hdf(path, key="table", format="table", complevel=5, complib="blosc")
    return path, flat


def names_in(folder: Path) -> list[str]:
    """Names of the files of a folder, hidden ones too."""
    return sorted(file.name for file in folder.iterdir())


def assert_same_jets(jets: ak.Array, expected: ak.Array | FlatJets) -> None:
    """Every number equal, every type equal; the keys of files, too."""
    if isinstance(expected, FlatJets):
        expected = expected.to_awkward()
    if "split_key" in jets.fields and "split_key" not in expected.fields:
        expected = ak.with_field(expected, keys_of(expected), "split_key")
    assert set(jets.fields) == set(expected.fields)
    for name in jets.fields:
        assert str(jets[name].type) == str(expected[name].type)
        assert ak.array_equal(jets[name], expected[name]), name
