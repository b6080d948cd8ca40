"""From the columns of a file to jets: what a schema means for one file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.check import describe, find_bad_jets
from pcloud.io.jets import FlatJets, as_offsets
from pcloud.io.momentum import four_momenta
from pcloud.io.schema import GEV_EXTRAS, SCHEMAS, UNITS, Column, JetSchema
from pcloud.io.table import Ragged, Source, Table, steps

__all__ = ["Binding", "recognise"]


@dataclass(frozen=True)
class _Place:
    """Where a column of the schema is in the file."""

    reference: str
    source: Source
    index: int | None = None


@dataclass
class Binding:
    """A schema tied to the columns of one open file.

    Parameters
    ----------
    table : Table
        The file.
    schema : JetSchema
        Optional columns may be absent from the file, all others are looked up here.

    Raises
    ------
    UnknownNameError
        If a column is absent; the message has the nearest name.
    InputError
        If the shapes of the columns do not fit together.
    """

    table: Table
    schema: JetSchema
    particle: dict[str, _Place] = field(init=False)
    jet: dict[str, _Place] = field(init=False)
    label: list[_Place] = field(init=False)
    layout: _Place | None = field(init=False)

    def __post_init__(self) -> None:
        schema = self.schema
        self.p4 = {name: self._place(column) for name, column in schema.p4.items()}
        self.particle = self._present(schema.particle)
        self.jet = self._present(schema.jet)
        self.label = self._label()
        reference = schema.mask or schema.offsets or schema.counts
        self.layout = self._place(reference) if reference else None
        self._check_shapes()
        self._counts_to_offsets()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by the schema or else the file."""
        return self.schema.classes or self.table.classes

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the columns per particle and per jet."""
        return tuple(self.particle), (*self.jet, *(("label",) if self.label else ()))

    def pieces(
        self, start: int, stop: int, on_bad_jet: str
    ) -> Iterator[tuple[FlatJets, dict[str, np.ndarray]]]:
        """Jets `start` to `stop` in pieces, each with its bad jets, which are left out.

        Parameters
        ----------
        start, stop : int
            Range of jets.
        on_bad_jet : str
            ``"error"`` or ``"drop"``.

        Yields
        ------
        jets : FlatJets
            The good jets.
        bad : dict of str to array
            Reason to indices of jets in the file.

        Raises
        ------
        InputError
            If there are bad jets and `on_bad_jet` is ``"error"``, or the file is damaged.
        """
        if self._is_flat:
            ranges = steps(start, stop, 10_000)
        else:
            ranges = self.table.ranges(self._sources, start, stop)
        for piece in _ordered(self.table.threads, self._load, ranges):
            if piece[1] and on_bad_jet == "error":
                raise InputError(
                    f"{self.table.path}: bad jets: {describe(piece[1])}; "
                    "on_bad_jet='drop' leaves such jets out"
                )
            yield piece

    def _load(self, start: int, stop: int) -> tuple[FlatJets, dict[str, np.ndarray]]:
        jets, negative_pt = self.load(start, stop)
        bad = find_bad_jets(jets, self._column_names, len(self.classes), negative_pt)
        if bad:
            keep = np.ones(len(jets), dtype=bool)
            for index in bad.values():
                keep[index] = False
            jets = jets.select(keep)
        if "label" in jets.jet:
            jets.jet["label"] = jets.jet["label"].astype(np.int64, copy=False)
        if "pid" in jets.particle:
            jets.particle["pid"] = jets.particle["pid"].astype(np.int32, copy=False)
        return jets, {reason: index + start for reason, index in bad.items()}

    def load(self, start: int, stop: int) -> tuple[FlatJets, np.ndarray | None]:
        """Jets as they are in the file, and which particles have a negative pt, if any."""
        offsets, columns = (self._read_flat if self._is_flat else self._read_rows)(start, stop)
        unit = UNITS[self.schema.unit]
        momentum = {name: columns[place] for name, place in self.p4.items()}
        particle = {name: columns[place] for name, place in self.particle.items()}
        jet = {name: columns[place] for name, place in self.jet.items()}
        if unit != 1.0:
            for name in GEV_EXTRAS & jet.keys():
                jet[name] = (jet[name] * np.float64(unit)).astype(_float_like(jet[name]))
        if len(self.label) == 1:
            jet["label"] = columns[self.label[0]]
        elif self.label:
            jet["label"] = _class_of_one_hot([columns[place] for place in self.label])
        is_negative = momentum["pt"] < 0 if "pt" in momentum else None
        if is_negative is not None and not is_negative.any():
            is_negative = None
        return FlatJets(offsets, four_momenta(momentum, unit), particle, jet), is_negative

    def close(self) -> None:
        """Close the file."""
        self.table.close()

    # --- looking up the columns

    def _place(self, reference: str) -> _Place:
        place = self._find(reference)
        if place is None:
            column = Column.parse(reference)
            shape = self.table.columns.get(column.name)
            if shape is not None:
                raise InputError(
                    f"{self.table.path}: {self.table.noun} {column.name!r} has shape "
                    f"{_text(shape)}, so there is no {reference}"
                )
            name = reference.replace("{i}", "0")
            known = self.table.columns
            raise UnknownNameError(self.table.noun, name, known, where=str(self.table.path))
        return place

    def _find(self, reference: str) -> _Place | None:
        columns = self.table.columns
        if reference in columns:
            return _Place(reference, reference)
        column = Column.parse(reference)
        if column.wide:
            slots = column.slots(columns)
            return _Place(reference, slots) if slots else None
        if column.index is None or column.name not in columns:
            return None
        shape = columns[column.name]
        size = shape[-1] if len(shape) > 1 else None
        if size is None or column.index >= size:
            return None
        return _Place(reference, column.name, column.index)

    def _present(self, columns: dict[str, str]) -> dict[str, _Place]:
        return {
            name: self._place(column)
            for name, column in columns.items()
            if name not in self.schema.optional or self._find(column)
        }

    def _label(self) -> list[_Place]:
        label = self.schema.label
        columns = (label,) if isinstance(label, str) else (label or ())
        if "label" in self.schema.optional and not any(self._find(column) for column in columns):
            return []
        return [self._place(column) for column in columns]

    # --- shapes

    def _shape(self, place: _Place) -> tuple[int | None, ...]:
        """Shape of a column: (B,), or (B, P) where P is None if rows differ, or (N,)."""
        if isinstance(place.source, tuple):
            shape = self.table.columns[place.source[0]]
            return (*shape, len(place.source))
        shape = self.table.columns[place.source]
        return shape if place.index is None else shape[:-1]

    def _check_shapes(self) -> None:
        particle = [*self.p4.values(), *self.particle.values()]
        first = self._shape(particle[0])
        self._is_flat = bool(self.schema.offsets) or (bool(self.schema.counts) and len(first) == 1)
        if self.layout and None in first:
            raise InputError(
                f"{self.table.path}: {particle[0].reference!r} is ragged already and needs no "
                f"{self.layout.reference!r}"
            )
        wanted, form = (1, "(particles,)") if self._is_flat else (2, "(jets, particles)")
        for place in particle:
            if len(self._shape(place)) != wanted:
                hint = "" if self.layout else "; a flat array needs offsets or counts in the schema"
                raise InputError(
                    f"{self.table.path}: {self.table.noun} {place.reference!r} has shape "
                    f"{_text(self._shape(place))}, expected {form}{hint}"
                )
            self._compare(place, particle[0])
        if self._is_flat:
            assert self.layout is not None
            self.num_jets = self._shape(self.layout)[0] - bool(self.schema.offsets)  # type: ignore
        else:
            self.num_jets = first[0]  # type: ignore[assignment]
            if self.schema.mask:
                self._compare(self.layout, particle[0])  # type: ignore[arg-type]
        per_jet = [*self.jet.values(), *self.label]
        if self.schema.counts:
            per_jet.append(self.layout)  # type: ignore[arg-type]
        for place in per_jet:
            if self._shape(place) != (self.num_jets,):
                raise InputError(
                    f"{self.table.path}: {self.table.noun} {place.reference!r} has shape "
                    f"{_text(self._shape(place))}, expected one number for each of "
                    f"{self.num_jets} jets"
                )

    def _compare(self, place: _Place, other: _Place) -> None:
        if self._shape(place) != self._shape(other):
            raise InputError(
                f"{self.table.path}: {self.table.noun} {place.reference!r} has shape "
                f"{_text(self._shape(place))}, but {other.reference!r} {_text(self._shape(other))}"
            )

    # --- reading

    @property
    def _column_names(self) -> dict[str, str]:
        places = {**self.p4, **self.particle}
        names = {name: place.reference for name, place in places.items()}
        return names | {"label": ", ".join(place.reference for place in self.label[:2])}

    @property
    def _particle_places(self) -> list[_Place]:
        return [*self.p4.values(), *self.particle.values()]

    @property
    def _jet_places(self) -> list[_Place]:
        return [*self.jet.values(), *self.label]

    @property
    def _sources(self) -> list[Source]:
        places = [*self._particle_places, *self._jet_places, *([self.layout] if self.layout else [])]
        return list(dict.fromkeys(place.source for place in places))

    def _counts_to_offsets(self) -> None:
        """Of flat arrays with counts: where a jet starts depends on all before it."""
        self._offsets: np.ndarray | None = None
        if self._is_flat and self.schema.counts:
            assert self.layout is not None
            counts = self._numbers(self.layout, 0, self.num_jets)
            self._offsets = as_offsets(self._whole(counts, self.layout))

    def _bounds(self, start: int, stop: int) -> np.ndarray:
        """Rows of the particles of some jets."""
        assert self.layout is not None
        if self._offsets is not None:
            bounds = self._offsets[start : stop + 1]
        else:
            bounds = self._whole(self._numbers(self.layout, start, stop + 1), self.layout)
        size = self._shape(self._particle_places[0])[0]
        falls = np.flatnonzero(np.diff(bounds) < 0)
        if len(falls):
            raise InputError(
                f"{self.table.path}: {self.layout.reference!r} must not decrease, but does at "
                f"jet {start + falls[0]}"
            )
        last = int(bounds[-1])
        is_end = stop == self.num_jets
        if bounds[0] < 0 or last > size or (start == 0 and bounds[0]) or (is_end and last != size):  # type: ignore[operator]
            raise InputError(
                f"{self.table.path}: {self.layout.reference!r} spans rows {bounds[0]} to {last} "
                f"of jets {start} to {stop}, but there are {size} particles"
            )
        return bounds

    def _whole(self, values: np.ndarray, place: _Place) -> np.ndarray:
        """Counts or offsets as int64."""
        whole = values.astype(np.int64) if values.dtype.kind in "biu" else None
        if whole is None:
            with np.errstate(invalid="ignore"):
                whole = values.astype(np.int64)
            if not np.array_equal(whole, values):
                raise InputError(f"{self.table.path}: {place.reference!r} must be whole numbers")
        if self.schema.counts and len(whole) and whole.min() < 0:
            raise InputError(
                f"{self.table.path}: {place.reference!r} is negative at jet {whole.argmin()}"
            )
        return whole

    def _read_flat(self, start: int, stop: int) -> tuple[np.ndarray, dict[_Place, np.ndarray]]:
        bounds = self._bounds(start, stop)
        first, last = int(bounds[0]), int(bounds[-1])
        particles = self._read(self._particle_places, first, last)
        jets = self._read(self._jet_places, start, stop)
        both = {**particles, **jets}
        return bounds - first, {place: self._own(both[place], place) for place in both}

    def _read_rows(self, start: int, stop: int) -> tuple[np.ndarray, dict[_Place, np.ndarray]]:
        layout = [self.layout] if self.layout else []
        read = self._read([*self._particle_places, *self._jet_places, *layout], start, stop)
        first = read[self._particle_places[0]]
        if isinstance(first, Ragged):
            offsets = first.offsets
            particles = {place: self._content(place, read, start) for place in self._particle_places}
        else:
            real = self._is_particle(read)
            offsets = as_offsets(np.count_nonzero(real, axis=1))
            particles = {place: read[place][real] for place in self._particle_places}  # type: ignore
        jets = {place: read[place] for place in self._jet_places}
        both = {**particles, **jets}
        return offsets, {place: self._own(both[place], place) for place in both}

    def _content(
        self, place: _Place, read: dict[_Place, np.ndarray | Ragged], start: int
    ) -> np.ndarray:
        """Numbers of a ragged column that must have the lengths of the first."""
        first, column = read[self._particle_places[0]], read[place]
        assert isinstance(first, Ragged)
        assert isinstance(column, Ragged)
        if column is not first and not np.array_equal(column.offsets, first.offsets):
            ours, theirs = np.diff(column.offsets), np.diff(first.offsets)
            jet = int(np.flatnonzero(ours != theirs)[0])
            raise InputError(
                f"{self.table.path}: {place.reference!r} has {ours[jet]} particles in jet "
                f"{start + jet}, but {self._particle_places[0].reference!r} has {theirs[jet]}"
            )
        return column.content

    def _is_particle(self, read: dict[_Place, np.ndarray | Ragged]) -> np.ndarray:
        """Which slots of padded arrays hold a particle, shape (jets, slots)."""
        if self.schema.mask:
            assert self.layout is not None
            return read[self.layout] != 0  # type: ignore[return-value]
        if self.schema.counts:
            assert self.layout is not None
            counts = self._whole(read[self.layout], self.layout)  # type: ignore[arg-type]
            slots = self._shape(self._particle_places[0])[1]
            if len(counts) and counts.max() > slots:  # type: ignore[operator]
                raise InputError(
                    f"{self.table.path}: {self.layout.reference!r} is up to {counts.max()}, but "
                    f"there are {slots} slots"
                )
            return np.arange(slots) < counts[:, None]
        telling = next((name for name in ("E", "pt") if name in self.p4), None)
        if telling:
            return read[self.p4[telling]] != 0  # type: ignore[return-value]
        return np.logical_or.reduce([read[self.p4[name]] != 0 for name in ("px", "py", "pz")])

    def _read(
        self, places: Iterable[_Place], start: int, stop: int
    ) -> dict[_Place, np.ndarray | Ragged]:
        places = list(places)
        sources = list(dict.fromkeys(place.source for place in places))
        columns = self.table.read(sources, start, stop) if sources else {}
        return {place: _pick(columns[place.source], place.index) for place in places}

    def _numbers(self, place: _Place, start: int, stop: int) -> np.ndarray:
        values = self._read([place], start, stop)[place]
        if isinstance(values, Ragged):
            raise InputError(f"{self.table.path}: {place.reference!r} must not be ragged")
        return self._own(values, place)

    def _own(self, values: np.ndarray | Ragged, place: _Place) -> np.ndarray:
        """Numbers in a native, contiguous array that outlives the next read."""
        if isinstance(values, Ragged) or values.dtype.kind not in "biuf":
            kind = "lists" if isinstance(values, Ragged) else values.dtype
            raise InputError(
                f"{self.table.path}: {self.table.noun} {place.reference!r} must be numbers, "
                f"got {kind}"
            )
        dtype = np.dtype(np.float32) if values.dtype == np.float16 else values.dtype
        dtype = np.dtype(np.float64) if dtype.kind == "f" and dtype.itemsize > 8 else dtype
        is_ours = values.flags.c_contiguous and (values.base is None or not values.flags.writeable)
        if is_ours and dtype.isnative and dtype == values.dtype:
            return values
        return np.array(values, dtype=dtype.newbyteorder("="), order="C")


def recognise(table: Table) -> JetSchema:
    """The schema of a file of ours or of a public sample, by its columns.

    Raises
    ------
    InputError
        If the columns are of no known sample; where they are nearly, naming the missing one.
    """
    native = table.native_schema()
    if native:
        return native
    score = {name: _count_known(table, schema) for name, schema in SCHEMAS.items()}
    complete = {name for name, (found, _) in score.items() if found == len(SCHEMAS[name].p4)}
    best = max(complete or score, key=lambda name: score[name])
    if not complete and score[best][0]:
        Binding(table, SCHEMAS[best])  # names the missing column
    if not complete:
        names = list(table.columns)
        more = f", ... ({len(names)} in all)" if len(names) > 8 else ""
        raise InputError(
            f"{table.path}: the columns are of no known sample ({', '.join(SCHEMAS)}); say which is "
            f"which with a schema; there are: {', '.join(names[:8]) or 'none'}{more}"
        )
    return SCHEMAS[best]


def _count_known(table: Table, schema: JetSchema) -> tuple[int, int]:
    """How many columns of the momenta, and how many others, the file has."""
    columns = table.columns

    def has(reference: str) -> bool:
        column = Column.parse(reference)
        return reference in columns or column.name.replace("{i}", "0") in columns

    label = (schema.label,) if isinstance(schema.label, str) else (schema.label or ())
    extras = (*schema.particle.values(), *schema.jet.values(), *label)
    return sum(map(has, schema.p4.values())), sum(map(has, extras))


def _ordered(threads: int, load, ranges: Iterable[tuple[int, int]]) -> Iterator:  # type: ignore
    """Load ranges in order, a few ahead of the one that is used."""
    if not threads:
        yield from (load(*piece) for piece in ranges)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future] = []
        try:
            for piece in ranges:
                waiting.append(pool.submit(load, *piece))
                if len(waiting) > threads:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pick(values: np.ndarray | Ragged, index: int | None) -> np.ndarray | Ragged:
    if index is None:
        return values
    if isinstance(values, Ragged):
        return Ragged(values.offsets, values.content[..., index])
    return values[..., index]


def _class_of_one_hot(columns: list[np.ndarray]) -> np.ndarray:
    """Class index, -1 where not exactly one column is 1 and the others 0."""
    one_hot = np.stack([column.astype(np.float64) for column in columns], axis=1)
    is_one = one_hot == 1
    valid = (is_one.sum(axis=1) == 1) & (is_one | (one_hot == 0)).all(axis=1)
    return np.where(valid, is_one.argmax(axis=1), -1).astype(np.int64)


def _float_like(values: np.ndarray) -> np.dtype:
    return np.dtype(np.float64 if values.dtype == np.float64 else np.float32)


def _text(shape: tuple[int | None, ...]) -> str:
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
