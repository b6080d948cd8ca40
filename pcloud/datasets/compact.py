"""Compact storage of jets with massless constituents, about 3.5 bytes per particle.

pt, eta and phi are rounded to a grid that is much finer than the resolution of a detector, and
stored as small integers: the difference in ln pt to the previous constituent (they are sorted by
pt), and eta and phi relative to the jet axis. Parquet separates the bytes of these integers and
compresses them to within 2 % of their entropy. A table has a single row with lists over all jets or
all particles. With one row per jet, the lengths of the lists would need another 0.1 bytes per
particle. Encoding decoded jets again gives the same jets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pcloud.io.jets import TARGETS, FlatJets, as_offsets

#: Grid of the logarithm of the true pt and mass of a jet over those of its particles.
LOG_RESPONSE_STEP = 0.0005

_MISSING = -(2**15)
_MIN_MASS = 0.1  # GeV, of the sum of constituents, which rounding can make spacelike

#: Grid of ln(pt / GeV) and of eta, and number of grid points of phi in a full turn.
LOG_PT_STEP = 0.002
ETA_STEP = 0.001
PHI_STEPS = 6284
PHI_STEP = 2 * np.pi / PHI_STEPS

METADATA_KEY = b"pcloud"


def encode(jets: FlatJets) -> pa.Table:
    """Round jets to the grid and convert them to columns of small integers.

    Parameters
    ----------
    jets : FlatJets
        Jets with ``label`` and at least one constituent each, sorted by pt. The constituents become
        massless. The targets ``pt`` and ``mass`` are stored where the jets have them, relative to
        those of the rounded constituents; other columns are not stored.

    Returns
    -------
    pyarrow.Table
        One row of lists: label, number of constituents, axis and perhaps targets of each jet, and
        three integers for each particle.
    """
    counts = jets.counts
    first = jets.offsets[:-1]
    jet = np.repeat(np.arange(len(jets)), counts)
    px, py, pz = (component.astype(np.float64) for component in jets.p4[1:])
    axis = [np.add.reduceat(component, first) for component in (px, py, pz)]
    axis_eta, axis_phi = _round_direction(*axis)
    eta, phi = _round_direction(px, py, pz)
    log_pt = np.round(np.log(np.hypot(px, py)) / LOG_PT_STEP).astype(np.int64)
    drop = -np.diff(log_pt, prepend=0)
    drop[first] = log_pt[first]
    half_turn = PHI_STEPS // 2
    columns = {
        "label": jets.jet["label"],
        "count": counts,
        "axis_eta": axis_eta,
        "axis_phi": axis_phi,
        "log_pt_drop": drop,
        "eta": eta - axis_eta[jet],
        "phi": (phi - axis_phi[jet] + half_turn) % PHI_STEPS - half_turn,
    }
    columns |= _responses(jets, columns)
    # Unsigned, because the two upper bytes of signed numbers would need one bit each in Parquet.
    return pa.table(
        {name: pa.array([values.astype(np.uint16)]) for name, values in columns.items()}
    )


def decode(table: pa.Table) -> FlatJets:
    """Jets from the columns of `encode`.

    Parameters
    ----------
    table : pyarrow.Table
        Table from `encode`.

    Returns
    -------
    FlatJets
        Massless jets in float32 and GeV, with ``label``.
    """
    columns = {
        name: np.asarray(table[name].combine_chunks().flatten()).view(np.int16).astype(np.int64)
        for name in table.column_names
    }
    counts = columns["count"]
    drop = columns["log_pt_drop"]
    offsets = as_offsets(counts)
    fallen = np.cumsum(drop)
    log_pt = np.repeat((fallen + drop)[offsets[:-1]], counts) - fallen
    pt = np.exp(log_pt * LOG_PT_STEP)
    eta = (columns["eta"] + np.repeat(columns["axis_eta"], counts)) * ETA_STEP
    phi = (columns["phi"] + np.repeat(columns["axis_phi"], counts)) * PHI_STEP
    components = (pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta))
    p4 = tuple(component.astype(np.float32) for component in components)
    jets = FlatJets(offsets, p4, jet={"label": columns["label"]})
    for name, value in _of_constituents(jets).items():
        if (column := f"{name}_response") in columns:
            response = columns[column]
            known = np.where(response == _MISSING, np.nan, response * LOG_RESPONSE_STEP)
            jets.jet[f"{TARGETS}{name}"] = value * np.exp(known)
    return jets


def _responses(jets: FlatJets, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logarithms of the targets over the values of the rounded constituents, on their grid."""
    if f"{TARGETS}mass" not in jets.jet:
        return {}
    rounded = decode(
        pa.table({name: pa.array([v.astype(np.int16)]) for name, v in columns.items()})
    )
    found = {}
    for name, value in _of_constituents(rounded).items():
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.round(np.log(jets.jet[f"{TARGETS}{name}"] / value) / LOG_RESPONSE_STEP)
        is_known = np.isfinite(log) & (np.abs(log) < -_MISSING)
        found[f"{name}_response"] = np.where(is_known, log, _MISSING).astype(np.int64)
    return found


def _of_constituents(jets: FlatJets) -> dict[str, np.ndarray]:
    """Transverse momentum and mass (B,) in GeV of the sum of the constituents of each jet."""
    first = jets.offsets[:-1]
    if len(first) == 0:
        return {"pt": np.empty(0), "mass": np.empty(0)}
    e, px, py, pz = (np.add.reduceat(c.astype(np.float64), first) for c in jets.p4)
    square = e**2 - px**2 - py**2 - pz**2
    return {"pt": np.hypot(px, py), "mass": np.sqrt(np.maximum(square, _MIN_MASS**2))}


def write_compact(jets: FlatJets, path: Path, metadata: dict[str, Any]) -> None:
    """Write jets in the compact encoding, with `metadata` about their origin."""
    table = encode(jets).replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=22,
        use_dictionary=False,
        column_encoding={
            f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in table.column_names
        },
        write_statistics=False,
    )


def read_compact(path: Path) -> FlatJets:
    """Read jets that `write_compact` wrote."""
    return decode(pq.read_table(path))


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata that `write_compact` stored."""
    return json.loads(pq.read_schema(path).metadata[METADATA_KEY])


def _round_direction(
    px: np.ndarray, py: np.ndarray, pz: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Eta and phi of momenta, as integers on the grid."""
    eta = np.round(np.arcsinh(pz / np.hypot(px, py)) / ETA_STEP).astype(np.int64)
    phi = np.round(np.arctan2(py, px) / PHI_STEP).astype(np.int64)
    return eta, phi
