"""Events as rows of a table, with columns by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError, UnknownNameError
from pcloud.text import for_terminal
from pcloud.uniform import Entries
from pcloud.words import number_of

__all__ = ["Table"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Table(Entries):
    """Events, one per row.

    Parameters
    ----------
    columns : mapping of str to ndarray, each of shape (B,)
        Numbers by the name of their column, NaN where an event has no value.
    label, weight, targets, kept, attrs
        As for :class:`~pcloud.uniform.Entries`.

    Raises
    ------
    InputError
        If columns differ in length or are not one number per event.

    Examples
    --------
    >>> table = Table(columns={"x": [0.5, -1.0]}, label=[1, 0])
    >>> table
    Table of 2 events with 1 column: x
    """

    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {n: np.asarray(c, dtype=np.float64) for n, c in self.columns.items()}
        object.__setattr__(self, "columns", columns)
        super().__post_init__()
        for name, values in columns.items():
            if values.ndim != 1:
                raise InputError(
                    f"column {name!r} has the shape {values.shape}: one number per event is expected"
                )

    def __len__(self) -> int:
        known = [*self.columns.values(), *self.targets.values()]
        return len(known[0]) if known else 0

    def __repr__(self) -> str:
        """Numbers of events and columns."""
        names = ", ".join(self.columns)
        columns = number_of(len(self.columns), "column")
        return for_terminal(f"Table of {number_of(len(self), 'event')} with {columns}: {names}")

    def _own_columns(self) -> Mapping[str, NDArray[Any]]:
        return self.columns

    def content(self) -> NDArray[np.generic]:
        """Columns (B, K) in the order of their names."""
        return self.matrix(tuple(sorted(self.columns)))

    def matrix(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Columns (B, F) of some names.

        Raises
        ------
        UnknownNameError
            If there is no such column.
        """
        for name in names:
            if name not in self.columns:
                raise UnknownNameError("column", name, self.columns)
        return np.stack([self.columns[name] for name in names], axis=1)
