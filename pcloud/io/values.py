"""Values of the first rows of a column, and what can be seen in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pcloud.io.source_columns import describe_shape
from pcloud.io.table import Shape

__all__ = ["ColumnValues"]

_MAX_DISTINCT = 30  # classes of a label


@dataclass(frozen=True)
class ColumnValues:
    """Column of a file with the values of its first rows.

    Parameters
    ----------
    name : str
        Name in the file.
    shape : Shape
        Shape of the whole column; None for sizes that differ between rows.
    values : array
        Values of the first rows; those of lists one after another.
    lengths : array of int, optional
        Lengths of the innermost lists.
    row_lengths : array of int, shape (B,), optional
        Lengths of the lists of the rows.
    error : str, optional
        Reason why the column cannot be read.
    """

    name: str
    shape: Shape
    values: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    lengths: np.ndarray | None = field(default=None, repr=False)
    row_lengths: np.ndarray | None = field(default=None, repr=False)
    error: str | None = None

    @property
    def depth(self) -> int:
        """Number of axes beside that of the rows."""
        return len(self.shape) - 1

    @cached_property
    def finite(self) -> np.ndarray:
        """Finite values, flat."""
        values = np.ma.compressed(self.values.reshape(-1))
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        return values

    @cached_property
    def distinct(self) -> list[int]:
        """Whole numbers that occur; empty if there are others or too many."""
        values = self.finite
        if values.dtype.kind not in "biuf" or (values != np.floor(values)).any():
            return []
        found = np.unique(values)
        return [int(value) for value in found] if len(found) <= _MAX_DISTINCT else []

    def row(self) -> list[str]:
        """Cells of a table: name, shape, type, lengths, lowest and highest value, NaN."""
        kind = str(self.values.dtype.newbyteorder("=")) if self.values.dtype.kind != "U" else "text"
        cells = [self.name, describe_shape(self.shape), kind, _range_text(self.lengths)]
        if self.values.dtype.kind not in "biuf" or not len(self.finite):
            return [*cells, "", "", self._missing()]
        return [*cells, _number(self.finite.min()), _number(self.finite.max()), self._missing()]

    def _missing(self) -> str:
        if not self.values.size or len(self.finite) == self.values.size:
            return ""
        return f"{1 - len(self.finite) / self.values.size:.2%}"


def _range_text(lengths: np.ndarray | None) -> str:
    return "" if lengths is None or not len(lengths) else f"{lengths.min()} to {lengths.max()}"


def _number(value: np.generic) -> str:
    return str(value) if value.dtype.kind in "biu" else f"{value:.5g}"
