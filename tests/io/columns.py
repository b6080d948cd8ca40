"""A small file with columns as experiments have them, for the tests of schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUM_JETS = 40
FLAVOURS = (0, 4, 5, 15, 21)
WORDS = ("light", "charm", "bottom", "tau", "gluon")

SCHEMA: dict[str, Any] = {"p4": {"pt": "pt", "eta": "eta", "phi": "phi"}}


def make_columns(seed: int = 0) -> dict[str, Any]:
    """Columns of jets with relative coordinates, flavours, weights and vertices."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 10, NUM_JETS)
    size = int(counts.sum())
    numbers = np.arange(NUM_JETS) % len(FLAVOURS)
    vertices = rng.poisson(1.5, NUM_JETS)
    vertices[0] = 0

    def lists(values: np.ndarray) -> list[list[float]]:
        return ak.unflatten(values, counts).to_list()

    jet_pt = rng.uniform(50, 500, NUM_JETS)
    jet_eta = rng.normal(0, 1, NUM_JETS)
    share = rng.uniform(0.01, 1, size)
    deta = rng.normal(0, 0.3, size)
    return {
        "ptfrac": lists(share),
        "pt": lists(share * np.repeat(jet_pt, counts)),
        "deta": lists(deta),
        "eta": lists(deta + np.repeat(jet_eta, counts)),
        "phi": lists(rng.uniform(-3, 3, size)),
        "charge": lists(rng.integers(-1, 2, size)),
        "d0": lists(rng.normal(size=size)),
        "jet_pt": jet_pt,
        "jet_eta": jet_eta,
        "flavour": np.array(FLAVOURS)[numbers],
        "word": np.array(WORDS)[numbers],
        "weight": rng.normal(1, 1, NUM_JETS),
        "event": np.uint64(2**60) + np.arange(NUM_JETS, dtype=np.uint64) // 2,
        "run": np.ones(NUM_JETS, dtype=np.int32),
        "sv_mass": ak.unflatten(rng.exponential(2, vertices.sum()), vertices).to_list(),
        "sv_eta": ak.unflatten(rng.normal(size=vertices.sum()), vertices).to_list(),
        "sv_phi": ak.unflatten(rng.uniform(-3, 3, vertices.sum()), vertices).to_list(),
    }


def write_columns(path: Path, **changes: Any) -> Path:
    """Write the columns, some of them changed, to a Parquet file."""
    pq.write_table(pa.table({**make_columns(), **changes}), path)
    return path
