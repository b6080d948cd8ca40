"""Schema of a file of jets: the column of each quantity, the unit, the label and the storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.references import as_expression

__all__ = ["UNITS", "CollectionSchema", "JetSchema"]

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

#: Names of identifiers that `JetSchema.event` can contain.
IDENTIFIERS = ("run", "lumi", "event")

_TRANSFORMS = ("none", "log")
_DIRECTIONS = (("px", "py", "pz"), ("pt", "eta", "phi"), ("pt", "rapidity", "phi"))
_ENERGIES = ((), ("E",), ("mass",))
_POSITION = ("eta", "phi")

ClassValues = str | tuple[int | float | str, ...]


@dataclass(frozen=True)
class CollectionSchema:
    """Columns of a further collection of a jet, such as its secondary vertices.

    Parameters
    ----------
    p4 : dict of str to str
        Column of each quantity of the four-momenta, or one name for all, as in `JetSchema`; by
        default none.
    position : dict of str to str
        Columns of ``eta`` and ``phi`` in rad, for entries without a momentum; by default none.
    columns : dict of str to str
        Column in the file for each extra column.
    mask, offsets, counts : str, optional
        Storage, as in `JetSchema`.

    Raises
    ------
    UnknownNameError
        If a quantity is unknown.
    InputError
        If there are no columns, or the quantities do not define a four-momentum or a position.
    """

    p4: dict[str, str] = field(default_factory=dict)
    position: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    mask: str | None = None
    offsets: str | None = None
    counts: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.p4, str):
            object.__setattr__(self, "p4", {VECTOR: self.p4})
        for name in ("p4", "position", "columns"):
            object.__setattr__(self, name, _columns(name, getattr(self, name)))
        if self.p4:
            _check_momentum("p4", self.p4)
        if self.position and tuple(sorted(self.position)) != _POSITION:
            raise InputError(f"position needs eta and phi, got {', '.join(self.position)}")
        if self.p4 and self.position:
            raise InputError("a collection has p4 or position, not both")
        for name in self.columns:
            if name == "p4" or name in self.position:
                raise InputError(f"the name {name!r} of an extra column is reserved")
        if not (self.p4 or self.position or self.columns):
            raise InputError("a collection needs p4, position or columns")
        _check_storage(self)

    @property
    def values(self) -> dict[str, str]:
        """Columns of the position and the extra columns."""
        return {**self.position, **self.columns}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields of an entry: ``p4`` if there are momenta, and the columns."""
        return (*(["p4"] if self.p4 else []), *self.values)

    @classmethod
    def from_dict(cls, name: str, values: Any) -> CollectionSchema:
        """Collection from a mapping of its fields."""
        if isinstance(values, CollectionSchema):
            return values
        known = [f.name for f in fields(cls)]
        if not isinstance(values, Mapping):
            raise InputError(f"the collection {name!r} must map {', '.join(known)} to columns")
        for key in values:
            if key not in known:
                raise UnknownNameError("field", str(key), known, f"the collection {name!r}")
        try:
            return cls(**values)
        except UnknownNameError:
            raise
        except InputError as error:
            raise InputError(f"collection {name!r}: {error}") from error


@dataclass(frozen=True)
class JetSchema:
    """Columns of a file for each quantity, with the unit, the label and the storage of the jets.

    Columns have their names in the file. ``"X[0]"`` is index 0 along the last axis of the array
    ``X``. ``"E_{i}"`` stands for the columns ``E_0, E_1, ...`` of a flat table with one column
    per particle slot. ``"tracks/pt"`` is the field ``pt`` of an HDF5 compound data set or group, and
    ``"p4.E"`` that of a Parquet struct.

    Where a column may stand, an expression of columns may stand, such as ``"jet_eta + part_deta"``
    (:mod:`pcloud.expressions`). A text that is the name of a column in the file is that column.
    The operators ``/`` and ``-`` need spaces: ``"jets/pt"`` is a column, and
    ``"jets.pt / 1000"`` is an expression of it. In p4 and `particle`, a value per jet is repeated for
    its particles.

    For ragged columns (ROOT vectors, Parquet lists) this is sufficient. Arrays with one row per
    particle need `offsets` or `counts`. Padded arrays with one row per jet need `mask` or `counts`;
    without these, all slots are padding whose energy (or pt) is zero, or whose momenta are all NaN.

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
        Column of the class, a number or a word, or one one-hot column per class, in the order of the
        classes.
    classes : tuple of str, or dict
        Names of the classes in the order of the label, which are also the words of a label in
        words. A dictionary has the values of the label for each class, such as
        ``{"b": 5, "c": 4, "light": [0, 21]}``, or without `label` an expression for each, such as
        ``{"b": "abs(flavour) == 5"}``. Jets of no class are left out, with a warning.
    optional : tuple of str
        Names of extra columns, ``"label"``, ``"weight"``, ``"jet_p4"``, targets, labels of particles,
        kept columns or collections that can be missing in a file.
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
    weight : str, optional
        Column of the weight of each jet, which may be negative.
    targets : dict of str to str
        Column of each quantity per jet that a network can learn besides the class; NaN stands for a
        missing one. ``{"value": COLUMN, "transform": "log"}`` in the place of a column has the
        logarithm learned.
    transforms : dict of str to str
        Function of targets that is learned, ``"log"``, by name, as taken from `targets`.
    particle_labels : dict of str to str
        Column of each label per particle that a network can learn, such as the origin of a track or
        the number of its vertex; ``"sv.kind"`` is a label of the entries of the collection ``sv``.
        A negative number stands for no label. ``{"value": COLUMN, "classes": CLASSES}`` in the place
        of a column names the classes, in the order of the numbers or with their values, as in
        `classes`.
    particle_classes : dict of str to dict or tuple
        Classes of the labels of particles, by name, as taken from `particle_labels`.
    select : str, optional
        Expression with one value per jet; jets for which it is false are left out, with a warning.
    event : dict of str to str
        Columns of ``event`` (required) and of ``run`` and ``lumi``, whole numbers of any size. A
        text is the column of ``event``. Jets of one event stay in one split.
    keep : dict of str to str
        Columns per jet that are copied to the scores. A sequence of names gives columns the last
        part of their names, such as ``pt`` for ``jets/pt``, and may name columns of `jet`.
    fill : dict of str to number
        Value for missing entries (null, NaN, infinite) of each extra column, by its name in the
        schema; of a collection, ``"sv.mass"``.
    units : dict of str to str
        Unit of energy of single columns that are not in `unit`, by their names in the schema; of
        momenta ``"p4.pt"`` or ``"pt"``, ``"jet_p4.mass"``, ``"sv.p4.pt"``.
    collections : dict of str to CollectionSchema
        Further collections of each jet by name, such as ``{"sv": {"columns": {"mass": "sv_mass"}}}``.

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
    classes: tuple[str, ...] | dict[str, ClassValues] = ()
    optional: tuple[str, ...] = ()
    unit: str = "GeV"
    tree: str | None = None
    mask: str | None = None
    offsets: str | None = None
    counts: str | None = None
    index: tuple[dict[str, str], ...] = ()
    labels: str | None = None
    weight: str | None = None
    targets: dict[str, str] = field(default_factory=dict)
    transforms: dict[str, str] = field(default_factory=dict)
    particle_labels: dict[str, str] = field(default_factory=dict)
    particle_classes: dict[str, Any] = field(default_factory=dict)
    select: str | None = None
    event: dict[str, str] = field(default_factory=dict)
    keep: dict[str, str] = field(default_factory=dict)
    fill: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    collections: dict[str, CollectionSchema] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("p4", "jet_p4"):
            if isinstance(value := getattr(self, name), str):
                self._set(name, {VECTOR: value})
        self._set_targets()
        self._set_particle_labels()
        for name in ("p4", "particle", "jet", "jet_p4"):
            self._set(name, _columns(name, getattr(self, name)))
        self._set("event", _columns("event", _named("event", self.event)))
        self._set("keep", self._kept_columns(self.keep))
        self._set("collections", _collections(self.collections))
        self._set("optional", _names("optional", self.optional))
        self._set("index", _indices(self.index))
        for name in ("weight", "select"):
            value = getattr(self, name)
            self._set(name, None if value is None else _reference(name, value))
        _check_momentum("p4", self.p4)
        if self.jet_p4:
            _check_momentum("jet_p4", self.jet_p4)
        self._check_event()
        self._check_names()
        self._check_label()
        self._check_columns_of_fill_and_units()
        _check_storage(self)

    def __hash__(self) -> int:
        return hash(tuple(str(value) for value in self.to_dict().values()))

    @property
    def one_hot(self) -> tuple[str, ...]:
        """Columns of a one-hot label, or an empty tuple if the label is one column."""
        return self.label if isinstance(self.label, tuple) else ()

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the columns per jet that are copied to the scores."""
        return tuple(dict.fromkeys((*self.event, *self.keep)))

    def with_optional_truth(self) -> JetSchema:
        """Schema of files to score, which need not have label, weight, targets and other truth."""
        truth = ["label", *(["weight"] if self.weight else [])]
        truth += [*self.targets, *self.particle_labels]
        return replace(self, optional=tuple(dict.fromkeys((*self.optional, *truth))))

    def energy_unit(self, group: str, quantity: str) -> float:
        """Unit in GeV of a quantity of the momenta ``p4``, ``jet_p4`` or, for example, ``sv.p4``."""
        return UNITS[self.units.get(f"{group}.{quantity}", self.unit)]

    def to_dict(self) -> dict[str, Any]:
        """Dictionary of plain types, for YAML and JSON."""
        return {name: _plain(value) for name, value in asdict(self).items()}

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

    def _set_targets(self) -> None:
        """Separate the columns of the targets from their transformations."""
        columns, given = _with_option("targets", self.targets, "transform", "the target")
        transforms = {**_mapping("transforms", self.transforms), **given}
        for name, transform in transforms.items():
            if name not in columns:
                raise UnknownNameError("target to transform", str(name), columns)
            if transform not in _TRANSFORMS:
                raise UnknownNameError("transform", str(transform), _TRANSFORMS, f"target {name!r}")
        self._set("targets", _columns("targets", columns))
        self._set("transforms", {n: t for n, t in transforms.items() if t != "none"})

    def _set_particle_labels(self) -> None:
        """Separate the columns of the labels of particles from their classes."""
        columns, given = _with_option(
            "particle_labels", self.particle_labels, "classes", "the particle label"
        )
        classes = {**_mapping("particle_classes", self.particle_classes), **given}
        found: dict[str, Any] = {}
        for name, values in classes.items():
            if name not in columns:
                raise UnknownNameError("particle label with classes", str(name), columns)
            if isinstance(values, Mapping):
                found[name] = _class_values(values, "label")
                numbers = [v for value in found[name].values() for v in value]
                if not all(isinstance(v, int | float) for v in numbers):
                    raise InputError(f"classes of particle label {name!r} have numbers as values")
            else:
                found[name] = _names(f"the classes of {name!r}", values)
            if len(found[name]) < 2:
                raise InputError(f"particle label {name!r} needs at least two classes")
        for name in columns:
            collection = name.rpartition(".")[0]
            if collection and collection not in self.collections:
                raise UnknownNameError("collection", collection, self.collections, f"{name!r}")
        self._set("particle_labels", _columns("particle_labels", columns))
        self._set("particle_classes", found)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _kept_columns(self, keep: Any) -> dict[str, str]:
        """Columns to keep by name; those of a sequence are columns of the jets or of the file."""
        if isinstance(keep, Mapping):
            return _columns("keep", keep)
        kept: dict[str, str] = {}
        for reference in _names("keep", keep):
            name = reference if as_expression(reference) else reference.split("/")[-1]
            column = self.jet.get(reference, reference)
            if kept.setdefault(name, column) != column:
                raise InputError(
                    f"keep has two columns {name!r}, {kept[name]} and {column}: give them names, "
                    "such as keep={'jet_pt': 'jets/pt'}"
                )
        return kept

    def _check_event(self) -> None:
        for name in self.event:
            if name not in IDENTIFIERS:
                raise UnknownNameError("identifier", name, IDENTIFIERS)
        if self.event and "event" not in self.event:
            raise InputError(f"event needs the column of 'event', got {', '.join(self.event)}")

    def _check_names(self) -> None:
        taken = {"p4", "jet_p4", "label"}
        taken |= {"weight"} if self.weight else set()
        taken |= {"targets"} if self.targets else set()
        taken |= {"particle_labels"} if self.particle_labels else set()
        kept = [n for n, column in self.keep.items() if self.jet.get(n) != column]
        for name in (*self.particle, *self.jet, *self.event, *kept, *self.collections):
            if name in taken:
                raise InputError(f"the name {name!r} of an extra column is reserved or given twice")
            taken.add(name)
        for name in self.optional:
            if name not in taken | {*self.targets, *self.particle_labels}:
                raise UnknownNameError("optional column", name, taken - {"p4"})

    def _check_label(self) -> None:
        if self.label is not None and not isinstance(self.label, str):
            self._set("label", _names("label", self.label))
        if isinstance(self.classes, Mapping):
            self._set("classes", _class_values(self.classes, self.label))
            return
        self._set("classes", _names("classes", self.classes))
        if self.one_hot and not self.classes:
            self._set("classes", _strip_common_prefix(self.one_hot))
        if self.one_hot and len(self.one_hot) != len(self.classes):
            raise InputError(
                f"{len(self.one_hot)} one-hot label columns but {len(self.classes)} classes"
            )
        if len(set(self.classes)) < len(self.classes):
            raise InputError(f"class names must differ, got {', '.join(self.classes)}")

    def _check_columns_of_fill_and_units(self) -> None:
        columns = {*self.particle, *self.jet, *self.targets, *self.keep}
        columns |= {f"{n}.{c}" for n, part in self.collections.items() for c in part.values}
        groups = {"p4": self.p4, "jet_p4": self.jet_p4}
        groups |= {f"{name}.p4": part.p4 for name, part in self.collections.items()}
        momenta = {f"{group}.{q}" for group, part in groups.items() for q in part}
        self._set("fill", dict(_mapping("fill", self.fill)))
        units = _mapping("units", self.units)
        self._set("units", {f"p4.{n}" if n in self.p4 else n: unit for n, unit in units.items()})
        for name, value in self.fill.items():
            if name not in columns:
                raise UnknownNameError("column to fill", str(name), columns)
            if not isinstance(value, int | float):
                raise InputError(f"fill must be numbers, got {value!r} for {name!r}")
        for name in self.units:
            if name not in columns | momenta:
                raise UnknownNameError("column with a unit", str(name), columns | momenta)
        for unit in (self.unit, *self.units.values()):
            if unit not in UNITS:
                raise UnknownNameError("unit", str(unit), UNITS)


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


def _check_storage(schema: JetSchema | CollectionSchema) -> None:
    given = [name for name in ("mask", "offsets", "counts") if getattr(schema, name)]
    if len(given) > 1:
        raise InputError(f"a schema has only one of mask, offsets and counts, got {given}")


def _mapping(name: str, values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"{name} must map names of columns to values, got {values!r}")
    return values


def _with_option(
    field: str, values: Any, option: str, what: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns by name, and an option of those that are mappings of ``value`` and this option."""
    columns: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, given in _mapping(field, values).items():
        columns[name] = given
        if not isinstance(given, Mapping):
            continue
        for key in given:
            if key not in ("value", option):
                raise UnknownNameError("field", str(key), ("value", option), f"{what} {name!r}")
        columns[name] = given.get("value")
        if option in given:
            options[name] = given[option]
    return columns, options


def _named(name: str, columns: Any) -> Any:
    """Mapping of the columns; a text is the column of `name`."""
    return {name: columns} if isinstance(columns, str) else columns


def _columns(name: str, columns: Any) -> dict[str, str]:
    if not isinstance(columns, Mapping):
        raise InputError(f"{name} must map names to columns, got {columns!r}")
    for key, column in columns.items():
        if not isinstance(key, str) or not key:
            raise InputError(f"{name} must map names to columns, got {key!r}: {column!r}")
    return {key: _reference(f"{name}.{key}", column) for key, column in columns.items()}


def _reference(name: str, column: Any) -> str:
    """Name of a column or an expression, of which a number is one."""
    if isinstance(column, float) or not isinstance(column, str) or not column:
        if isinstance(column, float) and column == column:
            return repr(column)
        kind, _, key = name.partition(".")
        if not key:
            raise InputError(f"{name} must be a column or an expression, got {column!r}")
        raise InputError(f"{kind} must map names to columns, got {key!r}: {column!r}")
    as_expression(column)  # an error if it is neither a name nor an expression
    return column


def _collections(collections: Any) -> dict[str, CollectionSchema]:
    mapping = _mapping("collections", collections)
    return {name: CollectionSchema.from_dict(name, part) for name, part in mapping.items()}


def _class_values(classes: Mapping[str, Any], label: Any) -> dict[str, ClassValues]:
    """Values of the label for each class, or an expression for each if there is no label."""
    for name in classes:
        if not isinstance(name, str) or not name:
            raise InputError(f"classes must map names to values, got {name!r}: {classes[name]!r}")
    if label is None:
        for name, text in classes.items():
            if not isinstance(text, str) or not text:
                raise InputError(
                    f"class {name!r} has the value {text!r}: classes with values need the column "
                    "of the label, and classes without it have expressions"
                )
            as_expression(text)
        return dict(classes)
    if not isinstance(label, str):
        raise InputError(
            "classes with values need a label of one column; one-hot columns are the classes in "
            "their order, and expressions of them can be classes without a label"
        )
    values: dict[str, ClassValues] = {}
    owner: dict[Any, str] = {}
    for name, given in classes.items():
        several = given if isinstance(given, list | tuple) else (given,)
        for value in several:
            if not isinstance(value, int | float | str):
                raise InputError(f"class {name!r} has the value {value!r}, not a number or a word")
            if owner.setdefault(value, name) != name:
                raise InputError(f"the value {value!r} is in the classes {owner[value]} and {name}")
        values[name] = tuple(several)
    return values


def _names(name: str, names: Any) -> tuple[str, ...]:
    is_sequence = isinstance(names, Iterable) and not isinstance(names, str)
    found = tuple(names) if is_sequence else ()
    if not is_sequence or not all(isinstance(n, str) for n in found):
        raise InputError(f"{name} must be a sequence of names, got {names!r}")
    return found


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


def _plain(value: Any) -> Any:
    """Value of plain types: tuples become lists."""
    if isinstance(value, tuple | list):
        return list(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _strip_common_prefix(names: tuple[str, ...]) -> tuple[str, ...]:
    """Remove the common prefix of names up to an underscore, such as ``label_``."""
    parts = [name.split("_") for name in names]
    while min(map(len, parts)) > 1 and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    return tuple("_".join(part) for part in parts)
