"""A `JetSchema` says which column of a file is which quantity of a jet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pcloud.errors import InputError, UnknownNameError

__all__ = ["SCHEMAS", "UNITS", "Column", "JetSchema", "as_schema"]

#: Energy units in GeV.
UNITS = {"eV": 1e-9, "keV": 1e-6, "MeV": 1e-3, "GeV": 1.0, "TeV": 1e3}

#: What a column of `JetSchema.p4` can be.
QUANTITIES = ("E", "px", "py", "pz", "pt", "eta", "rapidity", "phi", "mass")

#: Extras per jet that are energies: converted to GeV like the four-momenta.
GEV_EXTRAS = frozenset(
    {
        *(f"{jet}_{q}" for jet in ("jet", "truth") for q in ("pt", "energy", "mass", "sdmass")),
        *(f"{jet}_{q}" for jet in ("jet", "truth") for q in ("E", "px", "py", "pz")),
    }
)

_DIRECTIONS = (("px", "py", "pz"), ("pt", "eta", "phi"), ("pt", "rapidity", "phi"))
_ENERGIES = ((), ("E",), ("mass",))
_INDEXED = re.compile(r"(?P<name>.+)\[(?P<index>\d+)\]")


@dataclass(frozen=True)
class Column:
    """A column reference: ``name``, ``name[i]`` (last axis) or ``name_{i}`` (one column a slot).

    Parameters
    ----------
    name : str
        Name of the column in the file, with ``{i}`` in the place of the slot number where every
        particle slot has a column of its own.
    index : int, optional
        Index along the last axis of an array.
    """

    name: str
    index: int | None = None

    @classmethod
    def parse(cls, reference: str) -> Column:
        """Take apart ``"X[0]"`` into ``X`` and 0."""
        match = _INDEXED.fullmatch(reference)
        return cls(match["name"], int(match["index"])) if match else cls(reference)

    @property
    def wide(self) -> bool:
        """Whether each particle slot has a column of its own."""
        return "{i}" in self.name

    def slots(self, known: Iterable[str]) -> tuple[str, ...]:
        """Names of the columns of all slots, 0, 1, ... as far as `known` has them."""
        known = set(known)
        names: list[str] = []
        while (name := self.name.replace("{i}", str(len(names)))) in known:
            names.append(name)
        return tuple(names)


@dataclass(frozen=True)
class JetSchema:
    """Which column is which quantity, its unit, the label, and how jets of any length are stored.

    A column is named as in the file. ``"X[0]"`` is index 0 along the last axis of the array
    ``X``; ``"E_{i}"`` stands for the columns ``E_0, E_1, ...`` of a flat table with one column
    per particle slot; ``"tracks/pt"`` is the field ``pt`` of an HDF5 compound data set or group,
    ``"p4.E"`` that of a Parquet struct.

    Ragged columns (ROOT vectors, Parquet lists) need no more. Arrays with one row per particle
    need `offsets` or `counts`. Padded arrays, one row per jet, need `mask` or `counts`; without
    either, a slot whose energy (or pt) is zero is padding, wherever it is.

    Parameters
    ----------
    p4 : dict of str to str
        Quantity to column: ``px, py, pz`` or ``pt, eta, phi`` or ``pt, rapidity, phi``, with
        ``E`` or ``mass``, or neither for massless particles.
    particle : dict of str to str
        Extra columns per particle: the name they get to the column, such as
        ``{"charge": "part_charge"}``.
    jet_p4 : dict of str to str
        The momentum of the jet itself, by the same quantities as `p4`, where the file has it.
        Without it the momentum of a jet is the sum of its particles.
    jet : dict of str to str
        Extra columns per jet, such as ``{"jet_sdmass": "fj_msoftdrop"}``. Those called
        ``jet_pt``, ``jet_energy``, ``jet_mass``, ``jet_sdmass``, ``truth_E`` ... have the unit of
        the four-momenta and are converted with them; other extras are taken as they are.
    label : str or tuple of str, optional
        Column of the class index, or one one-hot column per class, in the order of the classes.
    classes : tuple of str
        Names of the classes in the order of the label.
    optional : tuple of str
        Names of extras, ``"label"``, or ``"jet_p4"``, that a file may lack.
    unit : str
        Unit of the energies in the file: eV, keV, MeV, GeV or TeV.
    tree : str, optional
        ROOT tree, or HDF5 group or pandas key. Needed only where a file has several.
    mask : str, optional
        Column that is true where a slot holds a particle.
    offsets : str, optional
        Column of B + 1 offsets: jet ``i`` is rows ``offsets[i]:offsets[i + 1]``.
    counts : str, optional
        Column of the number of particles of each jet.

    Raises
    ------
    UnknownNameError
        If a quantity or the unit does not exist.
    InputError
        If the quantities do not make a four-momentum, or names contradict each other.

    Examples
    --------
    >>> JetSchema(
    ...     p4={"pt": "pfcand_pt", "eta": "pfcand_eta", "phi": "pfcand_phi", "mass": "pfcand_m"},
    ...     particle={"charge": "pfcand_charge"},
    ...     label=("is_qcd", "is_top"),
    ...     unit="MeV",
    ... ).classes
    ('qcd', 'top')
    """

    p4: dict[str, str]
    particle: dict[str, str] = field(default_factory=dict)
    jet: dict[str, str] = field(default_factory=dict)
    jet_p4: dict[str, str] = field(default_factory=dict)
    label: str | tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    unit: str = "GeV"
    tree: str | None = None
    mask: str | None = None
    offsets: str | None = None
    counts: str | None = None

    def __post_init__(self) -> None:
        for name in ("p4", "particle", "jet", "jet_p4"):
            object.__setattr__(self, name, _columns(name, getattr(self, name)))
        for name in ("classes", "optional"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if self.label is not None and not isinstance(self.label, str):
            object.__setattr__(self, "label", _names("label", self.label))
        _check_momentum("p4", self.p4)
        if self.jet_p4:
            _check_momentum("jet_p4", self.jet_p4)
        self._check_names()
        self._check_label()
        if self.unit not in UNITS:
            raise UnknownNameError("unit", str(self.unit), UNITS)
        layout = [name for name in ("mask", "offsets", "counts") if getattr(self, name)]
        if len(layout) > 1:
            raise InputError(f"a schema has one of mask, offsets and counts, got {layout}")

    def __hash__(self) -> int:
        return hash(tuple(str(value) for value in self.to_dict().values()))

    @property
    def one_hot(self) -> tuple[str, ...]:
        """One column per class, or none where the label is one column."""
        return self.label if isinstance(self.label, tuple) else ()

    def to_dict(self) -> dict[str, Any]:
        """Plain types only: what YAML and JSON can hold."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JetSchema:
        """Inverse of `to_dict`; absent fields have their defaults."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise UnknownNameError("schema field", str(name), known)
        if "p4" not in values:
            raise InputError("a schema needs 'p4': the columns of the four-momenta")
        return cls(**values)

    def _check_names(self) -> None:
        taken = {"p4", "jet_p4", "label"}
        for name in (*self.particle, *self.jet):
            if name in taken:
                raise InputError(f"the name {name!r} of an extra column is taken or given twice")
            taken.add(name)
        for name in self.optional:
            if name not in taken:
                raise UnknownNameError("optional column", name, taken - {"p4"})

    def _check_label(self) -> None:
        if self.one_hot and not self.classes:
            object.__setattr__(self, "classes", _strip_common_prefix(self.one_hot))
        if self.one_hot and len(self.one_hot) != len(self.classes):
            raise InputError(
                f"{len(self.one_hot)} one-hot label columns but {len(self.classes)} classes"
            )
        if len(set(self.classes)) < len(self.classes):
            raise InputError(f"class names must differ, got {', '.join(self.classes)}")


def _check_momentum(name: str, columns: Mapping[str, str]) -> None:
    for quantity in columns:
        if quantity not in QUANTITIES:
            raise UnknownNameError("momentum quantity", quantity, QUANTITIES)
    valid = [{*d, *e} for d in _DIRECTIONS for e in _ENERGIES]
    if set(columns) not in valid:
        raise InputError(
            f"{name} needs px, py, pz or pt, eta, phi or pt, rapidity, phi, with E or mass or "
            f"neither (massless); got {', '.join(columns) or 'nothing'}"
        )


def _columns(name: str, columns: Any) -> dict[str, str]:
    if not isinstance(columns, Mapping):
        raise InputError(f"{name} must map names to columns, got {columns!r}")
    for key, column in columns.items():
        if not isinstance(key, str) or not isinstance(column, str) or not key or not column:
            raise InputError(f"{name} must map names to columns, got {key!r}: {column!r}")
    return dict(columns)


def _names(name: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(n, str) for n in names):
        raise InputError(f"{name} must be a sequence of names, got {names!r}")
    return tuple(names)


def _strip_common_prefix(names: tuple[str, ...]) -> tuple[str, ...]:
    """``label_QCD, label_Hbb`` to ``QCD, Hbb``: cut after the last common underscore."""
    parts = [name.split("_") for name in names]
    while min(map(len, parts)) > 1 and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    return tuple("_".join(part) for part in parts)


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
    "deta": "part_deta",
    "dphi": "part_dphi",
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

#: The layout that `write_jets` gives Parquet. Reading it, all its other columns are extras.
_PCLOUD = JetSchema(
    p4={"E": "p4.E", "px": "p4.px", "py": "p4.py", "pz": "p4.pz"},
    label="label",
    optional=("label",),
)

#: Schemas of public samples and of our own files, by name.
SCHEMAS: dict[str, JetSchema] = {
    "landscape": _LANDSCAPE,
    "jetclass": _JETCLASS,
    "jetclass2": _JETCLASS2,
    "energyflow": _ENERGYFLOW,
    "pcloud": _PCLOUD,
}


def as_schema(schema: JetSchema | Mapping[str, Any] | str | None) -> JetSchema | None:
    """A schema from its value, its `to_dict`, or its name in `SCHEMAS`; None stays None."""
    if isinstance(schema, str):
        if schema not in SCHEMAS:
            raise UnknownNameError("schema", schema, SCHEMAS)
        return SCHEMAS[schema]
    if isinstance(schema, Mapping):
        return JetSchema.from_dict(schema)
    if schema is None or isinstance(schema, JetSchema):
        return schema
    raise InputError(f"schema must be a JetSchema, a dict or a name, got {schema!r}")
