"""Schema of a file of jets: the column of each quantity, the unit, the label and the storage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pcloud.errors import InputError, UnknownNameError

__all__ = ["SCHEMAS", "UNITS", "Column", "JetSchema", "as_schema"]

#: Units of energy in GeV.
UNITS = {"eV": 1e-9, "keV": 1e-6, "MeV": 1e-3, "GeV": 1.0, "TeV": 1e3}

#: Quantities that `JetSchema.p4` can contain.
QUANTITIES = ("E", "px", "py", "pz", "pt", "eta", "rapidity", "phi", "mass")

#: Extra columns per jet that are energies; they are converted to GeV like the four-momenta.
GEV_EXTRAS = frozenset(
    {
        *(f"{jet}_{q}" for jet in ("jet", "truth") for q in ("pt", "energy", "mass", "sdmass")),
        *(f"{jet}_{q}" for jet in ("jet", "truth") for q in ("E", "px", "py", "pz")),
    }
)

#: Key of `JetSchema.p4` if one name stands for all quantities.
VECTOR = "vector"

_DIRECTIONS = (("px", "py", "pz"), ("pt", "eta", "phi"), ("pt", "rapidity", "phi"))
_ENERGIES = ((), ("E",), ("mass",))
_INDEXED = re.compile(r"(?P<name>.+)\[(?P<index>\d+)\]")


@dataclass(frozen=True)
class Column:
    """Reference to a column: ``name``, ``name[i]`` (last axis) or ``name_{i}`` (columns of slots).

    Parameters
    ----------
    name : str
        Name of the column in the file. If every particle slot has its own column, ``{i}`` stands for
        the number of the slot.
    index : int, optional
        Index along the last axis of an array.
    """

    name: str
    index: int | None = None

    @classmethod
    def parse(cls, reference: str) -> Column:
        """Parse a reference such as ``"X[0]"``, which has the name ``X`` and the index 0."""
        match = _INDEXED.fullmatch(reference)
        return cls(match["name"], int(match["index"])) if match else cls(reference)

    @property
    def wide(self) -> bool:
        """True if each particle slot has its own column."""
        return "{i}" in self.name

    def slots(self, known: Iterable[str]) -> tuple[str, ...]:
        """Names of the columns of the slots 0, 1, ... that are in `known`."""
        known = set(known)
        names: list[str] = []
        while (name := self.name.replace("{i}", str(len(names)))) in known:
            names.append(name)
        return tuple(names)


@dataclass(frozen=True)
class JetSchema:
    """Columns of a file for each quantity, with the unit, the label and the storage of the jets.

    Columns have their names in the file. ``"X[0]"`` is index 0 along the last axis of the array
    ``X``. ``"E_{i}"`` stands for the columns ``E_0, E_1, ...`` of a flat table with one column
    per particle slot. ``"tracks/pt"`` is the field ``pt`` of an HDF5 compound data set or group, and
    ``"p4.E"`` that of a Parquet struct.

    For ragged columns (ROOT vectors, Parquet lists) this is sufficient. Arrays with one row per
    particle need `offsets` or `counts`. Padded arrays with one row per jet need `mask` or `counts`;
    without these, all slots whose energy (or pt) is zero are padding.

    Parameters
    ----------
    p4 : dict of str to str
        Column of each quantity: ``px, py, pz`` or ``pt, eta, phi`` or ``pt, rapidity, phi``, with
        ``E`` or ``mass``, or neither for massless particles. One name instead, such as ``"Jet"`` or
        ``"Jet_p4"``, stands for the columns of this name with their usual ends (``Jet_pt``,
        ``Jet_p4.fP.fX``); see :mod:`pcloud.io.vectors`.
    particle : dict of str to str
        Column in the file for each extra column per particle, such as
        ``{"charge": "part_charge"}``. ``stored_deta`` and ``stored_dphi`` are angles relative to
        the jet (rad for the azimuth), which are used in the place of those computed from momenta.
    jet : dict of str to str
        Column in the file for each extra column per jet, such as
        ``{"jet_sdmass": "fj_msoftdrop"}``. ``jet_pt``, ``jet_energy``, ``jet_mass``,
        ``jet_sdmass``, ``truth_E`` and similar names are energies and are converted to GeV. Other
        extra columns are not changed.
    jet_p4 : dict of str to str
        Columns of the momentum of the jet, with the same quantities as `p4`. Without it, the
        momentum of a jet is the sum of its particles.
    label : str or tuple of str, optional
        Column of the class index, or one one-hot column per class, in the order of the classes.
    classes : tuple of str
        Names of the classes in the order of the label.
    optional : tuple of str
        Names of extra columns, ``"label"``, or ``"jet_p4"``, that can be missing in a file.
    unit : str
        Unit of the energies in the file: eV, keV, MeV, GeV or TeV.
    tree : str, optional
        Name of the ROOT tree, HDF5 group or pandas key, needed if a file contains several.
    mask : str, optional
        Column that is true for slots with a particle.
    offsets : str, optional
        Column of B + 1 offsets: jet ``i`` consists of the rows ``offsets[i]:offsets[i + 1]``.
    counts : str, optional
        Column of the number of particles of each jet.
    index : dict of str to str, or sequence of these
        Columns of files whose rows are events and whose particles are numbered, as in NanoAOD:
        ``jet``, the number in the event of the jet of each particle, and ``particle``, the number of
        the particle in its collection. See :mod:`pcloud.io.events`.
    labels : str, optional
        File with the labels of an array in an ``.npy`` file, by default the one that has ``y`` for
        ``x`` or ``labels`` for ``data`` in its name. The array is the column ``X``, the labels ``y``.

    Raises
    ------
    UnknownNameError
        If a quantity or the unit is unknown.
    InputError
        If the quantities do not define a four-momentum, or if names are used twice.

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
    index: tuple[dict[str, str], ...] = ()
    labels: str | None = None

    def __post_init__(self) -> None:
        for name in ("p4", "jet_p4"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, {VECTOR: value})
        for name in ("p4", "particle", "jet", "jet_p4"):
            object.__setattr__(self, name, _columns(name, getattr(self, name)))
        for name in ("classes", "optional"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if self.label is not None and not isinstance(self.label, str):
            object.__setattr__(self, "label", _names("label", self.label))
        object.__setattr__(self, "index", _indices(self.index))
        _check_momentum("p4", self.p4)
        if self.jet_p4:
            _check_momentum("jet_p4", self.jet_p4)
        self._check_names()
        self._check_label()
        if self.unit not in UNITS:
            raise UnknownNameError("unit", str(self.unit), UNITS)
        layout = [name for name in ("mask", "offsets", "counts") if getattr(self, name)]
        if len(layout) > 1:
            raise InputError(f"a schema has only one of mask, offsets and counts, got {layout}")

    def __hash__(self) -> int:
        return hash(tuple(str(value) for value in self.to_dict().values()))

    @property
    def one_hot(self) -> tuple[str, ...]:
        """Columns of a one-hot label, or an empty tuple if the label is one column."""
        return self.label if isinstance(self.label, tuple) else ()

    def to_dict(self) -> dict[str, Any]:
        """Dictionary of plain types, for YAML and JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JetSchema:
        """Schema from :meth:`to_dict`; missing fields have their defaults.

        Raises
        ------
        UnknownNameError
            If a field is unknown.
        InputError
            If ``p4`` is missing.
        """
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
                raise InputError(f"the name {name!r} of an extra column is reserved or given twice")
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
    if columns.keys() == {VECTOR}:
        return
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


def _indices(indices: Any) -> tuple[dict[str, str], ...]:
    """Pairs of columns ``jet`` and ``particle``, of which one can be given without a sequence."""
    if isinstance(indices, str) or not isinstance(indices, Iterable):
        raise InputError(f"index must map jet and particle to columns, got {indices!r}")
    pairs = [indices] if isinstance(indices, Mapping) and indices else list(indices)
    columns = tuple(_columns("index", pair) for pair in pairs)
    for pair in columns:
        if pair.keys() != {"jet", "particle"}:
            raise InputError(f"index needs jet and particle, got {', '.join(pair) or 'nothing'}")
    return columns


def _strip_common_prefix(names: tuple[str, ...]) -> tuple[str, ...]:
    """Remove the common prefix of names up to an underscore, such as ``label_``."""
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
