"""Jets with further collections for tests: momenta, positions, and columns alone."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np

__all__ = ["SCHEMA", "jets_with_collections", "shuffled_entries", "write_columns"]

SCHEMA = {
    "p4": {name: f"part_{name}" for name in ("E", "px", "py", "pz")},
    "particle": {"pid": "part_pid"},
    "collections": {
        "sv": {
            "p4": {q: f"sv_{q}" for q in ("pt", "eta", "phi", "mass")},
            "columns": {"x": "sv_x"},
        },
        "lost": {
            "position": {"eta": "lost_eta", "phi": "lost_phi"},
            "columns": {"q": "lost_q"},
        },
        "flow": {"columns": {"pt": "flow_pt"}},
    },
    "label": "label",
    "classes": ["qcd", "top"],
}

_PIDS = (22, 211, -211)


def columns(number: int = 60, seed: int = 0) -> dict[str, ak.Array]:
    """Columns of a file, by name."""
    rng = np.random.default_rng(seed)
    label = np.arange(number) % 2
    counts = {"part": rng.integers(1, 9, number), "sv": rng.integers(0, 3, number)}
    counts |= {"lost": rng.integers(0, 4, number), "flow": rng.integers(0, 3, number)}
    jet = {name: np.repeat(np.arange(number), n) for name, n in counts.items()}

    def angles(name: str) -> tuple[np.ndarray, np.ndarray]:
        spread = rng.normal(0, 0.2, (2, len(jet[name])))
        return spread[0] + 0.3, (spread[1] + 3.0 + np.pi) % (2 * np.pi) - np.pi

    flat: dict[str, np.ndarray] = {}
    eta, phi = angles("part")
    pt = rng.exponential(20, len(eta)) + 1
    flat |= {"part_px": pt * np.cos(phi), "part_py": pt * np.sin(phi), "part_pz": pt * np.sinh(eta)}
    flat |= {"part_E": pt * np.cosh(eta), "part_pid": rng.choice(_PIDS, len(pt))}
    eta, phi = angles("sv")
    flat |= {"sv_pt": rng.exponential(30, len(eta)) + 1, "sv_eta": eta, "sv_phi": phi}
    flat |= {"sv_mass": rng.exponential(2, len(eta)), "sv_x": rng.exponential(1 + label[jet["sv"]])}
    eta, phi = angles("lost")
    flat |= {"lost_eta": eta, "lost_phi": phi, "lost_q": rng.choice([-1.0, 1.0], len(eta))}
    flat["flow_pt"] = rng.exponential(5, len(jet["flow"]))
    ragged = {name: ak.unflatten(v, counts[name.split("_")[0]]) for name, v in flat.items()}
    return {**ragged, "label": ak.Array(label)}


def write_columns(path: Path, number: int = 60, seed: int = 0) -> Path:
    """Write a Parquet file for :data:`SCHEMA`."""
    ak.to_parquet(ak.zip(columns(number, seed), depth_limit=1), path)
    return path


def jets_with_collections(path: Path, number: int = 60, seed: int = 0) -> ak.Array:
    """Jets of such a file."""
    from pcloud.io import read_jets

    return read_jets(write_columns(path, number, seed), SCHEMA)


def shuffled_entries(jets: ak.Array, seed: int = 1) -> ak.Array:
    """The same jets with the particles, and the entries of each collection, in another order."""
    rng = np.random.default_rng(seed)
    names = [name for name in jets.fields if jets[name].ndim == 2]
    groups = {name: "particles" if name in ("p4", "pid") else name for name in names}
    orders = {}
    for name, group in groups.items():
        counts = ak.num(jets[name], axis=1)
        random = rng.random(int(ak.sum(counts)))
        orders.setdefault(group, ak.argsort(ak.unflatten(random, counts), axis=1))
    found = {n: jets[n][orders[groups[n]]] if n in groups else jets[n] for n in jets.fields}
    return ak.Array(ak.zip(found, depth_limit=1), attrs=jets.attrs)
