"""Interface of all file formats: named columns that are read by rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcloud.io.schema import JetSchema

__all__ = ["Ragged", "Shape", "Source", "Table", "aligned_ranges", "column_names"]

#: Name of a column, or names of the columns of all particle slots of a flat table.
Source = str | tuple[str, ...]

#: Number of rows and sizes of the other axes; None for a size that differs between rows.
Shape = tuple[int | None, ...]

#: Bytes read at a time: 2000 Landscape rows. Decoded data are used while they are in the cache.
PIECE_BYTES = 6 << 20

_RANGE_ROWS = 10_000  # of formats without chunks


@dataclass
class Ragged:
    """Rows of different lengths: row ``i`` is ``content[offsets[i]:offsets[i + 1]]``.

    If the rows are lists of lists, row ``i`` is the lists ``offsets[i]:offsets[i + 1]``, and list
    ``j`` is ``content[inner[j]:inner[j + 1]]``. The first offsets are 0.
    """

    offsets: np.ndarray
    content: np.ndarray
    inner: np.ndarray | None = None


class Table(ABC):
    """Open file with named columns.

    Parameters
    ----------
    path : Path
        File, for the messages.

    Attributes
    ----------
    columns : dict of str to Shape
        Shape of each column that can be read.
    texts : dict of str to Shape
        Shape of each column that contains words, which can be a label.
    unreadable : dict of str to str
        Reason for each column that is in the file and cannot be read.
    classes : tuple of str
        Names of the classes, if the file has them.
    threads : int
        Number of threads that can read at the same time; 0 if threads do not make it faster.
    noun : str
        Word for a column in this format, for the messages.
    """

    noun = "column"
    threads = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: dict[str, Shape] = {}
        self.texts: dict[str, Shape] = {}
        self.unreadable: dict[str, str] = {}
        self.classes: tuple[str, ...] = ()

    @abstractmethod
    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` of some columns; the arrays are valid until the next call.

        A column of whole numbers of which some are missing is a masked array.
        """

    def read(
        self, sources: Sequence[Source], start: int, stop: int
    ) -> dict[Source, np.ndarray | Ragged]:
        """Rows `start` to `stop`; the columns of all slots become one array (B, P)."""
        columns = self.read_columns(list(dict.fromkeys(column_names(sources))), start, stop)
        return {s: columns[s] if isinstance(s, str) else _stack(columns, s) for s in sources}

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the rows `start` to `stop` into ranges that are efficient to read."""
        return aligned_ranges(start, stop, _RANGE_ROWS)

    def entries(self, start: int, stop: int) -> np.ndarray:
        """Rows of the file to which the rows `start` to `stop` of the table belong, int64."""
        return np.arange(start, stop, dtype=np.int64)

    def native_schema(self) -> JetSchema | None:
        """Schema of the file if it was written by pcloud, else None."""
        return None

    def groups(self) -> list[tuple[int, int]]:
        """Ranges of rows that are read as fast from the middle of the file as from its start."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


def column_names(sources: Iterable[Source]) -> list[str]:
    """Names of all columns of some sources."""
    names: list[str] = []
    for source in sources:
        names += [source] if isinstance(source, str) else source
    return names


def _stack(columns: Mapping[str, np.ndarray | Ragged], slots: tuple[str, ...]) -> np.ndarray:
    """Columns of all particle slots as one array, shape (B, P)."""
    return np.stack([np.asarray(columns[name]) for name in slots], axis=1)


def aligned_ranges(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Ranges from `start` to `stop`, divided at the multiples of `step`."""
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end
