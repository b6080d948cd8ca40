"""Two representations of jets: flat numpy columns with offsets, and awkward records for users."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import awkward as ak
import numpy as np
import vector

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.growing import GrowingColumn, GrowingColumns
from pcloud.storage import MEMORY, Storage

__all__ = [
    "JET_MOMENTUM",
    "LABELS",
    "MOMENTUM",
    "TARGETS",
    "FlatCollection",
    "FlatJets",
    "GrowingJets",
    "as_offsets",
    "collection_names",
    "column_names",
    "momenta",
    "offsets",
]

#: Components of a four-momentum, in the order used everywhere in this package.
MOMENTUM = ("E", "px", "py", "pz")

#: Columns of the stored four-momentum of a jet; in awkward jets the record ``jet_p4``.
JET_MOMENTUM = tuple(f"jet_p4_{name}" for name in MOMENTUM)

#: Prefix of the columns of targets; in awkward jets the record ``targets``.
TARGETS = "targets."

#: Prefix of the columns of labels of particles; in awkward jets the record ``particle_labels``, whose
#: fields ``origin`` and ``sv.kind`` are lists of the lengths of the particles and of ``jets.sv``.
LABELS = "particle_labels."

_LABELS = "particle_labels"

vector.register_awkward()


def as_offsets(counts: np.ndarray) -> np.ndarray:
    """Offsets (B + 1,) of consecutive jets, int64, from their numbers of particles (B,)."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


@dataclass
class FlatCollection:
    """Further collection of all jets, such as their secondary vertices, as flat columns.

    Parameters
    ----------
    offsets : array, shape (B + 1,), int64
        Offsets: jet ``i`` has the entries ``offsets[i]:offsets[i + 1]``. The first is 0.
    p4 : tuple of arrays, each of shape (M,), optional
        Components E, px, py, pz in GeV; None if the entries have no momenta.
    columns : dict of str to array, shape (M,)
        Extra columns, and ``eta`` and ``phi`` of entries that have a position.
    """

    offsets: np.ndarray
    p4: tuple[np.ndarray, ...] | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    def slice(self, start: int, stop: int) -> FlatCollection:
        """Entries of the jets `start` to `stop`, without a copy."""
        offsets = self.offsets[start : stop + 1]
        rows = slice(offsets[0], offsets[-1])
        return self._map(offsets - offsets[0], lambda values: values[rows])

    def select(self, keep: np.ndarray) -> FlatCollection:
        """Entries of the jets for which the boolean array ``keep (B,)`` is True."""
        counts = np.diff(self.offsets)
        rows = np.repeat(keep, counts)
        return self._map(as_offsets(counts[keep]), lambda values: values[rows])

    def _map(
        self, offsets: np.ndarray, function: Callable[[np.ndarray], np.ndarray]
    ) -> FlatCollection:
        p4 = None if self.p4 is None else tuple(function(component) for component in self.p4)
        return FlatCollection(offsets, p4, {n: function(v) for n, v in self.columns.items()})

    def values(self) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        """Kind, ``"p4"`` or ``"columns"``, and name of each array, and the array."""
        yield from ((("p4", name), c) for name, c in zip(MOMENTUM, self.p4 or (), strict=False))
        yield from ((("columns", name), values) for name, values in self.columns.items())

    def labels(self) -> dict[str, ak.contents.Content]:
        """Lists of the labels of the entries by name."""
        index = ak.index.Index64(self.offsets)
        return {
            name.removeprefix(LABELS): ak.contents.ListOffsetArray(
                index, ak.contents.NumpyArray(values)
            )
            for name, values in self.columns.items()
            if name.startswith(LABELS)
        }

    def to_content(self) -> ak.contents.Content:
        """Lists of records with ``p4`` and the columns."""
        columns: dict[str, ak.contents.Content] = {}
        if self.p4 is not None:
            columns["p4"] = _momentum_record(self.p4)
        columns |= {
            name: ak.contents.NumpyArray(values)
            for name, values in self.columns.items()
            if not name.startswith(LABELS)
        }
        records = ak.contents.RecordArray(
            list(columns.values()), list(columns), length=int(self.offsets[-1])
        )
        return ak.contents.ListOffsetArray(ak.index.Index64(self.offsets), records)

    @classmethod
    def from_awkward(cls, collection: ak.Array, name: str) -> FlatCollection:
        """Flat columns from lists of records.

        Raises
        ------
        InputError
            If a column is not one number per entry.
        """
        bounds = as_offsets(ak.to_numpy(ak.num(collection, axis=1)))
        flat = cls(bounds)
        for column in collection.fields:
            values = collection[column]
            if column == "p4":
                flat.p4 = _components(values, f"{name}.p4", bounds)
            else:
                flat.columns[column] = _flat(values, f"{name}.{column}", bounds)
        return flat


@dataclass
class FlatJets:
    """Jets as flat columns, which readers create and writers take.

    Parameters
    ----------
    offsets : array, shape (B + 1,), int64
        Offsets: jet ``i`` consists of the particles ``offsets[i]:offsets[i + 1]``. The first is 0.
    p4 : tuple of arrays, each of shape (N,)
        Components E, px, py, pz in GeV, all float32 or all float64.
    particle : dict of str to array, shape (N,)
        Extra columns per particle.
    jet : dict of str to array, shape (B,)
        Extra columns per jet; ``label`` (int64), ``weight`` (float64) and ``targets.NAME`` if they
        are known; and the columns `JET_MOMENTUM` in GeV if the momentum of the jet is stored.
    collections : dict of str to FlatCollection
        Further collections of the jets.
    """

    offsets: np.ndarray
    p4: tuple[np.ndarray, ...]
    particle: dict[str, np.ndarray] = field(default_factory=dict)
    jet: dict[str, np.ndarray] = field(default_factory=dict)
    collections: dict[str, FlatCollection] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> np.ndarray:
        """Number of particles of each jet."""
        return np.diff(self.offsets)

    def slice(self, start: int, stop: int) -> FlatJets:
        """Jets `start` to `stop`, without a copy."""
        offsets = self.offsets[start : stop + 1]
        first = offsets[0]
        last = offsets[-1]
        return self._map(
            offsets - first,
            lambda values: values[first:last],
            lambda values: values[start:stop],
            lambda collection: collection.slice(start, stop),
        )

    def select(self, keep: np.ndarray) -> FlatJets:
        """Jets for which the boolean array ``keep (B,)`` is True."""
        particles = np.repeat(keep, self.counts)
        return self._map(
            as_offsets(self.counts[keep]),
            lambda values: values[particles],
            lambda values: values[keep],
            lambda collection: collection.select(keep),
        )

    def _map(
        self,
        offsets: np.ndarray,
        particle: Callable[[np.ndarray], np.ndarray],
        jet: Callable[[np.ndarray], np.ndarray],
        collection: Callable[[FlatCollection], FlatCollection],
    ) -> FlatJets:
        return FlatJets(
            offsets,
            tuple(particle(component) for component in self.p4),
            {name: particle(values) for name, values in self.particle.items()},
            {name: jet(values) for name, values in self.jet.items()},
            {name: collection(entries) for name, entries in self.collections.items()},
        )

    @staticmethod
    def concatenate(parts: Iterable[FlatJets], num_jets: int = 0) -> FlatJets:
        """Concatenate jets with the same columns.

        If `parts` is an iterator, each part is copied and released before the next one is created,
        so that its memory can be used again. The arrays are writeable, as torch requires.

        Parameters
        ----------
        parts : iterable of FlatJets
            At least one part.
        num_jets : int
            Approximate number of jets, for which memory is reserved.

        Returns
        -------
        FlatJets
            Copy of all jets.

        Raises
        ------
        InputError
            If whole numbers of a column would lose digits.
        """
        jets = GrowingJets(num_jets)
        for part in parts:
            jets.append(part)
        return jets.finish()

    @property
    def nbytes(self) -> int:
        """Memory of all columns in bytes."""
        size = self.offsets.nbytes + sum(values.nbytes for _, values in self._columns())
        for entries in self.collections.values():
            size += entries.offsets.nbytes + sum(values.nbytes for _, values in entries.values())
        return size

    def _columns(self) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        yield from ((("p4", name), c) for name, c in zip(MOMENTUM, self.p4, strict=True))
        yield from ((("particle", name), values) for name, values in self.particle.items())
        yield from ((("jet", name), values) for name, values in self.jet.items())

    def to_awkward(self, classes: Sequence[str] = ()) -> ak.Array:
        """Records with ``p4``, the extra columns, ``label``, and ``jet_p4`` if it is stored.

        The names of the classes are in ``attrs["classes"]``.
        """
        index = ak.index.Index64(self.offsets)

        def ragged(content: ak.contents.Content) -> ak.contents.Content:
            return ak.contents.ListOffsetArray(index, content)

        columns = {"p4": ragged(_momentum_record(self.p4))}
        labels: dict[str, ak.contents.Content] = {}
        for name, values in self.particle.items():
            part = labels if name.startswith(LABELS) else columns
            part[name.removeprefix(LABELS)] = ragged(ak.contents.NumpyArray(values))
        if all(name in self.jet for name in JET_MOMENTUM):
            columns["jet_p4"] = _momentum_record([self.jet[name] for name in JET_MOMENTUM])
        targets: dict[str, ak.contents.Content] = {}
        for name, values in self.jet.items():
            if name.startswith(TARGETS):
                targets[name.removeprefix(TARGETS)] = ak.contents.NumpyArray(values)
            elif "jet_p4" not in columns or name not in JET_MOMENTUM:
                columns[name] = ak.contents.NumpyArray(values)
        if targets:
            columns["targets"] = ak.contents.RecordArray(list(targets.values()), list(targets))
        columns |= {name: entries.to_content() for name, entries in self.collections.items()}
        for collection, entries in self.collections.items():
            labels |= {f"{collection}.{name}": part for name, part in entries.labels().items()}
        if labels:
            columns[_LABELS] = ak.contents.RecordArray(list(labels.values()), list(labels))
        layout = ak.contents.RecordArray(list(columns.values()), list(columns), length=len(self))
        return ak.Array(layout, attrs={"classes": list(classes)} if classes else None)

    @classmethod
    def from_awkward(cls, jets: ak.Array) -> FlatJets:
        """Flat columns from awkward records.

        Raises
        ------
        UnknownNameError
            If there is no ``p4``, or if one of its components is missing.
        InputError
            If a column is neither one number per jet nor one number per particle.
        """
        if "p4" not in jets.fields:
            raise UnknownNameError("field", "p4", jets.fields, where="the jets")
        bounds = offsets(jets)
        flat = cls(bounds, _components(jets.p4, "p4", bounds))
        for name in jets.fields:
            if name == "p4":
                continue
            if name == "jet_p4":
                flat.jet |= _jet_momentum(jets.jet_p4)
            elif name == "targets" and jets[name].fields:
                flat.jet |= {
                    f"{TARGETS}{n}": _numbers(jets.targets[n], n) for n in jets.targets.fields
                }
            elif name == _LABELS:
                continue
            elif jets[name].fields and jets[name].ndim == 2:
                flat.collections[name] = FlatCollection.from_awkward(jets[name], name)
            elif jets[name].ndim == 1:
                flat.jet[name] = _numbers(jets[name], name)
            else:
                flat.particle[name] = _flat(jets[name], name, bounds)
        for name in jets[_LABELS].fields if _LABELS in jets.fields else ():
            collection, _, label = name.rpartition(".")
            if collection and collection not in flat.collections:
                raise UnknownNameError(
                    "collection", collection, flat.collections, f"label {name!r}"
                )
            own = flat.collections[collection].offsets if collection else bounds
            _check_lengths(jets[_LABELS, name], name, own)
            part = flat.collections[collection].columns if collection else flat.particle
            part[f"{LABELS}{label}"] = _flat(jets[_LABELS, name], f"{LABELS}{name}", own)
        return flat


def _components(p4: ak.Array, name: str, bounds: np.ndarray) -> tuple[np.ndarray, ...]:
    """Components (N,) of ragged momenta, all float32 or all float64."""
    for component in MOMENTUM:
        if component not in p4.fields:
            raise UnknownNameError("component", component, p4.fields, where=f"jets.{name}")
    columns = [_flat(p4[component], component, bounds) for component in MOMENTUM]
    dtype = np.result_type(np.float32, *(c.dtype for c in columns if c.dtype == np.float64))
    return tuple(column.astype(dtype, copy=False) for column in columns)


def _momentum_record(components: Sequence[np.ndarray]) -> ak.contents.RecordArray:
    contents = [ak.contents.NumpyArray(component) for component in components]
    return ak.contents.RecordArray(
        contents, list(MOMENTUM), parameters={"__record__": "Momentum4D"}
    )


def _jet_momentum(jet_p4: ak.Array) -> dict[str, np.ndarray]:
    for name in MOMENTUM:
        if name not in jet_p4.fields:
            raise UnknownNameError("component", name, jet_p4.fields, where="jets.jet_p4")
    columns = zip(JET_MOMENTUM, MOMENTUM, strict=True)
    return {column: _numbers(jet_p4[name], f"jet_p4.{name}") for column, name in columns}


def collection_names(jets: ak.Array) -> list[str]:
    """Names of the further collections of jets: lists of records."""
    return [
        name
        for name in jets.fields
        if name not in ("p4", _LABELS) and jets[name].ndim == 2 and jets[name].fields
    ]


def column_names(jets: ak.Array) -> list[str]:
    """Names of the columns of jets; those of collections as ``sv.p4`` and ``sv.mass``."""
    further = [
        f"{name}.{column}" for name in collection_names(jets) for column in jets[name].fields
    ]
    return [*jets.fields, *further]


class GrowingJets:
    """Jets to which others with the same columns can be appended.

    Parameters
    ----------
    num_jets : int
        Approximate number of jets, for which memory is reserved.
    storage : Storage
        Place of the columns.
    """

    def __init__(self, num_jets: int = 0, storage: Storage = MEMORY) -> None:
        self._num_jets = num_jets
        self._storage = storage
        self._counts = GrowingColumn("counts")
        self._columns = GrowingColumns("", storage)
        self._collections: dict[str, tuple[GrowingColumn, GrowingColumns]] = {}

    def __len__(self) -> int:
        return len(self._counts.values)

    def append(self, jets: FlatJets) -> None:
        """Append a copy of `jets`."""
        num_jets = self._num_jets
        self._counts.append(jets.counts, num_jets)
        rooms = {"jet": num_jets}
        self._columns.append(jets._columns(), rooms, self._room(jets.offsets))
        for name, entries in jets.collections.items():
            counts, columns = self._collections.setdefault(
                name, (GrowingColumn(name), GrowingColumns(f"{name}.", self._storage))
            )
            counts.append(np.diff(entries.offsets), num_jets)
            columns.append(entries.values(), {}, self._room(entries.offsets))

    def _room(self, offsets: np.ndarray) -> int:
        """Expected number of particles of all jets, from those of some jets."""
        return int(offsets[-1] / max(1, len(offsets) - 1) * self._num_jets * 1.05)

    def finish(self) -> FlatJets:
        """All jets, in writeable arrays; nothing can be appended afterwards."""
        columns = self._columns
        jets = FlatJets(
            as_offsets(self._counts.values),
            tuple(columns.of("p4").values()),
            columns.of("particle"),
            columns.of("jet"),
        )
        for name, (counts, entries) in self._collections.items():
            p4 = tuple(entries.of("p4").values()) or None
            offsets = as_offsets(counts.values)
            jets.collections[name] = FlatCollection(offsets, p4, entries.of("columns"))
        return jets


def _check_lengths(labels: ak.Array, name: str, bounds: np.ndarray) -> None:
    """Check that labels of particles have their numbers."""
    counts = ak.to_numpy(ak.num(labels, axis=1)) if labels.ndim == 2 else None
    expected = np.diff(bounds)
    if counts is None:
        raise InputError(f"particle label {name!r} must be one list per jet, and is {labels.type}")
    wrong = np.flatnonzero(counts != expected)
    if len(wrong):
        first = wrong[0]
        raise InputError(
            f"particle label {name!r} does not match the number of particles in {len(wrong):,} of "
            f"{len(counts):,} jets: jet {first} has {expected[first]}, and {counts[first]} labels"
        )


def _flat(column: ak.Array, name: str, bounds: np.ndarray) -> np.ndarray:
    """Numbers (N,) of a ragged column; an error if its lengths differ from those of the jets."""
    if column.ndim != 2:
        raise InputError(f"column {name!r} has {column.ndim} dimensions; jets have 1 or 2")
    if not np.array_equal(ak.to_numpy(ak.num(column, axis=1)), np.diff(bounds)):
        raise InputError(f"column {name!r} and p4 have different numbers of particles")
    return _numbers(ak.flatten(column, axis=1), name)


def _numbers(column: ak.Array, name: str) -> np.ndarray:
    try:
        values = ak.to_numpy(column, allow_missing=False)
    except ValueError as error:
        raise InputError(f"column {name!r} has missing or irregular values") from error
    if values.dtype.kind not in "biuf":
        raise InputError(f"column {name!r} must be numbers, got {values.dtype}")
    return values


def offsets(jets: ak.Array) -> np.ndarray:
    """Offsets of the particles of jets.

    Parameters
    ----------
    jets : awkward.Array
        Jets with ragged ``p4``.

    Returns
    -------
    array, shape (B + 1,), int64
        Offsets: jet ``i`` consists of the rows ``offsets[i]:offsets[i + 1]`` of `momenta`.

    Examples
    --------
    >>> len(offsets(pcloud.load_dataset("simulated", "test")[:3]))
    4
    """
    return as_offsets(ak.to_numpy(ak.num(jets.p4, axis=1)))


def momenta(jets: ak.Array) -> np.ndarray:
    """Four-momenta of the particles of all jets.

    Parameters
    ----------
    jets : awkward.Array
        Jets with ragged ``p4``.

    Returns
    -------
    array, shape (N, 4)
        Four-momenta ``(E, px, py, pz)`` in GeV, with the precision of the jets.

    Examples
    --------
    >>> momenta(pcloud.load_dataset("simulated", "test")[:3]).shape[-1]
    4
    """
    flat = ak.flatten(jets.p4, axis=1)
    return np.stack([ak.to_numpy(flat[name]) for name in MOMENTUM], axis=-1)
