"""Jets of massless constituents in about three and a half bytes a particle.

pt, eta and phi are rounded to a grid, far below the resolution of a detector, and stored as
small integers: the step in ln pt from the constituent before (they are ordered by pt), eta and
phi relative to the jet axis. Parquet splits these integers into byte planes and compresses them
to within two percent of their entropy: 3.4 bytes a particle of ours. A table has a single row,
whose lists run over all jets or all particles, because a row a jet would spend another 0.1
bytes a particle on where the lists end. Encoding what was decoded changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import vector

#: Grid of ln(pt / GeV), of eta, and number of grid points of phi in a full turn.
LOG_PT_STEP = 0.002
ETA_STEP = 0.001
PHI_STEPS = 6284
PHI_STEP = 2 * np.pi / PHI_STEPS

METADATA_KEY = b"pcloud"


def encode(jets: ak.Array) -> pa.Table:
    """Round jets to the grid and turn them into columns of small integers.

    Parameters
    ----------
    jets : ak.Array
        Jets with massless `p4`, at least one constituent each, and `label`. Constituents are
        ordered by pt; masses and other fields are lost.

    Returns
    -------
    pyarrow.Table
        One row of lists: label, number of constituents and axis of each jet, and the three
        integers of each particle.
    """
    counts = ak.to_numpy(ak.num(jets.p4))
    px, py, pz = (
        ak.to_numpy(ak.flatten(jets.p4[name])).astype(float) for name in ("px", "py", "pz")
    )
    jet = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    axis = [np.bincount(jet, component, minlength=len(counts)) for component in (px, py, pz)]
    axis_eta, axis_phi = _round_direction(*axis)
    eta, phi = _round_direction(px, py, pz)
    log_pt = np.round(np.log(np.hypot(px, py)) / LOG_PT_STEP).astype(np.int64)

    order = np.lexsort((-log_pt, jet))
    log_pt, eta, phi = log_pt[order], eta[order], phi[order]
    drop = np.empty_like(log_pt)
    drop[1:] = log_pt[:-1] - log_pt[1:]
    drop[first] = log_pt[first]
    dphi = (phi - axis_phi[jet] + PHI_STEPS // 2) % PHI_STEPS - PHI_STEPS // 2
    columns = {
        "label": ak.to_numpy(jets.label),
        "count": counts,
        "axis_eta": axis_eta,
        "axis_phi": axis_phi,
        "log_pt_drop": drop,
        "eta": eta - axis_eta[jet],
        "phi": dphi,
    }
    # Modulo 2^16: as signed numbers, their two upper bytes in Parquet would cost a bit each.
    return pa.table(
        {name: pa.array([values.astype(np.uint16)]) for name, values in columns.items()}
    )


def decode(table: pa.Table) -> ak.Array:
    """Turn the columns of `encode` back into jets.

    Returns
    -------
    ak.Array
        Jets with `p4`, float32 and in GeV, and `label`.
    """
    columns = {
        name: np.asarray(table[name].combine_chunks().flatten()).view(np.int16).astype(np.int64)
        for name in table.column_names
    }
    counts, drop = columns["count"], columns["log_pt_drop"]
    first = np.cumsum(counts) - counts
    fallen = np.cumsum(drop)
    log_pt = np.repeat(fallen[first] + drop[first], counts) - fallen
    pt = np.exp(log_pt * LOG_PT_STEP)
    eta = (columns["eta"] + np.repeat(columns["axis_eta"], counts)) * ETA_STEP
    phi = (columns["phi"] + np.repeat(columns["axis_phi"], counts)) * PHI_STEP
    components = {
        "E": pt * np.cosh(eta),
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
    }
    vector.register_awkward()
    p4 = ak.zip(
        {name: values.astype(np.float32) for name, values in components.items()},
        with_name="Momentum4D",
    )
    return ak.zip({"p4": ak.unflatten(p4, counts), "label": columns["label"]}, depth_limit=1)


def write_compact(jets: ak.Array, path: Path, metadata: dict[str, Any]) -> None:
    """Write jets in the compact encoding, with a note of where they come from."""
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


def read_compact(path: Path) -> tuple[ak.Array, dict[str, Any]]:
    """Read jets of `write_compact` and the note that was written with them."""
    table = pq.read_table(path)
    return decode(table), json.loads(table.schema.metadata[METADATA_KEY])


def _round_direction(
    px: np.ndarray, py: np.ndarray, pz: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Direction on the grid of eta and phi."""
    eta = np.round(np.arcsinh(pz / np.hypot(px, py)) / ETA_STEP).astype(np.int64)
    phi = np.round(np.arctan2(py, px) / PHI_STEP).astype(np.int64)
    return eta, phi
