"""Small jets of two kinds that a tiny network learns to tell apart in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import vector

from pcloud.io import write_jets

TINY = f"{Path(__file__).with_name('tiny.py')}:Tiny"


def make_jets(number: int, seed: int = 0, **columns: Any) -> ak.Array:
    """Jets of 1 to 12 massless particles, those of class "b" more and wider spread."""
    vector.register_awkward()
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, number)
    counts = rng.integers(1, 8, number) + 4 * label
    jet = np.repeat(np.arange(number), counts)
    pt = rng.exponential(20, len(jet)) + 1
    eta = rng.uniform(-1, 1, number)[jet] + rng.normal(0, 0.1 + 0.1 * label)[jet]
    phi = rng.uniform(-3, 3, number)[jet] + rng.normal(0, 0.1, len(jet))
    momenta = {"E": pt * np.cosh(eta), "px": pt * np.cos(phi), "py": pt * np.sin(phi)}
    momenta["pz"] = pt * np.sinh(eta)
    p4 = ak.zip({k: v.astype(np.float32) for k, v in momenta.items()}, with_name="Momentum4D")
    fields = {"p4": ak.unflatten(p4, counts), "label": label}
    fields |= {name: ak.unflatten(value[: len(jet)], counts) for name, value in columns.items()}
    jets = ak.zip(fields, depth_limit=1)
    jets.attrs["classes"] = ["a", "b"]
    return jets


@pytest.fixture(scope="session")
def jet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 jets."""
    path = tmp_path_factory.mktemp("jets") / "jets.parquet"
    write_jets(make_jets(500), path)
    return path


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Tiny tensors: more threads only wait for each other, and other tests run beside us."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def options(jet_file: Path, tmp_path: Path) -> dict[str, Any]:
    """A training that takes a second."""
    return {
        "data": str(jet_file),
        "model": TINY,
        "out": str(tmp_path / "run"),
        "epochs": 2,
        "batch_size": 64,
        "deterministic": True,
    }
