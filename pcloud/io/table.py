"""What every file format offers, whatever the columns mean: named columns, read by rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcloud.io.schema import JetSchema

__all__ = ["Ragged", "Shape", "Source", "Table", "aligned_ranges"]

#: One column, or the columns of all particle slots of a flat table, side by side.
Source = str | tuple[str, ...]

#: Rows and the sizes of the further axes; None where these differ from row to row.
Shape = tuple[int | None, ...]

#: Bytes read at once. Two thousand Landscape rows: decoded data are used while still in cache.
PIECE_BYTES = 6 << 20


@dataclass
class Ragged:
    """Rows of any length: row ``i`` is ``content[offsets[i]:offsets[i + 1]]``; starts at 0."""

    offsets: np.ndarray
    content: np.ndarray


class Table(ABC):
    """An open file.

    Parameters
    ----------
    path : Path
        The file, for the messages.

    Attributes
    ----------
    columns : dict of str to Shape
        What can be read.
    classes : tuple of str
        Names of the classes, where the file knows them.
    threads : int
        How many threads may read at once; 0 where that gains nothing.
    noun : str
        What the format calls a column.
    """

    noun = "column"
    threads = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: dict[str, Shape] = {}
        self.classes: tuple[str, ...] = ()

    @abstractmethod
    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` of some columns; arrays are valid until the next call."""

    def read(
        self, sources: Sequence[Source], start: int, stop: int
    ) -> dict[Source, np.ndarray | Ragged]:
        """Rows `start` to `stop`; columns side by side become one array, one row per jet."""
        names = [n for s in sources for n in ((s,) if isinstance(s, str) else s)]
        columns = self.read_columns(list(dict.fromkeys(names)), start, stop)
        return {s: columns[s] if isinstance(s, str) else _stack(columns, s) for s in sources}

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut rows `start` to `stop` where this file is best cut."""
        return aligned_ranges(start, stop, 10_000)

    def native_schema(self) -> JetSchema | None:
        """The schema of our own layout, if that is what the file has."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


def _stack(columns: Mapping[str, np.ndarray | Ragged], slots: tuple[str, ...]) -> np.ndarray:
    """Columns of particle slots side by side, shape (B, P)."""
    return np.stack([np.asarray(columns[name]) for name in slots], axis=1)


def aligned_ranges(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut at the multiples of `step`."""
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end
