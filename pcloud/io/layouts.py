"""Storage of jets of different lengths: lists, padded arrays, or flat arrays with offsets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from pcloud.errors import InputError
from pcloud.io.jets import as_offsets
from pcloud.io.schema import CollectionSchema, JetSchema
from pcloud.io.source_columns import SourceColumn, describe_shape, locate, read, to_native
from pcloud.io.table import Ragged, Table, aligned_ranges

__all__ = ["Columns", "FlatLayout", "Layout", "PaddedLayout", "RaggedStorage", "choose_layout"]

Columns = dict[SourceColumn, np.ndarray]

_RANGE_JETS = 10_000  # of flat arrays

Slots = Callable[[list[np.ndarray], int], np.ndarray]
"""Mask (B, P) of the slots with a particle from some columns, (B, P) or (B,), and P."""


class Layout(ABC):
    """Reader of jets as offsets and flat columns, for one kind of storage.

    Parameters
    ----------
    table : Table
        File.
    particle : sequence of SourceColumn
        Columns per particle, at least one.

    Attributes
    ----------
    num_jets : int
        Number of jets in the file.
    columns : list of SourceColumn
        Columns with one row per jet, which `assemble` needs.
    """

    num_jets: int
    columns: list[SourceColumn]

    def __init__(self, table: Table, particle: Sequence[SourceColumn]) -> None:
        self.table = table
        self.particle = list(dict.fromkeys(particle))  # a column can have two names

    @abstractmethod
    def assemble(
        self, columns: Mapping[SourceColumn, np.ndarray | Ragged], start: int, stop: int
    ) -> tuple[np.ndarray, Columns]:
        """Offsets and flat columns of the jets `start` to `stop`.

        Parameters
        ----------
        columns : mapping of SourceColumn to array
            Rows `start` to `stop` of the columns of this storage.
        start, stop : int
            Range of jets.
        """

    def ranges(
        self, jet: Iterable[SourceColumn], start: int, stop: int
    ) -> Iterator[tuple[int, int]]:
        """Divide the jets into ranges that are efficient to read, together with columns per jet."""
        places = [*self.columns, *jet]
        return self.table.ranges(list(dict.fromkeys(place.source for place in places)), start, stop)

    def check_per_jet(self, columns: Iterable[SourceColumn]) -> None:
        """Check that columns have one number for each jet.

        Raises
        ------
        InputError
            If a column has another shape.
        """
        for place in columns:
            if place.shape != (self.num_jets,):
                raise self._error(
                    place,
                    f"has shape {describe_shape(place.shape)}, expected one number for each of "
                    f"{self.num_jets} jets",
                )

    def _check_shapes(self, ndim: int, expected: str) -> None:
        first = self.particle[0]
        for place in self.particle:
            if len(place.shape) != ndim:
                raise self._error(place, f"has shape {describe_shape(place.shape)}, {expected}")
            if place.shape != first.shape:
                raise self._error(
                    place,
                    f"has shape {describe_shape(place.shape)}, but {first.reference!r} "
                    f"{describe_shape(first.shape)}",
                )

    def _to_native(self, columns: Mapping[SourceColumn, np.ndarray | Ragged]) -> Columns:
        return {place: to_native(self.table, place, values) for place, values in columns.items()}

    def _error(self, place: SourceColumn, what: str) -> InputError:
        return InputError(f"{self.table.path}: {self.table.noun} {place.reference!r} {what}")


class RaggedStorage(Layout):
    """Storage with one list per jet: ROOT vectors, Parquet lists.

    Parameters
    ----------
    table, particle
        As for `Layout`.
    structure_column : SourceColumn, optional
        Mask of the entries of lists, or number of particles in each list, which the others follow
        as padding.
    is_counts : bool
        True if `structure_column` contains numbers of particles.
    """

    def __init__(
        self,
        table: Table,
        particle: Sequence[SourceColumn],
        structure_column: SourceColumn | None = None,
        is_counts: bool = False,
    ) -> None:
        super().__init__(table, particle)
        self.num_jets = self.particle[0].shape[0] or 0
        self._structure = structure_column
        self._is_counts = is_counts
        self.columns = [*self.particle, *([structure_column] if structure_column else [])]
        self._check_shapes(2, "expected one list for each jet")
        if structure_column and len(structure_column.shape) != 2 - is_counts:
            kind = "one number for each jet" if is_counts else "a mask with one list for each jet"
            raise self._error(
                structure_column,
                f"has shape {describe_shape(structure_column.shape)}, expected {kind}",
            )

    def assemble(
        self, columns: Mapping[SourceColumn, np.ndarray | Ragged], start: int, stop: int
    ) -> tuple[np.ndarray, Columns]:
        """Offsets and flat columns of the jets `start` to `stop`."""
        first = columns[self.particle[0]]
        assert isinstance(first, Ragged)
        flat = {
            place: self._content(place, columns[place], first, start) for place in self.particle
        }
        if self._structure is None:
            return first.offsets, self._to_native(flat)
        real = self._mask(self._structure, columns[self._structure], first, start)
        counts = np.add.reduceat(np.append(real, False), first.offsets[:-1], dtype=np.int64)
        counts[np.diff(first.offsets) == 0] = 0  # reduceat gives the next number for an empty list
        return as_offsets(counts), self._to_native({p: values[real] for p, values in flat.items()})

    def _content(
        self, place: SourceColumn, column: np.ndarray | Ragged, first: Ragged, start: int
    ) -> np.ndarray:
        """Numbers of a list, which must have the lengths of the first column."""
        assert isinstance(column, Ragged)
        if not np.array_equal(column.offsets, first.offsets):
            counts = np.diff(column.offsets)
            expected = np.diff(first.offsets)
            jet = int(np.flatnonzero(counts != expected)[0])
            raise self._error(
                place,
                f"has {counts[jet]} particles in jet {start + jet}, but "
                f"{self.particle[0].reference!r} has {expected[jet]}",
            )
        return column.content

    def _mask(
        self, place: SourceColumn, column: np.ndarray | Ragged, first: Ragged, start: int
    ) -> np.ndarray:
        """Mask (N,) of the entries of the lists that are particles."""
        if not self._is_counts:
            return self._content(place, column, first, start) != 0
        lengths = np.diff(first.offsets)
        try:
            counts = _to_integers(np.asarray(column))
        except InputError as error:
            raise self._error(place, str(error)) from error
        wrong = np.flatnonzero((counts < 0) | (counts > lengths))
        if len(wrong):
            jet = int(wrong[0])
            raise self._error(
                place,
                f"is {counts[jet]} in jet {start + jet}, whose lists have {lengths[jet]} entries",
            )
        position = np.arange(first.offsets[-1]) - np.repeat(first.offsets[:-1], lengths)
        return position < np.repeat(counts, lengths)


class PaddedLayout(Layout):
    """Storage with the same number of slots for every jet, some of which are empty.

    Parameters
    ----------
    table, particle
        As for `Layout`.
    structure_column : sequence of SourceColumn
        Columns that define which slots contain particles: a mask, the number of particles, or
        columns that are zero in empty slots.
    is_particle : callable
        Function of these columns, of shape (B, P) or (B,), and of P. It returns a mask (B, P) that
        is True for slots with a particle.
    """

    def __init__(
        self,
        table: Table,
        particle: Sequence[SourceColumn],
        structure_column: Sequence[SourceColumn],
        is_particle: Slots,
    ) -> None:
        super().__init__(table, particle)
        first = self.particle[0].shape
        self.num_jets = first[0] or 0
        self._structure = list(structure_column)
        self._is_particle = is_particle
        self.columns = list(dict.fromkeys([*self.particle, *self._structure]))
        self._check_shapes(2, "expected (jets, particles)")
        for place in self._structure:
            if place.shape not in (first, first[:1]):
                raise self._error(place, f"has shape {describe_shape(place.shape)}")

    def assemble(
        self, columns: Mapping[SourceColumn, np.ndarray | Ragged], start: int, stop: int
    ) -> tuple[np.ndarray, Columns]:
        """Offsets and flat columns of the jets `start` to `stop`."""
        slots = self.particle[0].shape[1] or 0
        try:
            real = self._is_particle([np.asarray(columns[p]) for p in self._structure], slots)
        except InputError as error:
            raise self._error(self._structure[0], str(error)) from error
        flat = {place: columns[place][real] for place in self.particle}  # type: ignore[index]
        return as_offsets(np.count_nonzero(real, axis=1)), self._to_native(flat)


def by_mask(columns: list[np.ndarray], slots: int) -> np.ndarray:
    """Mask (B, P) of the slots where the mask of the file is not 0."""
    if columns[0].ndim != 2:
        raise InputError("must be a mask of shape (jets, particles)")
    return columns[0] != 0


def by_counts(columns: list[np.ndarray], slots: int) -> np.ndarray:
    """Mask (B, P) of the first slots of each jet, from the numbers of particles."""
    counts = _to_integers(columns[0])
    if len(counts) and not 0 <= counts.min() <= counts.max() <= slots:
        raise InputError(
            f"ranges from {counts.min()} to {counts.max()}, but there are {slots} slots"
        )
    return np.arange(slots) < counts[:, None]


def by_energy(columns: list[np.ndarray], slots: int) -> np.ndarray:
    """Mask (B, P) of the slots whose energy is not 0 and that are not NaN in all columns.

    The first column is the energy or pt, the others are the other momenta.
    """
    energy = columns[0]
    real = energy != 0
    if energy.dtype.kind == "f" and np.isnan(energy.sum()):
        real &= ~_all_nan(columns)
    return real


def by_nonzero(columns: list[np.ndarray], slots: int) -> np.ndarray:
    """Mask (B, P) of the slots where any of the columns is neither 0 nor all of them NaN."""
    real = columns[0] != 0
    for column in columns[1:]:
        real |= column != 0
    return real & ~_all_nan(columns)


def _all_nan(columns: list[np.ndarray]) -> np.ndarray:
    """Mask of the slots that are NaN in all columns."""
    empty = columns[0] != columns[0]  # NaN
    for column in columns[1:]:
        empty &= column != column
    return empty


class FlatLayout(Layout):
    """Storage of all particles in one array, with the offsets or lengths of the jets.

    Parameters
    ----------
    table, particle
        As for `Layout`.
    structure_column : SourceColumn
        Offsets of the jets, or number of particles of each jet.
    is_counts : bool
        True if `structure_column` contains numbers of particles.
    """

    def __init__(
        self,
        table: Table,
        particle: Sequence[SourceColumn],
        structure_column: SourceColumn,
        is_counts: bool,
    ) -> None:
        super().__init__(table, particle)
        if len(structure_column.shape) != 1:
            raise self._error(
                structure_column,
                f"has shape {describe_shape(structure_column.shape)}, expected 1 axis",
            )
        self.columns = []
        self._structure = structure_column
        self.num_jets = (structure_column.shape[0] or 0) - (not is_counts)
        if self.num_jets < 0:
            raise self._error(
                structure_column, "is empty; the number of offsets is that of the jets plus one"
            )
        self._check_shapes(1, "expected one number for each particle")
        self._num_particles = self.particle[0].shape[0] or 0
        # The start of a jet depends on the lengths of all jets before it: read them now.
        self._offsets = as_offsets(self._read_structure(0, self.num_jets)) if is_counts else None

    def ranges(
        self, jet: Iterable[SourceColumn], start: int, stop: int
    ) -> Iterator[tuple[int, int]]:
        """Divide the jets into ranges of equal size, independent of the chunks of the file."""
        return aligned_ranges(start, stop, _RANGE_JETS)

    def assemble(
        self, columns: Mapping[SourceColumn, np.ndarray | Ragged], start: int, stop: int
    ) -> tuple[np.ndarray, Columns]:
        """Offsets and flat columns of the jets `start` to `stop`, which are read here."""
        bounds = self._bounds(start, stop)
        particles = read(self.table, self.particle, int(bounds[0]), int(bounds[-1]))
        return bounds - bounds[0], self._to_native(particles)

    def _bounds(self, start: int, stop: int) -> np.ndarray:
        """Offsets (B + 1,) of the particles of the jets `start` to `stop`."""
        if self._offsets is not None:
            bounds = self._offsets[start : stop + 1]
        else:
            bounds = self._read_structure(start, stop + 1)
        decreases = np.flatnonzero(np.diff(bounds) < 0)
        if len(decreases):
            raise self._error(self._structure, f"decreases at jet {start + decreases[0]}")
        first = int(bounds[0])
        last = int(bounds[-1])
        size = self._num_particles
        is_incomplete = (start == 0 and first != 0) or (stop == self.num_jets and last != size)
        if first < 0 or last > size or is_incomplete:
            raise self._error(
                self._structure,
                f"gives jets {start} to {stop} the rows {first} to {last} of {size} particles",
            )
        return bounds

    def _read_structure(self, start: int, stop: int) -> np.ndarray:
        values = read(self.table, [self._structure], start, stop)[self._structure]
        try:
            numbers = _to_integers(to_native(self.table, self._structure, values))
            if len(numbers) and numbers.min() < 0:
                raise InputError(f"is negative at jet {start + numbers.argmin()}")
        except InputError as error:
            raise self._error(self._structure, str(error)) from error
        return numbers


def choose_layout(
    table: Table,
    schema: JetSchema | CollectionSchema,
    particle: Sequence[SourceColumn],
    momenta: Mapping[str, SourceColumn],
) -> Layout:
    """Storage of jets: from the schema, from lists in the file, or from zeros as padding.

    Parameters
    ----------
    table : Table
        File.
    schema : JetSchema or CollectionSchema
        Schema, which can have a mask, offsets or counts.
    particle : sequence of SourceColumn
        Columns per particle, at least one.
    momenta : mapping of str to SourceColumn
        Quantities of the momenta that are columns; those in empty slots are zero.

    Raises
    ------
    InputError
        If the shapes of the columns do not agree, or the storage is not known.
    """
    first = particle[0]
    name = schema.mask or schema.offsets or schema.counts
    structure = locate(table, name) if name else None
    if None in first.shape:
        if schema.offsets:
            raise InputError(f"{table.path}: {first.reference!r} is ragged and needs no {name!r}")
        return RaggedStorage(table, particle, structure, is_counts=bool(schema.counts))
    if structure and (schema.offsets or (schema.counts and len(first.shape) == 1)):
        return FlatLayout(table, particle, structure, is_counts=bool(schema.counts))
    if structure:
        rule = by_counts if schema.counts else by_mask
        return PaddedLayout(table, particle, [structure], rule)
    if len(first.shape) == 1:
        raise InputError(
            f"{table.path}: {table.noun} {first.reference!r} has shape "
            f"{describe_shape(first.shape)}: the schema must define where jets start, with "
            "offsets or counts"
        )
    energy = momenta.get("E") or momenta.get("pt")
    if energy is None:
        zeros = [column for name, column in momenta.items() if name in ("px", "py", "pz")]
        return PaddedLayout(table, particle, zeros or [first], by_nonzero)
    others = [column for column in momenta.values() if column.shape == energy.shape]
    return PaddedLayout(table, particle, list(dict.fromkeys([energy, *others])), by_energy)


def _to_integers(values: np.ndarray) -> np.ndarray:
    """Convert to int64; an error if a number has a fraction."""
    with np.errstate(invalid="ignore"):
        integers = values.astype(np.int64)
    if not np.array_equal(integers, values):
        raise InputError("must be whole numbers")
    return integers
