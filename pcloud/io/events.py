"""Files whose rows are events, read as files whose rows are jets.

An event has several jets, and a jet several particles. Two kinds of storage are read:

- Lists of lists: ``std::vector<std::vector<float>>`` in ROOT, lists of lists in Parquet. Where a
  column of the momenta is one, the rows of the file are events.
- Indices, as in NanoAOD and PFNano: the particles of all jets of an event are one list, and two more
  lists say which particle belongs to which jet. The field ``index`` of the schema names them.

Columns with a list per event become columns with a number per jet. Columns with a number per event
are repeated for each of its jets. The number of the event in the file and that of the jet in its
event are the columns ``entry`` and ``index``.

An event can also be one cloud: where the momenta are one list per event, as of its leptons and jets, the
rows of the file are taken for jets, and nothing here is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pcloud.errors import InputError
from pcloud.expressions import Expression
from pcloud.io.jets import as_offsets
from pcloud.io.schema import JetSchema
from pcloud.io.source_columns import find, locate
from pcloud.io.table import Ragged, Shape, Source, Table, column_names
from pcloud.words import number_of

__all__ = ["ENTRY", "INDEX", "JetsOfEvents", "jets_of", "referenced"]

#: Column of the row of the event of each jet.
ENTRY = "entry"

#: Column of the number of each jet in its event.
INDEX = "index"

_MAX_JETS = 100_000  # of one event; a larger index is damaged
_NOT_COLUMNS = frozenset({"classes", "optional", "unit", "tree"})  # fields of a schema
_COLLECTION = re.compile(r"[^_./]+(?=[_./])")
_NUMBER = np.int64


def jets_of(table: Table, schema: JetSchema) -> Table:
    """Return the jets of the events of a file, or the file itself if its rows are jets.

    Parameters
    ----------
    table : Table
        File.
    schema : JetSchema
        Its schema.

    Raises
    ------
    InputError
        If the columns of the schema do not define the jets of the events.
    """
    momenta = referenced(list(schema.p4.values()), table)
    is_nested = any(_is_nested(table, name) for name in momenta)
    if not schema.index and not is_nested:
        return table
    return JetsOfEvents(table, schema)


def referenced(values: Any, table: Table) -> list[str]:
    """Names of the columns of a file that texts of a schema refer to, in their order.

    Parameters
    ----------
    values : str, or mapping or sequence of these
        Names of columns, references such as ``"X[0]"``, or expressions; other values are left out.
    table : Table
        File.
    """
    if isinstance(values, str):
        return _names(values, table)
    if isinstance(values, Mapping):
        values = list(values.values())
    elif not isinstance(values, (list, tuple)):
        return []
    return list(dict.fromkeys(name for value in values for name in referenced(value, table)))


def _names(text: str, table: Table) -> list[str]:
    place = find(table, text)
    if place is not None:
        return column_names([place.source])
    try:
        names = Expression(text).columns
    except InputError:  # a name of something else; of a column, the error comes when it is located
        return []
    return [name for name in names if name in table.columns]


class JetsOfEvents(Table):
    """Jets of the events of a file, as a table with one row per jet.

    The numbers of jets of all events are read at once, from a column with one number per jet where
    the schema names any: 8 bytes per event are kept. Everything else is read in ranges of events.

    Parameters
    ----------
    table : Table
        File whose rows are events.
    schema : JetSchema
        Its schema. Without ``index``, the particles of a jet are the inner list of a list of lists.

    Raises
    ------
    InputError
        If no column defines the number of jets of an event, or if the indices are not lists of whole
        numbers.
    """

    def __init__(self, table: Table, schema: JetSchema) -> None:
        super().__init__(table.path)
        self.noun = table.noun
        self.threads = table.threads
        self.unreadable = table.unreadable
        self.classes = table.classes
        self._events = table
        self._links = [_Link(table, pair, schema) for pair in schema.index]
        texts = {k: v for k, v in schema.to_dict().items() if k not in _NOT_COLUMNS}
        columns = referenced(texts, table)
        self._counter = self._choose_counter(columns)
        self._num_events = int(table.columns[self._counter][0] or 0)
        self._first = as_offsets(self._count_jets())  # first jet of each event
        self._set_columns()

    def _choose_counter(self, columns: Sequence[str]) -> str:
        """Column from whose lists the jets of an event are counted."""
        shapes = self._events.columns
        for name in columns:
            if shapes[name][1:] == (None,) and not any(link.owns(name) for link in self._links):
                return name
        if self._links:
            return self._links[0].jet
        return next(name for name in columns if _is_nested(self._events, name))

    def _count_jets(self) -> np.ndarray:
        name = self._counter
        parts = [np.zeros(0, dtype=_NUMBER)]
        for start, stop in self._events.ranges([name], 0, self._num_events):
            lists = self._read_lists(name, start, stop)
            if self._links and name == self._links[0].jet:
                parts.append(self._links[0].num_jets(lists, start))
            else:
                parts.append(np.diff(lists.offsets))
        return np.concatenate(parts)

    def _read_lists(self, name: str, start: int, stop: int) -> Ragged:
        lists = self._events.read_columns([name], start, stop)[name]
        if not isinstance(lists, Ragged) or len(lists.offsets) - 1 != stop - start:
            raise InputError(
                f"{self.path}: {self.noun} {name!r} has not all of the rows {start} to {stop}: is "
                "the file damaged or truncated?"
            )
        return lists

    def _set_columns(self) -> None:
        """Columns of the jets: of the file, and ``entry`` and ``index`` unless it has them."""
        num_jets = int(self._first[-1])
        for own, others in (
            (self.columns, self._events.columns),
            (self.texts, self._events.texts),
        ):
            for name, (rows, *inner) in others.items():
                shape: Shape = tuple(inner)
                if shape[:1] == (None,) and not any(link.owns(name) for link in self._links):
                    shape = shape[1:]
                if rows == self._num_events:
                    own[name] = (num_jets, *shape)
        for name in (ENTRY, INDEX):
            self.columns.setdefault(name, (num_jets,))

    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Jets `start` to `stop` of some columns: particles as `Ragged`, others as arrays."""
        first, last = self._events_of(start, stop)
        values = self._events.read_columns(self._needed(names), first, last)
        bounds = self._first[first : last + 1]
        piece = _Piece(self, first, bounds - bounds[0], start - int(bounds[0]), stop - start)
        return {name: piece.column(name, values) for name in names}

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the jets where the file divides the events."""
        needed = self._needed(column_names(sources))
        for first, last in self._events.ranges(needed, *self._events_of(start, stop)):
            low = max(start, int(self._first[first]))
            high = min(stop, int(self._first[last]))
            if low < high:
                yield low, high

    def _events_of(self, start: int, stop: int) -> tuple[int, int]:
        """Range of the events of the jets `start` to `stop`."""
        if start == stop:
            return 0, 0
        first = int(np.searchsorted(self._first, start, side="right")) - 1
        return first, int(np.searchsorted(self._first, stop, side="left"))

    def _needed(self, names: Iterable[str]) -> list[str]:
        """Columns of the file from which some columns of the jets are made."""
        table = self._events
        needed = [name for name in names if name in table.columns or name in table.texts]
        for link in self._links:
            if any(link.owns(name) for name in needed):
                needed += [link.jet, link.particle]
        return list(dict.fromkeys(needed or [self._counter]))

    def entries(self, start: int, stop: int) -> np.ndarray:
        """Rows of the events of the jets `start` to `stop`, int64."""
        jets = np.arange(start, stop, dtype=_NUMBER)
        return np.searchsorted(self._first, jets, side="right").astype(_NUMBER) - 1

    def close(self) -> None:
        """Close the file."""
        self._events.close()


class _Link:
    """Pair of columns that says which particles of an event belong to which of its jets.

    Parameters
    ----------
    table : Table
        File whose rows are events.
    pair : dict of str to str
        Its columns ``jet`` and ``particle``.
    schema : JetSchema
        Schema, whose momenta are of the linked particles if no collection has the name of the index.
    """

    def __init__(self, table: Table, pair: dict[str, str], schema: JetSchema) -> None:
        self.jet = pair["jet"]
        self.particle = pair["particle"]
        for name in (self.jet, self.particle):
            if locate(table, name).shape[1:] != (None,):
                raise InputError(
                    f"{table.path}: {table.noun} {name!r} is no index of particles: it must be one "
                    "list for each event"
                )
        self._path = table.path
        self._noun = table.noun
        self._own = _collection(self.jet)
        self._target = self._find_target(table, schema)

    def _find_target(self, table: Table, schema: JetSchema) -> str:
        """Collection of the particles: ``PFCands`` for ``FatJetPFCands_pFCandsIdx``."""
        wanted = re.split(r"[_./]", self.particle)[-1].removesuffix("Idx").lower()
        collections = dict.fromkeys(_collection(name) for name in table.columns)
        found = [name for name in collections if name.lower() == wanted and name]
        if found:
            return found[0]
        momenta = referenced(list(schema.p4.values()), table)
        return _collection(momenta[0]) if momenta else ""

    def owns(self, name: str) -> bool:
        """Return True if a column has a number per particle of the collection, or per link."""
        return _collection(name) in (self._own, self._target) and bool(_collection(name))

    def is_own(self, name: str) -> bool:
        """Return True if a column has a number per link, and not per particle."""
        return _collection(name) == self._own

    def num_jets(self, jet: Ragged, start: int) -> np.ndarray:
        """Number of jets of each event: the largest index plus 1.

        Raises
        ------
        InputError
            If an index is no whole number, or too large.
        """
        numbers = self._numbers(self.jet, jet)
        rows = _rows(jet)
        found = np.full(len(jet.offsets) - 1, -1, dtype=_NUMBER)
        self._check(self.jet, numbers, rows, np.full_like(found, _MAX_JETS), start)
        np.maximum.at(found, rows, numbers)
        return found + 1

    def order(self, columns: Mapping[str, Any], counts: np.ndarray, start: int) -> _Order:
        """Particles of some events in the order of their jets.

        Parameters
        ----------
        columns : mapping of str to Ragged
            Columns of the file, of some events.
        counts : array of int, shape (E,)
            Number of jets of each event.
        start : int
            First event, for the messages.

        Raises
        ------
        InputError
            If an index is not that of a jet of its event. A link with an index of -1, which stands for
            none, is left out.
        """
        jet, particle = columns[self.jet], columns[self.particle]
        self.check_lengths(self.particle, particle, jet)
        jets = self._numbers(self.jet, jet)
        particles = self._numbers(self.particle, particle)
        self._check(self.jet, jets, _rows(jet), counts, start)
        rows = _rows(jet)
        links = np.flatnonzero((jets >= 0) & (particles != -1))
        in_piece = (jets + (np.cumsum(counts) - counts)[rows])[links]
        links = links[np.argsort(in_piece, kind="stable")]
        offsets = as_offsets(np.bincount(in_piece, minlength=int(counts.sum())))
        return _Order(offsets, links, rows[links], particles[links])

    def look_up(self, column: Ragged, order: _Order, start: int) -> np.ndarray:
        """Numbers of the linked particles, in the order of the jets.

        Raises
        ------
        InputError
            If an index is not that of a particle of its event.
        """
        sizes = np.diff(column.offsets)
        self._check(self.particle, order.particles, order.events, sizes, start)
        return column.content[column.offsets[order.events] + order.particles]

    def check_lengths(self, name: str, column: Ragged, jet: Ragged) -> None:
        """Check that a column has one number per link."""
        if not np.array_equal(column.offsets, jet.offsets):
            raise InputError(
                f"{self._path}: the {self._noun} {name!r} and {self.jet!r} have different lengths"
            )

    def _numbers(self, name: str, column: Ragged) -> np.ndarray:
        if column.content.dtype.kind not in "iu" or np.ma.is_masked(column.content):
            missing = " with missing ones" if np.ma.is_masked(column.content) else ""
            raise InputError(
                f"{self._path}: {self._noun} {name!r} must be whole numbers, got "
                f"{column.content.dtype}{missing}"
            )
        with np.errstate(over="ignore"):
            return column.content.astype(_NUMBER)

    def _check(
        self, name: str, numbers: np.ndarray, rows: np.ndarray, sizes: np.ndarray, start: int
    ) -> None:
        """Check that indices are at least -1 and less than the sizes of their rows."""
        wrong = np.flatnonzero((numbers < -1) | (numbers >= sizes[rows]))
        if len(wrong):
            event = int(rows[wrong[0]])
            raise InputError(
                f"{self._path}: {self._noun} {name!r} is {numbers[wrong[0]]} in event "
                f"{start + event}, whose largest index is {sizes[event] - 1}"
            )


@dataclass
class _Order:
    """Particles in the order of the jets of some events.

    Parameters
    ----------
    offsets : array of int, shape (B + 1,)
        Offsets of the jets.
    links, events, particles : array of int, shape (N,)
        Link of each particle, its event, and its number in the event.
    """

    offsets: np.ndarray
    links: np.ndarray
    events: np.ndarray
    particles: np.ndarray


class _Piece:
    """Jets of a range of events, some at its ends left out.

    Parameters
    ----------
    jets : JetsOfEvents
        Table of the jets.
    start : int
        First event.
    offsets : array of int, shape (E + 1,)
        First jet of each event, counted from that of the first event.
    skipped : int
        Number of jets of the first event that are left out.
    num_jets : int
        Number of jets.
    """

    def __init__(
        self, jets: JetsOfEvents, start: int, offsets: np.ndarray, skipped: int, num_jets: int
    ) -> None:
        self._jets = jets
        self._start = start
        self._offsets = offsets
        self._counts = np.diff(offsets)
        self._wanted = slice(skipped, skipped + num_jets)
        self._orders: dict[str, _Order] = {}

    def column(self, name: str, values: Mapping[str, np.ndarray | Ragged]) -> np.ndarray | Ragged:
        """Column of the jets, from the columns of the events."""
        if name not in values:
            return self._number(name)
        column = values[name]
        if not isinstance(column, Ragged):
            return np.repeat(column, self._counts, axis=0)[self._wanted]
        for link in self._jets._links:
            if link.owns(name):
                return self._linked(name, link, values)
        self._check(name, column)
        if column.inner is None:
            return column.content[self._wanted]
        return self._cut(column.inner, column.content)

    def _number(self, name: str) -> np.ndarray:
        """Event of each jet, or its number in the event."""
        events = np.repeat(np.arange(len(self._counts), dtype=_NUMBER), self._counts)[self._wanted]
        if name == ENTRY:
            return events + self._start
        jets = np.arange(self._wanted.start, self._wanted.stop, dtype=_NUMBER)
        return jets - self._offsets[events]

    def _check(self, name: str, column: Ragged) -> None:
        counts = np.diff(column.offsets)
        wrong = np.flatnonzero(counts != self._counts)
        if len(wrong):
            event = int(wrong[0])
            raise InputError(
                f"{self._jets.path}: {self._jets.noun} {name!r} has {counts[event]} entries in event "
                f"{self._start + event}, but {self._jets._counter!r} "
                f"{number_of(int(self._counts[event]), 'jet')}"
            )

    def _linked(self, name: str, link: _Link, values: Mapping[str, Any]) -> Ragged:
        if link.jet not in self._orders:
            self._orders[link.jet] = link.order(values, self._counts, self._start)
        order = self._orders[link.jet]
        if not link.is_own(name):
            return self._cut(order.offsets, link.look_up(values[name], order, self._start))
        link.check_lengths(name, values[name], values[link.jet])
        return self._cut(order.offsets, values[name].content[order.links])

    def _cut(self, offsets: np.ndarray, content: np.ndarray) -> Ragged:
        """Particles of the wanted jets."""
        bounds = offsets[self._wanted.start : self._wanted.stop + 1]
        return Ragged(bounds - bounds[0], content[bounds[0] : bounds[-1]])


def _rows(column: Ragged) -> np.ndarray:
    """Row of each number of a column of lists."""
    return np.repeat(np.arange(len(column.offsets) - 1), np.diff(column.offsets))


def _is_nested(table: Table, name: str) -> bool:
    return table.columns[name][1:3] == (None, None)


def _collection(name: str) -> str:
    """Collection of a column: the part of its name before the first ``_``, ``.`` or ``/``."""
    match = _COLLECTION.match(name)
    return match[0] if match else ""
