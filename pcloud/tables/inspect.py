"""Columns of a table, and the schema fields that may fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcloud.io.files import Paths, expand_paths
from pcloud.tables.files import read_columns
from pcloud.tables.schema import TableSchema

__all__ = ["TableContents", "inspect_table"]

_MAX_CLASSES = 20
_NUM_SHOWN_VALUES = 4


@dataclass(frozen=True)
class TableContents:
    """Columns of a file of events.

    Parameters
    ----------
    path : Path
        File.
    columns : dict of str to ndarray, shape (B,)
        Columns of numbers and words.
    """

    path: Path
    columns: dict[str, NDArray[Any]]

    def rows(self) -> list[list[str]]:
        """Rows of a table of the columns; the first is the header."""
        header = ["column", "type", "lowest", "highest", "NaN", "missing", "values"]
        return [header, *(self._row(name) for name in self.columns)]

    def _row(self, name: str) -> list[str]:
        values = self.columns[name]
        distinct = np.unique(values[values == values])
        shown = ", ".join(str(value) for value in distinct[:_NUM_SHOWN_VALUES])
        few = shown if len(distinct) <= _NUM_SHOWN_VALUES else f"{len(distinct):,} different"
        if values.dtype.kind == "U":
            return [name, "words", "", "", "", "", few]
        missing = TableSchema().is_missing(values.astype(np.float64))
        finite = values[np.isfinite(values) & ~missing]
        limits = [f"{finite.min():.4g}", f"{finite.max():.4g}"] if len(finite) else ["", ""]
        numbers = [f"{(values != values).sum():,}", f"{missing.sum():,}"]
        return [name, str(values.dtype), *limits, *numbers, few]

    @property
    def num_rows(self) -> int:
        """Number of events."""
        return len(next(iter(self.columns.values())))

    def options(self) -> dict[str, str]:
        """Options of ``pcloud train`` for this file: columns of the label and of the weight."""
        schema = TableSchema().for_columns(list(self.columns))
        label = schema.label or next(filter(self._may_be_label, self.columns), None)
        found = {"--schema.label": label, "--schema.weight": schema.weight}
        return {option: column for option, column in found.items() if column is not None}

    def _may_be_label(self, name: str) -> bool:
        """True for words of a few different kinds."""
        values = self.columns[name]
        return values.dtype.kind == "U" and 2 <= len(np.unique(values)) <= _MAX_CLASSES


def inspect_table(path: Paths) -> TableContents:
    """Look at the columns of a file of events.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it cannot be read.
    """
    file = expand_paths(path)[0]
    return TableContents(file, read_columns(file))
