"""How files store jets of any length: lists, padded arrays, or flat arrays with offsets."""

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


class Layout(ABC):
    """Reads jets as offsets and flat columns, whatever the file stores.

    Parameters
    ----------
    table : Table
        The file.
    particle : sequence of Place
        Columns per particle; at least one.
    jet : sequence of Place
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
        self.table, self.particle, self.jet = table, list(particle), list(jet)

    @abstractmethod
    def read(self, start: int, stop: int) -> tuple[np.ndarray, Columns]:
        """Offsets, and the columns, of jets `start` to `stop`."""

    def ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut the jets into pieces where the file is best cut."""
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

    def _own(self, columns: dict[SourceColumn, np.ndarray | Ragged]) -> Columns:
        return {place: to_native(self.table, place, values) for place, values in columns.items()}

    def _error(self, place: SourceColumn, what: str) -> InputError:
        return InputError(f"{self.table.path}: {self.table.noun} {place.reference!r} {what}")


class RaggedStorage(Layout):
    """One list per jet: ROOT vectors, Parquet lists."""

    def __init__(
        self, table: Table, particle: Sequence[SourceColumn], jet: Sequence[SourceColumn]
    ) -> None:
        super().__init__(table, particle, jet)
        self.num_jets = self.particle[0].shape[0] or 0
        self._check_shapes(2, "expected one list for each jet", self.jet)

    def read(self, start: int, stop: int) -> tuple[np.ndarray, Columns]:
        """Offsets, and the columns, of jets `start` to `stop`."""
        columns = read(self.table, [*self.particle, *self.jet], start, stop)
        first = columns[self.particle[0]]
        assert isinstance(first, Ragged)
        for place in self.particle:
            columns[place] = self._content(place, columns[place], first, start)
        return first.offsets, self._own(columns)

    def _content(
        self, place: SourceColumn, column: np.ndarray | Ragged, first: Ragged, start: int
    ) -> np.ndarray:
        """Numbers of a list that must be as long as the first in every jet."""
        assert isinstance(column, Ragged)
        if not np.array_equal(column.offsets, first.offsets):
            counts, expected = np.diff(column.offsets), np.diff(first.offsets)
            jet = int(np.flatnonzero(counts != expected)[0])
            raise self._error(
                place,
                f"has {counts[jet]} particles in jet {start + jet}, but "
                f"{self.particle[0].reference!r} has {expected[jet]}",
            )
        return column.content


class PaddedLayout(Layout):
    """As many slots for every jet, some of them empty.

    Parameters
    ----------
    table, particle, jet
        As for `Layout`.
    structure_column : sequence of Place
        Columns that tell which slots hold particles: not part of the jets where that is a mask
        or the number of particles.
    is_particle : callable
        From these columns, shape (B, P) or (B,), and P, which slots hold a particle.
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
        self._telling, self._is_particle = list(structure_column), is_particle
        self._check_shapes(2, "expected (jets, particles)", self.jet)
        for place in self._telling:
            if place.shape not in (first, first[:1]):
                raise self._error(place, f"has shape {describe_shape(place.shape)}")

    def read(self, start: int, stop: int) -> tuple[np.ndarray, Columns]:
        """Offsets, and the columns, of jets `start` to `stop`."""
        places = dict.fromkeys([*self.particle, *self.jet, *self._telling])
        columns = read(self.table, places, start, stop)
        slots = self.particle[0].shape[1] or 0
        try:
            real = self._is_particle([np.asarray(columns[p]) for p in self._telling], slots)
        except InputError as error:
            raise self._error(self._telling[0], str(error)) from error
        flat = {place: columns[place][real] for place in self.particle}  # type: ignore[index]
        per_jet = {place: columns[place] for place in self.jet}
        return as_offsets(np.count_nonzero(real, axis=1)), self._own({**flat, **per_jet})


def by_mask(columns: list[np.ndarray], slots: int) -> np.ndarray:
    """Slots where the mask is not 0."""
    if columns[0].ndim != 2:
        raise InputError("must be a mask of shape (jets, particles)")
    return columns[0] != 0


def by_counts(columns: list[np.ndarray], slots: int) -> np.ndarray:
    """The first slots of each jet."""
    counts = _whole(columns[0])
    if len(counts) and not 0 <= counts.min() <= counts.max() <= slots:
        raise InputError(f"spans {counts.min()} to {counts.max()}, but there are {slots} slots")
    return np.arange(slots) < counts[:, None]


def by_nonzero(columns: list[np.ndarray], slots: int) -> np.ndarray:
    """Slots where any of the columns is not 0: padding has no energy, wherever it is."""
    real = columns[0] != 0
    for column in columns[1:]:
        real |= column != 0
    return real


class FlatLayout(Layout):
    """All particles in one array, and where each jet starts.

    Parameters
    ----------
    table, particle, jet
        As for `Layout`.
    structure_column : Place
        The offsets, or the number of particles of each jet.
    is_counts : bool
        Which of the two.
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
        self._telling = structure_column
        self.num_jets = (structure_column.shape[0] or 0) - (not is_counts)
        if self.num_jets < 0:
            raise self._error(structure_column, "is empty; offsets are one more than the jets")
        self._check_shapes(1, "expected one number for each particle", self.jet)
        self._num_particles = self.particle[0].shape[0] or 0
        # Where a jet starts depends on all counts before it, so these are read now.
        self._offsets = as_offsets(self._read_telling(0, self.num_jets)) if is_counts else None

    def ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut into jets, whose particles may be anywhere in a chunk of the file."""
        return aligned_ranges(start, stop, 10_000)

    def read(self, start: int, stop: int) -> tuple[np.ndarray, Columns]:
        """Offsets, and the columns, of jets `start` to `stop`."""
        bounds = self._bounds(start, stop)
        columns = read(self.table, self.particle, int(bounds[0]), int(bounds[-1]))
        columns = self._own(columns)  # type: ignore[assignment]
        columns |= self._own(read(self.table, self.jet, start, stop))
        return bounds - bounds[0], columns  # type: ignore[return-value]

    def _bounds(self, start: int, stop: int) -> np.ndarray:
        """Rows of the particles of some jets."""
        if self._offsets is not None:
            bounds = self._offsets[start : stop + 1]
        else:
            bounds = self._read_telling(start, stop + 1)
        falls = np.flatnonzero(np.diff(bounds) < 0)
        if len(falls):
            raise self._error(self._telling, f"decreases at jet {start + falls[0]}")
        first, last, size = int(bounds[0]), int(bounds[-1]), self._num_particles
        is_cut = (start == 0 and first != 0) or (stop == self.num_jets and last != size)
        if first < 0 or last > size or is_cut:
            raise self._error(
                self._telling,
                f"puts jets {start} to {stop} at rows {first} to {last} of {size} particles",
            )
        return bounds

    def _read_telling(self, start: int, stop: int) -> np.ndarray:
        values = read(self.table, [self._telling], start, stop)[self._telling]
        try:
            whole = _whole(to_native(self.table, self._telling, values))
            if len(whole) and whole.min() < 0:
                raise InputError(f"is negative at jet {start + whole.argmin()}")
        except InputError as error:
            raise self._error(self._telling, str(error)) from error
        return whole


def _whole(values: np.ndarray) -> np.ndarray:
    """Numbers as int64, refusing fractions."""
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if not np.array_equal(whole, values):
        raise InputError("must be whole numbers")
    return whole
