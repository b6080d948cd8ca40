"""History of a training: the metrics of each epoch, and the file that keeps them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError, UnknownNameError
from pcloud.run_files import HISTORY_FILE, file_errors, read_text, write_text
from pcloud.text_tables import aligned, html_table

__all__ = ["History"]

Row = Mapping[str, float]

_MAX_EPOCH = 10**9
_MAX_DRAWN = 1e100  # figures of larger numbers overflow


class History(Sequence[Row]):
    """Metrics of each epoch, one row per epoch, as in ``metrics.csv``.

    Behaves as a list of dictionaries, prints as a table, and gives its columns as arrays.

    Parameters
    ----------
    rows : iterable of mapping of str to float
        Metrics of each epoch by column, with the number of the epoch as ``"epoch"``.
    columns : sequence of str, optional
        Names of the columns; by default those of the first row.

    Examples
    --------
    >>> history = History([{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.4}])
    >>> history[-1]["val_loss"]
    0.4
    >>> history.column("val_loss").tolist()
    [0.5, 0.4]
    """

    def __init__(self, rows: Iterable[Row] = (), columns: Sequence[str] | None = None) -> None:
        self._rows = list(rows)
        self.columns = tuple(columns or (self._rows[0] if self._rows else ()))

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> Row | History:
        if isinstance(index, slice):
            return History(self._rows[index], self.columns)
        return self._rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._rows == list(other)

    __hash__ = None  # type: ignore[assignment]

    def column(self, name: str) -> NDArray[np.float64]:
        """Values of a column, shape (epochs,); NaN in epochs without a value.

        Raises
        ------
        UnknownNameError
            If there is no such column.
        """
        if name not in self.columns:
            raise UnknownNameError("column", name, self.columns)
        return np.array([row.get(name, np.nan) for row in self._rows], dtype=np.float64)

    def curves(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Epochs and finite values of each column but ``"epoch"``, where it has such values."""
        curves = {}
        for name in self.columns:
            rows = [row for row in self._rows if abs(row.get(name, math.inf)) <= _MAX_DRAWN]
            if name != "epoch" and rows:
                epochs, values = ([row[key] for row in rows] for key in ("epoch", name))
                curves[name] = (np.array(epochs, float), np.array(values, float))
        return curves

    def rows(self) -> list[list[str]]:
        """Table as text, the names of the columns first."""
        cells = [[_cell(row.get(name)) for name in self.columns] for row in self._rows]
        return [list(self.columns), *cells]

    def __str__(self) -> str:
        return aligned(self.rows()) if self._rows else "no epoch is finished"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self.rows()) if self._rows else str(self)

    def write(self, folder: str | Path) -> Path:
        """Write ``metrics.csv`` into the folder of a run; return its path."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(dict(row) for row in self._rows)
        path = Path(folder) / HISTORY_FILE
        write_text(path, text.getvalue())
        return path

    @classmethod
    def read(cls, folder: str | Path) -> History:
        """Read the ``metrics.csv`` of a run folder.

        Empty cells are left out of their row. If an epoch appears twice, the later row counts.

        Raises
        ------
        FileNotFoundError
            If there is none.
        InputError
            If it has no column ``epoch``, or a row is not of numbers.
        """
        path = Path(folder) / HISTORY_FILE
        if not path.exists():
            raise FileNotFoundError(f"no file {path}: training writes it after each epoch")
        with file_errors(path, "history of a training", "remove or restore the file"):
            return cls._parse(read_text(path))

    @classmethod
    def _parse(cls, text: str) -> History:
        reader = csv.DictReader(text.splitlines())
        columns = reader.fieldnames or ()
        if columns and "epoch" not in columns:
            raise InputError(f"no column epoch, only {', '.join(columns)}")
        rows: dict[float, Row] = {}
        for number, row in enumerate(reader, start=2):
            try:
                values = {name: float(value) for name, value in row.items() if value}
                if not 0 <= values["epoch"] <= _MAX_EPOCH:
                    raise InputError(f"line {number}: epoch {values['epoch']:g}")
                rows[values["epoch"]] = values
            except InputError:
                raise
            except (KeyError, TypeError, ValueError):
                raise InputError(f"line {number}: not a row of numbers") from None
        return cls(rows.values(), columns)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}"
