"""Reader of jets from an open file by a schema."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from pcloud.errors import InputError
from pcloud.io.check import describe, find_bad_jets, find_doubts
from pcloud.io.collections import CollectionReader
from pcloud.io.jets import JET_MOMENTUM, LABELS, TARGETS, FlatJets
from pcloud.io.labels import NO_CLASS, ClassOfFile, make_label
from pcloud.io.layouts import choose_layout
from pcloud.io.momentum import momenta_in_gev, scale
from pcloud.io.particle_labels import particle_label
from pcloud.io.quantities import (
    Quantity,
    Rows,
    find_quantity,
    locate_quantity,
    without_missing,
)
from pcloud.io.schema import GEV_EXTRAS, UNITS, JetSchema
from pcloud.io.selection import Selection
from pcloud.io.source_columns import SourceColumn, find, read, to_native
from pcloud.io.table import Ragged, Table
from pcloud.keys import SPLIT_KEY, event_keys
from pcloud.particle_types import decode_remapped

__all__ = ["ENTRY", "INDEX", "REASON", "JetReader"]

ENTRY = "entry"
"""Column of the row of each jet, or of its event, in its file."""

INDEX = "index"
"""Column of the number of each jet in its event."""

REASON = "reason"
"""Column of the reason why a jet is left out."""

_NOT_SELECTED = "not selected"
_NO_CLASS = "in no class"

_T = TypeVar("_T")


@dataclass
class _Piece:
    """Jets of a range of rows.

    Attributes
    ----------
    jets : FlatJets
        Good jets.
    bad : dict of str to array
        Rows in the file of the bad jets for each reason.
    selection : Selection
        Numbers of the jets that the schema takes and leaves out.
    left_out : dict of str to array, each of shape (L,)
        Rows, kept columns and reasons of all jets that are not among the good ones.
    """

    jets: FlatJets
    bad: dict[str, np.ndarray]
    selection: Selection
    left_out: dict[str, np.ndarray]


class JetReader:
    """Reader of the jets of one open file.

    Parameters
    ----------
    table : Table
        File.
    schema : JetSchema
        Schema of the file, which can lack only the optional columns.
    columns : collection of str, optional
        Names of the extra columns to read; by default all. The others are not looked at. NaN and
        infinity are errors in the columns that are named here.
    class_of_file : ClassOfFile, optional
        Class of all jets of the file, in the place of a label.
    entries : bool
        If True, jets have the row of the file to which they belong as ``entry``, and if this is an
        event, their number in it as ``index``.
    needs_truth : bool
        If False, jets of no class are read, too, with the label -1.

    Attributes
    ----------
    available : list of str
        Names of all columns in the file, read or not: ``p4``, extra columns, ``jet_p4``, ``label``.
    classes : tuple of str
        Names of the classes from the schema, else from the file.
    names : tuple of two sets of str
        Names of the columns per particle and per jet.
    has_keys : bool
        True if the file has the keys of the jets, ``split_key``, which is not among the names, or
        event numbers, from which they follow.
    num_jets : int
        Number of jets, including bad ones.
    selection : Selection
        Numbers of the jets that were read, and left out because the schema says so.
    left_out : dict of str to array, each of shape (L,)
        Rows, kept columns and reasons (``"reason"``) of the jets of the last piece that were left
        out; empty without `entries`.
    doubts : list of str
        Sentences about suspicious values among the first jets that were read.

    Raises
    ------
    UnknownNameError
        If a column is missing; the message suggests the most similar name.
    InputError
        If the shapes of the columns do not agree.
    """

    def __init__(
        self,
        table: Table,
        schema: JetSchema,
        columns: Collection[str] | None = None,
        class_of_file: ClassOfFile | None = None,
        entries: bool = False,
        needs_truth: bool = True,
    ) -> None:
        self.table = table
        self.schema = schema
        self.selection = Selection()
        self.doubts: list[str] = []
        self._first_row = 0  # of the jets that are inspected
        self._columns = columns
        self._entries = entries
        self._needs_truth = needs_truth
        self.left_out: dict[str, np.ndarray] = {}
        self._p4 = {name: locate_quantity(table, text) for name, text in schema.p4.items()}
        self._particle = self._present(schema.particle) | self._labels_of_particles()
        self._jet = self._present(schema.jet) | self._always_read()
        self._jet_p4 = self._locate_jet_momentum()
        self._label = make_label(table, schema, class_of_file)
        self._select = locate_quantity(table, schema.select) if schema.select else None
        self._arrange()
        self.num_jets = self._layout.num_jets
        self._collections = {
            name: CollectionReader(table, schema, name, columns, self.num_jets)
            for name, part in schema.collections.items()
            if CollectionReader.is_wanted(name, columns)
            and (name not in schema.optional or CollectionReader.is_in(table, part))
        }
        self.classes = self._label.classes if self._label else tuple(schema.classes)
        self.classes = self.classes or table.classes
        self.has_keys = SPLIT_KEY in self._jet or bool(schema.event)
        self.available = ["p4", *self._names_in_file(), *self._optional()]
        self.names = (
            {*self._particle, *(n for part in self._collections.values() for n in part.names)},
            {*self._jet, *self._optional()} - {SPLIT_KEY},
        )

    def close(self) -> None:
        """Close the file."""
        self.table.close()

    def pieces(
        self, start: int, stop: int, on_bad_jet: str
    ) -> Iterator[tuple[FlatJets, dict[str, np.ndarray]]]:
        """Read the jets `start` to `stop` in pieces.

        Parameters
        ----------
        start, stop : int
            Range of jets.
        on_bad_jet : str
            Treatment of bad jets, ``"error"`` or ``"drop"``.

        Yields
        ------
        jets : FlatJets
            Good jets.
        bad : dict of str to array
            Indices in the file of the bad jets for each reason.

        Raises
        ------
        InputError
            If there are bad jets and `on_bad_jet` is ``"error"``, or the file is damaged.
        """
        ranges = self._layout.ranges(self._per_jet, start, stop)
        self._first_row = start
        for piece in _in_order(self.table.threads, self._load_good, ranges):
            if piece.bad and on_bad_jet == "error":
                raise InputError(
                    f"{self.table.path}: bad jets: {describe(piece.bad)}; {self._remedy(piece.bad)}"
                )
            self.selection.add(piece.selection)
            self.left_out = piece.left_out
            yield piece.jets, piece.bad
            del piece  # before the next one is decoded

    def empty(self) -> FlatJets:
        """Zero jets with the columns of the file."""
        return self._load_good(0, 0).jets

    def _load_good(self, start: int, stop: int) -> _Piece:
        """Selected jets without the bad ones, the bad ones, and those left out."""
        rows, columns = self._read(start, stop)
        jets, momentum = self._load(rows)
        for name, part in self._collections.items():
            jets.collections[name] = part.assemble(columns, start, stop)
        if self._entries:
            jets.jet[ENTRY] = self.table.entries(start, stop)
        taken = self._selected(rows)
        reasons = {_NOT_SELECTED: np.flatnonzero(~taken)}
        selection = Selection(len(jets), len(reasons[_NOT_SELECTED]))
        label = self._label.read(rows) if self._label else None
        if self._label and label is not None and self._needs_truth:
            selection.classes = self._label.count(rows, label, taken)
            reasons[_NO_CLASS] = np.flatnonzero(taken & (label == NO_CLASS))
            taken &= label != NO_CLASS
            jets.jet["label"] = label
        if len(jets) and start == self._first_row:
            self.doubts = find_doubts(jets, momentum, self._references)
        number = len(self.classes)
        bad = find_bad_jets(jets, self._references, number, momentum, self._columns or ())
        bad = {reason: found for reason, index in bad.items() if len(found := index[taken[index]])}
        for index in bad.values():
            taken[index] = False
        if label is not None and not self._needs_truth:
            jets.jet["label"] = _known_labels(label, number)
        left_out = self._rows_of(jets, ~taken, reasons | bad) if self._entries else {}
        jets = jets if taken.all() else jets.select(taken)
        self._convert_types(jets)
        bad = {reason: start + index for reason, index in bad.items()}
        return _Piece(jets, bad, selection, left_out)

    def _rows_of(
        self, jets: FlatJets, out: np.ndarray, reasons: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Rows, kept columns and reasons of the jets that are left out, of several reasons the last."""
        codes = np.zeros(len(jets), dtype=np.intp)
        for code, index in enumerate(reasons.values()):
            codes[index] = code
        names = [n for n in (ENTRY, INDEX, *self.schema.kept) if n in jets.jet]
        columns = {name: jets.jet[name][out] for name in names}
        return {**columns, REASON: np.array([*reasons])[codes[out]]}

    def _read(self, start: int, stop: int) -> tuple[Rows, dict[SourceColumn, np.ndarray | Ragged]]:
        """Columns of the jets `start` to `stop`."""
        table = self.table
        collections = [c for part in self._collections.values() for c in part.columns]
        places = dict.fromkeys([*self._layout.columns, *self._per_jet, *self._lists, *collections])
        columns = read(table, places, start, stop)
        jet = {place: to_native(table, place, columns[place]) for place in self._per_jet}
        lists = {place: _to_lists(table, place, columns[place]) for place in self._lists}
        offsets, particle = self._layout.assemble(columns, start, stop)
        return Rows(str(table.path), offsets, particle, jet, lists), columns

    def _load(self, rows: Rows) -> tuple[FlatJets, dict[str, np.ndarray]]:
        """Jets with the columns of the schema, and the quantities of their momenta in the file."""
        momentum = {
            name: without_missing(rows.of_particles(q), q.reference) for name, q in self._p4.items()
        }
        p4 = momenta_in_gev(self.schema, "p4", momentum)
        particle = {
            name: self._in_gev(name, self._filled(name, rows.of_particles(q)))
            for name, q in self._particle.items()
        }
        jet = {
            name: self._in_gev(name, self._filled(name, rows.of_jets(q)))
            for name, q in self._jet.items()
        }
        if self._jet_p4:
            stored = {name: rows.of_jets(q) for name, q in self._jet_p4.items()}
            components = momenta_in_gev(self.schema, "jet_p4", stored)
            jet |= dict(zip(JET_MOMENTUM, components, strict=True))
        return FlatJets(rows.offsets, p4, particle, jet), momentum

    def _filled(self, name: str, values: np.ndarray) -> np.ndarray:
        name = name.removeprefix(TARGETS)
        return without_missing(values, name, self.schema.fill.get(name))

    def _in_gev(self, name: str, values: np.ndarray) -> np.ndarray:
        default = self.schema.unit if name in GEV_EXTRAS else "GeV"
        unit = UNITS[self.schema.units.get(name.removeprefix(TARGETS), default)]
        return values if unit == 1.0 else scale(values, unit)

    def _selected(self, rows: Rows) -> np.ndarray:
        """Mask (B,) of the jets for which the selection is true."""
        if self._select is None:
            return np.ones(len(rows.offsets) - 1, dtype=bool)
        values = without_missing(rows.of_jets(self._select), "select")
        return (values != 0) & (values == values)  # NaN is not true

    def _convert_types(self, jets: FlatJets) -> None:
        """Convert columns of the jets to the types that they always have."""
        for name in jets.jet:
            if name == "label":
                jets.jet[name] = jets.jet[name].astype(np.int64, copy=False)
            elif (name == "weight" and self.schema.weight) or name.startswith(TARGETS):
                jets.jet[name] = jets.jet[name].astype(np.float64, copy=False)
            elif name in self.schema.event:
                jets.jet[name] = self._whole(name, jets.jet[name])
        self._whole_labels(jets)
        if "pid" in jets.particle:
            pid = decode_remapped(jets.particle["pid"])
            finite = pid.dtype.kind != "f" or np.isfinite(pid).all()
            jets.particle["pid"] = pid.astype(np.int32, copy=False) if finite else pid
        stored = jets.jet.pop(SPLIT_KEY, None)  # the keys are the last column
        if self.schema.event:
            jets.jet[SPLIT_KEY] = event_keys(jets.jet["event"], jets.jet.get("run"))
        elif stored is not None:
            jets.jet[SPLIT_KEY] = self._whole(SPLIT_KEY, stored).astype(np.uint64, copy=False)

    def _whole(self, name: str, values: np.ndarray) -> np.ndarray:
        """Values that must be whole numbers."""
        if values.dtype.kind not in "iu":
            reference = self._jet[name].reference
            what = "keys of jets" if name == SPLIT_KEY else "numbers of events"
            raise InputError(
                f"{self.table.path}: {self.table.noun} {reference!r} holds {what} and must be "
                f"whole numbers, got {values.dtype}"
            )
        return values

    def _remedy(self, bad: Mapping[str, np.ndarray]) -> str:
        """Advice for bad jets."""
        drop = "on_bad_jet='drop' (--on-bad-jet drop) omits such jets"
        names = [
            name
            for name in (*self._particle, *self._jet)
            if any(f"infinity in {self._references.get(name, name)}" in reason for reason in bad)
        ]
        names += [
            name
            for part in self._collections.values()
            for name in part.names
            if any(reason == f"NaN or infinity in {name}" for reason in bad)
        ]
        named = {
            name: 0
            for name in names
            if name not in ("weight", SPLIT_KEY) and not name.startswith(TARGETS)
        }
        return f"fill={named} in the schema replaces the values, {drop}" if named else drop

    @property
    def label_reference(self) -> str:
        """Columns of the label, for messages."""
        return self._label.reference if self._label else "label"

    @cached_property
    def _references(self) -> dict[str, str]:
        """Column in the file of each name, for messages."""
        quantities = {**self._p4, **self._particle, **self._jet}
        references = {name: quantity.reference for name, quantity in quantities.items()}
        references["label"] = self.label_reference
        jet_columns = "/".join(quantity.reference for quantity in self._jet_p4.values())
        return references | dict.fromkeys(JET_MOMENTUM, jet_columns or "jet_p4")

    def _is_present(self, name: str, reference: str) -> bool:
        return name not in self.schema.optional or find_quantity(self.table, reference) is not None

    def _present(self, columns: Mapping[str, str]) -> dict[str, Quantity]:
        """Extra columns that are read."""
        names = None if self._columns is None else {*self._columns, *JET_MOMENTUM, SPLIT_KEY}
        return {
            name: locate_quantity(self.table, column)
            for name, column in columns.items()
            if (names is None or name in names) and self._is_present(name, column)
        }

    def _always_read(self) -> dict[str, Quantity]:
        """Columns per jet that are read whatever the extra columns are."""
        schema = self.schema
        weight = {"weight": schema.weight} if schema.weight else {}
        columns = {**weight, **schema.event, **schema.keep}
        is_event = type(self.table).entries is not Table.entries
        if self._entries and is_event and INDEX in self.table.columns:
            columns.setdefault(INDEX, INDEX)
        found = {
            name: locate_quantity(self.table, column)
            for name, column in columns.items()
            if self._is_present(name, column)
        }
        found |= {
            f"{TARGETS}{name}": locate_quantity(self.table, column)
            for name, column in schema.targets.items()
            if self._is_present(name, column)
        }
        is_stored = SPLIT_KEY not in schema.jet and not schema.event
        if is_stored and (stored := find(self.table, SPLIT_KEY)):
            found[SPLIT_KEY] = Quantity(SPLIT_KEY, {SPLIT_KEY: stored})
        return found

    def _labels_of_particles(self) -> dict[str, Quantity]:
        """Labels of the particles of the main collection, which are always read."""
        return {
            f"{LABELS}{name}": locate_quantity(self.table, column)
            for name, column in self.schema.particle_labels.items()
            if "." not in name and self._is_present(name, column)
        }

    def _whole_labels(self, jets: FlatJets) -> None:
        """Convert labels of particles to whole numbers."""
        parts = {"": jets.particle} | {f"{n}.": c.columns for n, c in jets.collections.items()}
        for prefix, columns in parts.items():
            for column, values in columns.items():
                if column.startswith(LABELS):
                    name = f"{prefix}{column.removeprefix(LABELS)}"
                    columns[column] = particle_label(
                        name,
                        values,
                        self.schema.particle_classes.get(name),
                        str(self.table.path),
                        is_strict=self._needs_truth,
                    )

    def _locate_jet_momentum(self) -> dict[str, Quantity]:
        columns = self.schema.jet_p4
        is_complete = all(find_quantity(self.table, column) for column in columns.values())
        if "jet_p4" in self.schema.optional and not is_complete:
            return {}
        return {name: locate_quantity(self.table, column) for name, column in columns.items()}

    def _names_in_file(self) -> list[str]:
        """Names of the extra columns in the file, read or not."""
        schema = self.schema
        extras = schema.particle | schema.jet
        present = [name for name, text in extras.items() if find_quantity(self.table, text)]
        if set(JET_MOMENTUM) <= set(present):  # as `write_jets` stores the momentum of the jet
            present = [*(name for name in present if name not in JET_MOMENTUM), "jet_p4"]
        every = (*self._particle, *self._jet)
        further = [n for n in every if n not in extras and n != SPLIT_KEY]
        parts = [
            name
            for collection, part in schema.collections.items()
            if collection not in schema.optional or CollectionReader.is_in(self.table, part)
            for name in (collection, *(f"{collection}.{column}" for column in part.names))
        ]
        return [*present, *further, *parts]

    def _optional(self) -> list[str]:
        return ["jet_p4"] * bool(self._jet_p4) + ["label"] * bool(self._label)

    def _arrange(self) -> None:
        """Find the storage of the jets, and which columns have a value per particle or per jet."""
        per_particle = [*self._p4.values(), *self._particle.values()]
        per_jet = [*self._jet.values(), *self._jet_p4.values()]
        per_jet += [self._select] if self._select else []
        per_jet += self._label.quantities if self._label else []
        sources = [place for quantity in self._p4.values() for place in quantity.columns]
        if not sources:
            raise InputError(f"{self.table.path}: the momenta of the schema have no column")
        first = max(sources, key=lambda place: (len(place.shape), place.shape[0] or 0))
        particle: list[SourceColumn] = [first]
        jet: list[SourceColumn] = []
        lists: list[SourceColumn] = []
        for quantity in per_particle:
            for place in quantity.columns:
                is_per_jet = quantity.expression and _is_per_jet(place, first)
                (jet if is_per_jet else particle).append(place)
        for quantity in per_jet:
            for place in quantity.columns:
                if quantity.expression is None or _is_per_jet(place, first):
                    jet.append(place)
                else:
                    (lists if None in place.shape else particle).append(place)
        momenta = {n: q.columns[0] for n, q in self._p4.items() if q.expression is None}
        particle = list(dict.fromkeys(particle))
        self._layout = choose_layout(self.table, self.schema, particle, momenta)
        self._per_jet = list(dict.fromkeys(jet))
        self._layout.check_per_jet(self._per_jet)
        self._lists = [place for place in dict.fromkeys(lists) if place not in particle]


def _known_labels(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Class index (B,), int64; -1 where it is none of the classes, of which 0 are any number."""
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(label) & (label == np.floor(label)) & (label >= 0) & (label < 2.0**31)
        known = whole & (label < num_classes) if num_classes else whole
    return np.where(known, label, -1).astype(np.int64)


def _is_per_jet(place: SourceColumn, first: SourceColumn) -> bool:
    """Return True if a column of an expression has a value per jet, unlike a column of particles."""
    return len(place.shape) == 1 and place.shape != first.shape


def _to_lists(table: Table, place: SourceColumn, values: np.ndarray | Ragged) -> Ragged:
    assert isinstance(values, Ragged)
    return Ragged(values.offsets, to_native(table, place, values.content))


def _in_order(
    threads: int, load: Callable[[int, int], _T], ranges: Iterable[tuple[int, int]]
) -> Iterator[_T]:
    """Results of `load` for all ranges in order; threads load some ranges in advance."""
    if not threads:
        yield from (load(*piece) for piece in ranges)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[_T]] = []
        try:
            for piece in ranges:
                waiting.append(pool.submit(load, *piece))
                if len(waiting) > threads:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
