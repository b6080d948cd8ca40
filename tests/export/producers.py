"""Readers of exported files as the programs of CMS and ATLAS are: numpy, one jet at a time.

They know nothing of pcloud: they get variables by name from functions of their own, and the rest from
the description of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Momenta = Mapping[str, np.ndarray]
"""Components px, py, pz, E of some objects of one jet, float64."""


def pt(p: Momenta) -> np.ndarray:
    return np.hypot(p["px"], p["py"])


def eta(p: Momenta) -> np.ndarray:
    return np.arcsinh(p["pz"] / pt(p))


def dphi(p: Momenta, jet: Momenta) -> np.ndarray:
    angle = np.arctan2(p["py"], p["px"]) - np.arctan2(jet["py"], jet["px"])
    return (angle + np.pi) % (2 * np.pi) - np.pi


VARIABLES: dict[str, Callable[[Momenta, Momenta], np.ndarray]] = {
    "log_pt": lambda p, jet: np.log(pt(p)),
    "log_energy": lambda p, jet: np.log(p["E"]),
    "log_pt_rel": lambda p, jet: np.log(pt(p) / pt(jet)),
    "log_energy_rel": lambda p, jet: np.log(p["E"] / jet["E"]),
    "delta_r": lambda p, jet: np.hypot(eta(p) - eta(jet), dphi(p, jet)),
    "deta": lambda p, jet: (eta(p) - eta(jet)) * np.where(eta(jet) < 0, -1, 1),
    "dphi": dphi,
    "rel_eta": lambda p, jet: eta(p) - eta(jet),
    "rel_phi": dphi,
    "px": lambda p, jet: p["px"],
    "py": lambda p, jet: p["py"],
    "pz": lambda p, jet: p["pz"],
    "energy": lambda p, jet: p["E"],
    "mask": lambda p, jet: np.ones(len(p["E"])),
}


def center_norm_pad(values: np.ndarray, info: Mapping[str, float], length: int) -> np.ndarray:
    """Values of one variable as CMS passes them to a network."""
    values = np.where(np.isfinite(values), values, info["replace_inf_value"])
    scaled = (values - info["median"]) * info["norm_factor"]
    scaled = np.clip(scaled, info["lower_bound"], info["upper_bound"])
    padded = np.full(length, info["pad"])
    padded[: len(scaled)] = scaled[:length]
    return padded


def cms_inputs(
    preprocess: Mapping[str, Any], collections: Mapping[str, Mapping[str, np.ndarray]], jet: Momenta
) -> dict[str, np.ndarray]:
    """Inputs of one jet by the order and the numbers of ``preprocess.json``.

    `collections` holds the columns of the entries of each collection, such as ``pf``.
    """
    found = {}
    for name in preprocess["input_names"]:
        description = preprocess[name]
        entries = collections[name.split("_")[0]]
        number = len(next(iter(entries.values())))
        length = min(max(number, description["min_length"]), description["max_length"])
        rows = []
        for variable in description["var_names"]:
            compute = VARIABLES.get(variable)
            values = entries[variable] if compute is None else compute(entries, jet)
            rows.append(center_norm_pad(values, description["var_infos"][variable], length))
        found[name] = np.stack(rows)[None].astype(np.float32)
    return found


def atlas_inputs(
    config: Mapping[str, Any], tracks: Mapping[str, np.ndarray], jet: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Inputs of one jet by the variables, offsets and scales of ``gnn_config``."""
    (of_jet,) = config["inputs"]
    (of_tracks,) = config["input_sequences"]

    def scaled(values: Any, variable: Mapping[str, Any]) -> np.ndarray:
        return (np.asarray(values) + variable["offset"]) * variable["scale"]

    return {
        "jet_features": np.array(
            [[scaled(jet[v["name"]], v) for v in of_jet["variables"]]], dtype=np.float32
        ),
        "track_features": np.stack(
            [scaled(tracks[v["name"]], v) for v in of_tracks["variables"]], axis=1
        ).astype(np.float32),
    }
