"""Runs and exported files that the tests share: an export takes seconds."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest

import pcloud
from pcloud.io import write_jets
from tests.objectives.conftest import jets_with_targets
from tests.training.conftest import make_jets

PFN = {"phi_widths": [8, 8], "head_widths": [8]}


def trained(folder: Path, jets: ak.Array, model: str, options: dict, **others) -> pcloud.Run:
    write_jets(jets, folder / "jets.parquet")
    return pcloud.train(
        data=str(folder / "jets.parquet"), model=model, model_options=options, batch_size=32,
        out=str(folder / "run"), epochs=6, lr=0.02, progress=False, test_fraction=0.4, **others,
    )  # fmt: skip


@pytest.fixture(scope="session")
def needs_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="extra 'onnx' is not installed")


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> pcloud.Run:
    """PFN on momenta and a charge, evaluated and calibrated."""
    jets = make_jets(400)
    counts = ak.num(jets.p4, axis=1)
    charge = np.random.default_rng(0).integers(-1, 2, int(ak.sum(counts))).astype(np.float32)
    jets = ak.with_field(jets, ak.unflatten(charge, counts), "charge")
    jets.attrs["classes"] = ["a", "b"]
    run = trained(tmp_path_factory.mktemp("pfn"), jets, "pfn", PFN, features=["kin", "charge"])
    run.evaluate(num_bootstrap=0)
    run.calibrate()
    return run


@pytest.fixture(scope="session")
def knn_run(tmp_path_factory) -> pcloud.Run:
    """ParticleNet of two blocks with three neighbours."""
    options = {"k": 3, "widths": [[8], [8]], "head_widths": [8]}
    return trained(tmp_path_factory.mktemp("knn"), make_jets(400), "particlenet", options)


@pytest.fixture(scope="session")
def target_run(tmp_path_factory) -> pcloud.Run:
    """PFN that learns classes and targets from particles and from columns of the jets."""
    jets = jets_with_targets(400)
    quality = np.random.default_rng(1).normal(size=400).astype(np.float32)
    classes = jets.attrs["classes"]
    jets = ak.with_field(jets, quality, "quality")
    total = ak.zip({name: ak.sum(jets.p4[name], axis=1) for name in ("E", "px", "py", "pz")})
    jets = ak.with_field(jets, total, "jet_p4")
    jets.attrs["classes"] = classes
    return trained(
        tmp_path_factory.mktemp("targets"), jets, "pfn", PFN,
        jet_features=["quality", "jet_mass"],
        objective=[
            "class", "pt:gaussian",
            {"target": "mass", "kind": "quantile", "transform": "log"},
        ],
    )  # fmt: skip


@pytest.fixture(scope="session")
def file(run, needs_onnx, tmp_path_factory) -> Path:
    """PFN for one jet, calibrated."""
    path = tmp_path_factory.mktemp("one") / "tagger.onnx"
    run.export(path, calibrated=True)
    return path


@pytest.fixture(scope="session")
def padded_file(run, needs_onnx, tmp_path_factory) -> Path:
    """PFN for batches of jets of at most 6 particles."""
    path = tmp_path_factory.mktemp("padded") / "tagger.onnx"
    run.export(path, padded=True, max_particles=6)
    return path
