"""Four-momenta of one name: records, objects of ROOT, and columns with a common beginning.

The quantities are the columns that begin with the name, followed by ``.``, ``/`` or ``_``, and end as
one of the conventions does: ``Jet_pt`` of NanoAOD, ``Jet_p4.fP.fX`` of ``TLorentzVector``,
``Jet_p4.fCoordinates.fPt`` of ``ROOT::Math::LorentzVector``, ``jet.px`` of a record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.schema import VECTOR, JetSchema
from pcloud.io.table import Table

__all__ = ["ENDS", "components", "with_components"]

#: Quantity of a four-momentum for each end of a column, in lower case.
ENDS = {
    **{f"p{axis}": f"p{axis}" for axis in "xyz"},
    "pt": "pt",
    "eta": "eta",
    "phi": "phi",
    "rapidity": "rapidity",
    "e": "E",
    "energy": "E",
    "en": "E",
    "mass": "mass",
    "m": "mass",
    "fp.fx": "px",
    "fp.fy": "py",
    "fp.fz": "pz",
    "fe": "E",
    **{f"fcoordinates.f{axis}": f"p{axis}" for axis in "xyz"},
    "fcoordinates.ft": "E",
    "fcoordinates.fe": "E",
    "fcoordinates.fm": "mass",
    **{f"fcoordinates.f{name}": name for name in ("pt", "eta", "phi")},
}

_SETS = (
    ("E", "px", "py", "pz"),
    ("mass", "px", "py", "pz"),
    ("E", "pt", "eta", "phi"),
    ("mass", "pt", "eta", "phi"),
    ("E", "pt", "rapidity", "phi"),
    ("mass", "pt", "rapidity", "phi"),
)
_SEPARATOR = r"[._/]"


def with_components(schema: JetSchema, table: Table) -> JetSchema:
    """Schema with the columns of each quantity where it has one name for a four-momentum.

    Parameters
    ----------
    schema : JetSchema
        Schema.
    table : Table
        File.

    Raises
    ------
    UnknownNameError
        If no column begins with the name.
    InputError
        If the columns of this name define no four-momentum.
    """
    changed: dict[str, Any] = {
        field: components(columns[VECTOR], table)
        for field, columns in (("p4", schema.p4), ("jet_p4", schema.jet_p4))
        if VECTOR in columns
    }
    further = {
        name: replace(part, p4=components(part.p4[VECTOR], table))
        for name, part in schema.collections.items()
        if VECTOR in part.p4 and not _is_absent(name, part.p4[VECTOR], schema, table)
    }
    if further:
        changed["collections"] = schema.collections | further
    return replace(schema, **changed) if changed else schema


def _is_absent(name: str, vector: str, schema: JetSchema, table: Table) -> bool:
    """True for an optional collection of which the file has no momenta."""
    if name not in schema.optional:
        return False
    try:
        components(vector, table)
    except InputError:
        return True
    return False


def components(name: str, table: Table) -> dict[str, str]:
    """Column of each quantity of a four-momentum.

    Parameters
    ----------
    name : str
        Beginning of the names of the columns.
    table : Table
        File.

    Raises
    ------
    UnknownNameError, InputError
        As from :func:`with_components`.
    """
    # A branch of an object that is stored by members is below one of the same name.
    begin = re.compile(rf"({re.escape(name)}/)?{re.escape(name)}{_SEPARATOR}")
    found: dict[str, str] = {}
    for column in table.columns:
        if match := begin.match(column):
            quantity = ENDS.get(column[match.end() :].lower())
            if quantity is not None:
                found.setdefault(quantity, column)
    for quantities in _SETS:
        if all(quantity in found for quantity in quantities):
            return {quantity: found[quantity] for quantity in quantities}
    raise _error(name, table, found)


def _error(name: str, table: Table, found: Mapping[str, str]) -> InputError:
    for unreadable, reason in table.unreadable.items():
        if unreadable == name:
            return InputError(f"{table.path}: {table.noun} {name!r} cannot be read: {reason}")
    if name in table.columns:
        return InputError(
            f"{table.path}: {table.noun} {name!r} has numbers and is no four-momentum; name the "
            "columns, such as p4: {pt: part_pt, eta: part_eta, phi: part_phi, E: part_energy}"
        )
    if found:
        return InputError(
            f"{table.path}: of the four-momenta {name!r} there are only {', '.join(found.values())}; "
            "needed are px, py, pz or pt, eta, phi, and an energy or a mass"
        )
    names = [column[: match.start()] for column in table.columns for match in _ends(column)]
    return UnknownNameError("four-momentum", name, names, where=str(table.path))


def _ends(column: str) -> list[re.Match[str]]:
    return [m for m in re.finditer(_SEPARATOR, column) if column[m.end() :].lower() in ENDS]
