"""Small jets with targets, and trainings on them that take a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from pcloud.io import write_jets
from pcloud.run import Run
from pcloud.training.fit import train
from tests.training.conftest import TINY, make_jets, one_thread

__all__ = ["one_thread"]

OBJECTIVE: list[Any] = [
    "class",
    "pt:gaussian",
    {"target": "mass", "kind": "quantile", "transform": "log"},
]


def jets_with_targets(number: int, seed: int = 0) -> ak.Array:
    """Jets with their smeared pT and number of particles as targets, some of them missing."""
    jets = make_jets(number, seed)
    rng = np.random.default_rng(seed + 100)
    pt = np.hypot(*(ak.to_numpy(ak.sum(jets.p4[name], axis=1)) for name in ("px", "py")))
    pt = pt.astype(np.float64)
    mass = (3 + ak.to_numpy(ak.num(jets.p4, axis=1))) * rng.lognormal(0, 0.1, number)
    mass[rng.random(number) < 0.2] = np.nan
    many = (ak.to_numpy(ak.num(jets.p4, axis=1)) > 5).astype(float)
    columns = {"pt": pt * rng.normal(1.1, 0.1, number), "mass": mass, "many": many}
    return ak.with_field(jets, ak.zip(columns), "targets")


@pytest.fixture(scope="session")
def target_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 jets with the targets pt, mass and many."""
    path = tmp_path_factory.mktemp("targets") / "jets.parquet"
    write_jets(jets_with_targets(600), path)
    return path


@pytest.fixture(scope="session")
def learning(target_file: Path) -> dict[str, Any]:
    """Options of a training without its objective and folder."""
    return {
        "data": str(target_file),
        "model": TINY,
        "epochs": 2,
        "batch_size": 64,
        "deterministic": True,
        "val_fraction": 0.25,
        "test_fraction": 0.25,
    }


@pytest.fixture(scope="session")
def shared_run(learning: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run with three objectives and learned weights, which tests must not change."""
    out = tmp_path_factory.mktemp("objectives") / "run"
    chosen: dict[str, Any] = {"objective": OBJECTIVE, "objective_weights": "learned"}
    return train(**learning, **chosen, out=out, progress=False)


@pytest.fixture(scope="session")
def regression_run(learning: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run that learned a quantity and a label, but no classes."""
    out = tmp_path_factory.mktemp("regression") / "run"
    return train(**learning, objective=["pt:huber", "many:binary"], out=out, progress=False)


LABELS: list[Any] = [
    "class",
    "kind:classes",
    {"target": "vertex", "kind": "pairs", "threshold": 0.4},
]


def jets_with_labels(number: int, seed: int = 0) -> ak.Array:
    """Jets whose particles are soft or hard, some of them unknown, and have vertices by azimuth."""
    jets = make_jets(number, seed)
    rng = np.random.default_rng(seed + 100)
    counts = ak.num(jets.p4)
    energy = ak.to_numpy(ak.flatten(jets.p4.E))
    kind = (energy > 20).astype(int)
    kind[rng.random(len(kind)) < 0.1] = -1
    phi = np.arctan2(*(ak.to_numpy(ak.flatten(jets.p4[name])) for name in ("py", "px")))
    vertex = (phi > 0).astype(int)
    vertex[rng.random(len(kind)) < 0.2] = -2
    labels = {"kind": ak.unflatten(kind, counts), "vertex": ak.unflatten(vertex, counts)}
    jets = ak.with_field(jets, ak.zip(labels, depth_limit=1), "particle_labels")
    jets.attrs["particle_classes"] = {"kind": ["soft", "hard"]}
    return jets


@pytest.fixture(scope="session")
def learning_labels() -> dict[str, Any]:
    """Options of a training with labels of particles, without its folder."""
    return {
        "data": jets_with_labels(300),
        "model": "pfn",
        "model_options": {"phi_widths": [16], "head_widths": [16]},
        "objective": LABELS,
        "lr": 0.01,
        "epochs": 2,
        "batch_size": 64,
        "deterministic": True,
        "val_fraction": 0.25,
        "test_fraction": 0.25,
    }


@pytest.fixture(scope="session")
def label_run(learning_labels: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run that learned the class and two labels of particles, which tests must not change."""
    out = tmp_path_factory.mktemp("labels") / "run"
    return train(**learning_labels, out=out, progress=False)
