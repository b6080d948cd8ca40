"""Schemas of public samples and of files of pcloud, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.schema import JetSchema

__all__ = ["SCHEMAS", "as_schema"]

_LANDSCAPE = JetSchema(
    p4={"E": "E_{i}", "px": "PX_{i}", "py": "PY_{i}", "pz": "PZ_{i}"},
    jet={
        "truth_E": "truthE",
        "truth_px": "truthPX",
        "truth_py": "truthPY",
        "truth_pz": "truthPZ",
        "ttv": "ttv",
    },
    label="is_signal_new",
    classes=("qcd", "top"),
    optional=("truth_E", "truth_px", "truth_py", "truth_pz", "ttv", "label"),
)

_JETCLASS_PARTICLE = {
    "charge": "part_charge",
    "is_charged_hadron": "part_isChargedHadron",
    "is_neutral_hadron": "part_isNeutralHadron",
    "is_photon": "part_isPhoton",
    "is_electron": "part_isElectron",
    "is_muon": "part_isMuon",
    "d0": "part_d0val",
    "d0_err": "part_d0err",
    "dz": "part_dzval",
    "dz_err": "part_dzerr",
    "stored_deta": "part_deta",
    "stored_dphi": "part_dphi",
}
_JETCLASS_JET = {
    name: name
    for name in (
        *("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_nparticles", "jet_sdmass"),
        *("jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4"),
    )
}
_JETCLASS_CLASSES = (*("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"),)
_JETCLASS_JET_P4 = {"E": "jet_energy", "pt": "jet_pt", "eta": "jet_eta", "phi": "jet_phi"}
_JETCLASS_P4 = {"E": "part_energy", "px": "part_px", "py": "part_py", "pz": "part_pz"}

_JETCLASS = JetSchema(
    p4=_JETCLASS_P4,
    particle=_JETCLASS_PARTICLE,
    jet=_JETCLASS_JET,
    jet_p4=_JETCLASS_JET_P4,
    label=tuple(f"label_{name}" for name in _JETCLASS_CLASSES),
    classes=_JETCLASS_CLASSES,
    optional=(*_JETCLASS_PARTICLE, *_JETCLASS_JET, "jet_p4", "label"),
)

_JETCLASS2 = JetSchema(
    p4=_JETCLASS_P4,
    particle=_JETCLASS_PARTICLE,
    jet=_JETCLASS_JET,
    jet_p4=_JETCLASS_JET_P4,
    label="jet_label",
    optional=(*_JETCLASS_PARTICLE, *_JETCLASS_JET, "jet_p4", "label"),
)

_ENERGYFLOW = JetSchema(
    p4={"pt": "X[0]", "rapidity": "X[1]", "phi": "X[2]"},
    particle={"pid": "X[3]"},
    label="y",
    classes=("gluon", "quark"),
    optional=("pid", "label"),
)

#: Schema of the Parquet files of `write_jets`; when read, all other columns are extra columns.
_PCLOUD = JetSchema(
    p4={"E": "p4.E", "px": "p4.px", "py": "p4.py", "pz": "p4.pz"},
    label="label",
    optional=("label",),
)

#: Schemas of public samples and of files of pcloud, by name.
SCHEMAS: dict[str, JetSchema] = {
    "landscape": _LANDSCAPE,
    "jetclass": _JETCLASS,
    "jetclass2": _JETCLASS2,
    "energyflow": _ENERGYFLOW,
    "pcloud": _PCLOUD,
}


def as_schema(schema: JetSchema | Mapping[str, Any] | str | None) -> JetSchema | None:
    """Schema from a `JetSchema`, a dictionary, or a name in `SCHEMAS`; None for None.

    Raises
    ------
    UnknownNameError
        If there is no schema of this name.
    InputError
        If `schema` has another type.
    """
    if isinstance(schema, str):
        if schema not in SCHEMAS:
            raise UnknownNameError("schema", schema, SCHEMAS)
        return SCHEMAS[schema]
    if isinstance(schema, Mapping):
        return JetSchema.from_dict(schema)
    if schema is None or isinstance(schema, JetSchema):
        return schema
    raise InputError(f"schema must be a JetSchema, a dict or a name, got {schema!r}")
