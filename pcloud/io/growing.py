"""Columns to which values are appended, in memory that grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from pcloud.errors import InputError
from pcloud.storage import MEMORY, Storage

__all__ = ["GrowingColumn", "GrowingColumns"]

#: Largest ratio of the memory reserved for a column to its present size. The first jets of a file can
#: be unlike the others.
_MAX_GROWTH = 100


class GrowingColumns:
    """Columns by kind and name, to which values can be appended.

    Parameters
    ----------
    prefix : str
        Beginning of the names in error messages.
    storage : Storage
        Place of the values.
    """

    def __init__(self, prefix: str = "", storage: Storage = MEMORY) -> None:
        self._prefix = prefix
        self._storage = storage
        self._columns: dict[tuple[str, str], GrowingColumn] = {}

    def append(
        self,
        columns: Iterable[tuple[tuple[str, str], np.ndarray]],
        rooms: Mapping[str, int],
        room: int,
    ) -> None:
        """Append copies; memory is reserved for the numbers of values in `rooms` by kind, or `room`."""
        for key, values in columns:
            if key not in self._columns:
                self._columns[key] = GrowingColumn(f"{self._prefix}{key[1]}", self._storage)
            self._columns[key].append(values, rooms.get(key[0], room))

    def of(self, kind: str) -> dict[str, np.ndarray]:
        """Arrays of a kind by name."""
        return {name: c.values for (own, name), c in self._columns.items() if own == kind}


class GrowingColumn:
    """Array to which values can be appended.

    Parameters
    ----------
    name : str
        Name of the column, for error messages.
    storage : Storage
        Place of the values.
    """

    def __init__(self, name: str, storage: Storage = MEMORY) -> None:
        self._name = name
        self._storage = storage
        self._memory = np.empty(0)
        self._size = 0

    @property
    def values(self) -> np.ndarray:
        """Values that were appended."""
        return self._memory[: self._size]

    def append(self, values: np.ndarray, room: int) -> None:
        """Append a copy of `values`; memory is reserved for at least `room` values.

        Raises
        ------
        InputError
            If whole numbers would lose digits.
        """
        size = self._size + len(values)
        room = min(room, _MAX_GROWTH * size)
        dtype = self._common_type(values)
        if size > len(self._memory) or dtype != self._memory.dtype:
            length = max(size, room, len(self._memory) * 3 // 2)
            memory = self._storage.array((length,), dtype)
            memory[: self._size] = self.values
            self._storage.release(self._memory)
            self._memory = memory
        self._memory[self._size : size] = values
        self._size = size

    def _common_type(self, values: np.ndarray) -> np.dtype:
        """Type that holds the present values and others exactly."""
        if not self._size:
            return values.dtype
        dtype = np.result_type(self._memory, values)
        present = self.values
        kinds = {present.dtype.kind, values.dtype.kind}
        if dtype == present.dtype or dtype.kind != "f" or not kinds & set("iu"):
            return dtype
        if kinds <= set("iu"):  # uint64 beside signed numbers
            for integer in (np.dtype(np.int64), np.dtype(np.uint64)):
                if _holds(integer, present) and _holds(integer, values):
                    return integer
        whole = [a for a in (present, values) if a.dtype.kind in "iu"]
        if all(_holds_exactly(dtype, a) for a in whole):
            return dtype
        raise InputError(
            f"column {self._name!r} has {present.dtype} in some places and {values.dtype} in others, "
            "and numbers that no common type holds exactly: read the files separately"
        )


def _holds(integer: np.dtype, values: np.ndarray) -> bool:
    """Return True if all of some whole numbers are in the range of an integer type."""
    limits = np.iinfo(integer)
    return not len(values) or (limits.min <= int(values.min()) and int(values.max()) <= limits.max)


def _holds_exactly(dtype: np.dtype, values: np.ndarray) -> bool:
    """Return True if a floating-point type has all whole numbers up to the largest of some."""
    limit = 2 ** (np.finfo(dtype).nmant + 1)
    return not len(values) or max(abs(int(values.min())), abs(int(values.max()))) <= limit
