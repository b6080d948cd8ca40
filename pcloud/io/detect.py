"""Detection of the schema of a file of pcloud or of a public sample."""

from __future__ import annotations

import shlex

import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.known_schemas import SCHEMAS
from pcloud.io.load import JetReader
from pcloud.io.schema import JetSchema
from pcloud.io.source_columns import find
from pcloud.io.table import Table
from pcloud.particle_types import decode_remapped

__all__ = ["detect_schema"]

_NUM_DETECTION_JETS = 1000  # jets whose values are looked at to detect a schema
_PHI_ROUNDING = 1e-3  # rad


def detect_schema(table: Table) -> JetSchema:
    """Detect the schema of a file of pcloud or of a public sample from its columns.

    Raises
    ------
    UnknownNameError
        If the columns are those of a public sample except for one; the message has its name.
    InputError
        If the columns do not belong to a known sample.
    """
    native = table.native_schema()
    if native:
        return native
    matches = {name: _count_matches(table, schema) for name, schema in SCHEMAS.items()}
    best = max(matches, key=lambda name: matches[name])
    if matches[best][1]:
        _check_columns(table, best)
        if SCHEMAS[best] is SCHEMAS["energyflow"]:
            _check_energyflow(table)
        return SCHEMAS[best]
    names = list(table.columns)
    more = f", ... ({len(names)} in all)" if len(names) > 8 else ""
    raise InputError(
        f"{table.path}: the columns are of no known sample ({', '.join(SCHEMAS)}); define them "
        f"with a schema; there are: {', '.join(names[:8]) or 'none'}{more}; a schema is proposed "
        f"by: {_inspection(table)}"
    )


def _check_columns(table: Table, name: str) -> None:
    """Check that a file whose columns are those of a sample has all of them.

    Raises
    ------
    UnknownNameError
        If a column is missing.
    """
    try:
        JetReader(table, SCHEMAS[name])
    except UnknownNameError as error:
        error.message += (
            f" (most columns are those of {name}; for another file, {_inspection(table)} proposes a "
            "schema)"
        )
        raise


def _inspection(table: Table) -> str:
    """Command that shows the columns of a file."""
    return f"pcloud inspect {shlex.quote(str(table.path))}"


def _check_energyflow(table: Table) -> None:
    """Check that an array X contains pT, rapidity, phi and particle types, not other quantities.

    Arrays of the same name and shape often contain four-momenta.

    Raises
    ------
    InputError
        If they are not the quantities of EnergyFlow.
    """
    rows = min(table.columns["X"][0] or 0, _NUM_DETECTION_JETS)
    values = np.asarray(table.read_columns(["X"], 0, rows)["X"], dtype=np.float64)
    particles = values[(values[..., 0] != 0) & np.isfinite(values).all(axis=-1)]
    phi = particles[:, 2]
    wrong = []
    if (particles[:, 0] < 0).any():
        wrong.append(f"X[0] is negative ({particles[:, 0].min():g}), which pt cannot be")
    if (np.abs(phi) > 2 * np.pi + _PHI_ROUNDING).any():
        wrong.append(f"X[2] is {phi[np.abs(phi).argmax()]:g}, which phi cannot be")
    if particles.shape[1] > 3:
        pid = particles[:, 3]
        is_type = decode_remapped(pid) == np.round(decode_remapped(pid))
        if not is_type.all():
            wrong.append(f"X[3] is {pid[~is_type][0]:g}, which is no particle type (pid)")
    if wrong:
        raise InputError(
            f"{table.path}: an array X of this shape is taken for the pt, rapidity, phi and pid of "
            f"EnergyFlow, but {wrong[0]}; define the columns with a schema, for four-momenta "
            "p4={'E': 'X[0]', 'px': 'X[1]', 'py': 'X[2]', 'pz': 'X[3]'}"
        )


def _count_matches(table: Table, schema: JetSchema) -> tuple[bool, int, int]:
    """Compare the columns of a file with those of a schema.

    Returns
    -------
    bool
        True if the file has all columns of the momenta.
    int
        Number of columns of the momenta in the file.
    int
        Number of other columns of the schema in the file.
    """
    label = (schema.label,) if isinstance(schema.label, str) else (schema.label or ())
    others = (*schema.particle.values(), *schema.jet.values(), *label)
    p4 = sum(find(table, column) is not None for column in schema.p4.values())
    return (
        p4 == len(schema.p4),
        p4,
        sum(find(table, column) is not None for column in others),
    )
