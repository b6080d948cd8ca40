"""Storage of jets of different lengths: lists, padded arrays, or flat arrays with offsets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pcloud.errors import InputError
from pcloud.io.jets import as_offsets
from pcloud.io.source_columns import SourceColumn, describe_shape, read, to_native
from pcloud.io.table import Ragged, Table, aligned_ranges

__all__ = ["FlatLayout", "Layout", "PaddedLayout", "RaggedStorage"]

Columns = dict[SourceColumn, np.ndarray]

_RANGE_JETS = 10_000  # of flat arrays


class Layout(ABC):
    """Reader of jets as offsets and flat columns, for one kind of storage.

    Parameters
    ----------
    table : Table
        File.
    particle : sequence of SourceColumn
        Columns per particle, at least one.
    jet : sequence of SourceColumn
        Columns per jet.

    Attributes
    ----------
    num_jets : int
        Number of jets in the file.
    """

    num_jets: int

    def __init__(
        self, table: Table, particle: Sequence[SourceColumn], jet: Sequence[SourceColumn]
    ) -> None:
        self.table = table
        self.particle = list(dict.fromkeys(particle))  # a column can have two names
        self.jet = list(dict.fromkeys(jet))

    @abstractmethod
    def read(self, start: int, stop: int) -> tuple[np.ndarray, Columns]:
        """Offsets and columns of the jets `start` to `stop`."""

    def ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the jets into ranges that are efficient to read."""
        places = [*self.particle, *self.jet]
        return self.table.ranges(list(dict.fromkeys(place.source for place in places)), start, stop)

    def _check_shapes(self, ndim: int, expected: str, per_jet: Sequence[SourceColumn]) -> None:
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
        for place in per_jet:
            if place.shape != (self.num_jets,):
                raise self._error(
                    place,
                    f"has shape {describe_shape(place.shape)}, expected one number for each of "
                    f"{self.num_jets} jets",
                )

    def _to_native(self, columns: dict[SourceColumn, np.ndarray | Ragged]) -> Columns:
        return {place: to_native(self.table, place, values) for place, values in columns.items()}

    def _error(self, place: SourceColumn, what: str) -> InputError:
        return InputError(f"{self.table.path}: {self.table.noun} {place.reference!r} {what}")


class RaggedStorage(Layout):
    """Storage with one list per jet: ROOT vectors, Parquet lists."""

    def __init__(
        self, table: Table, particle: Sequence[SourceColumn], jet: Sequence[SourceColumn]
    ) -> None:
        super().__init__(table, particle, jet)
        self.num_jets = self.particle[0].shape[0] or 0
        self._check_shapes(2, "expected one list for each jet", self.jet)

    def read(self, start: int, stop: int) -> tuple[np.ndarray, Columns]:
        """Offsets and columns of the jets `start` to `stop`."""
        columns = read(self.table, [*self.particle, *self.jet], start, stop)
        first = columns[self.particle[0]]
        assert isinstance(first, Ragged)
        for place in self.particle:
            columns[place] = self._content(place, columns[place], first, start)
        return first.offsets, self._to_native(columns)

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


class PaddedLayout(Layout):
    """Storage with the same number of slots for every jet, some of which are empty.

    Parameters
    ----------
    table, particle, jet
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
        jet: Sequence[SourceColumn],
        structure_column: Sequence[SourceColumn],
        is_particle: Callable[[list[np.ndarray], int], np.ndarray],
    ) -> None:
        super().__init__(table, particle, jet)
        first = self.particle[0].shape
        self.num_jets = first[0] or 0
        self._structure = list(structure_column)
        self._is_particle = is_particle
        self._check_shapes(2, "expected (jets, particles)", self.jet)
        for place in self._structure:
            if place.shape not in (first, first[:1]):
                raise self._error(place, f"has shape {describe_shape(place.shape)}")

    def read(self, start: int, stop: int) -> tuple[np.ndarray, Columns]:
        """Offsets and columns of the jets `start` to `stop`."""
        places = dict.fromkeys([*self.particle, *self.jet, *self._structure])
        columns = read(self.table, places, start, stop)
        slots = self.particle[0].shape[1] or 0
        try:
            real = self._is_particle([np.asarray(columns[p]) for p in self._structure], slots)
        except InputError as error:
            raise self._error(self._structure[0], str(error)) from error
        flat = {place: columns[place][real] for place in self.particle}  # type: ignore[index]
        per_jet = {place: columns[place] for place in self.jet}
        return as_offsets(np.count_nonzero(real, axis=1)), self._to_native({**flat, **per_jet})


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


def by_nonzero(columns: list[np.ndarray], slots: int) -> np.ndarray:
    """Mask (B, P) of the slots where any of the columns is not 0."""
    real = columns[0] != 0
    for column in columns[1:]:
        real |= column != 0
    return real


class FlatLayout(Layout):
    """Storage of all particles in one array, with the offsets or lengths of the jets.

    Parameters
    ----------
    table, particle, jet
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
        jet: Sequence[SourceColumn],
        structure_column: SourceColumn,
        is_counts: bool,
    ) -> None:
        super().__init__(table, particle, jet)
        if len(structure_column.shape) != 1:
            raise self._error(
                structure_column,
                f"has shape {describe_shape(structure_column.shape)}, expected 1 axis",
            )
        self._structure = structure_column
        self.num_jets = (structure_column.shape[0] or 0) - (not is_counts)
        if self.num_jets < 0:
            raise self._error(
                structure_column, "is empty; the number of offsets is that of the jets plus one"
            )
        self._check_shapes(1, "expected one number for each particle", self.jet)
        self._num_particles = self.particle[0].shape[0] or 0
        # The start of a jet depends on the lengths of all jets before it: read them now.
        self._offsets = as_offsets(self._read_structure(0, self.num_jets)) if is_counts else None

    def ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the jets into ranges of equal size, independent of the chunks of the file."""
        return aligned_ranges(start, stop, _RANGE_JETS)

    def read(self, start: int, stop: int) -> tuple[np.ndarray, Columns]:
        """Offsets and columns of the jets `start` to `stop`."""
        bounds = self._bounds(start, stop)
        columns = read(self.table, self.particle, int(bounds[0]), int(bounds[-1]))
        columns = self._to_native(columns)  # type: ignore[assignment]
        columns |= self._to_native(read(self.table, self.jet, start, stop))
        return bounds - bounds[0], columns  # type: ignore[return-value]

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


def _to_integers(values: np.ndarray) -> np.ndarray:
    """Convert to int64; an error if a number has a fraction."""
    with np.errstate(invalid="ignore"):
        integers = values.astype(np.int64)
    if not np.array_equal(integers, values):
        raise InputError("must be whole numbers")
    return integers
