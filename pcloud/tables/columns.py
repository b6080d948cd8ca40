"""Inputs of a network on tables: columns, standardised by the training events."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor
from typing_extensions import TypedDict

from pcloud.errors import InputError
from pcloud.stored_values import Float, Fraction, Names
from pcloud.tables.table import Table
from pcloud.validation import checked

__all__ = ["MissingValueWarning", "TableColumns"]


class MissingValueWarning(UserWarning):
    """Warning of missing values in a column that had none in the training."""


class _Stored(TypedDict):
    """Plain values of the inputs."""

    columns: Names
    shift: list[Float]
    scale: list[Annotated[float, Interval(gt=0, le=1e100)]]
    missing: list[Fraction]


@dataclass(frozen=True)
class TableColumns:
    """Columns of a table in their order, with shift and scale.

    An input is ``(value - shift) / scale``, and 0 where the value is missing: the mean of the
    training events.

    Parameters
    ----------
    names : tuple of str
        Names of the columns.
    shift, scale : tuple of float
        Mean and standard deviation of the training events.
    missing : tuple of float
        Fraction of the training events that have no value.
    """

    kind: ClassVar[str] = "table"
    jet_columns: ClassVar[tuple[str, ...]] = ()

    names: tuple[str, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    missing: tuple[float, ...]

    @classmethod
    def fit(cls, table: Table, names: Sequence[str], *, standardise: bool = True) -> TableColumns:
        """Determine mean and standard deviation of columns of training events."""
        values = table.matrix(tuple(names))
        absent = np.isnan(values)
        if (whole := absent.all(axis=0)).any():
            raise InputError(
                f"column {names[int(whole.argmax())]!r} is missing in all training events: leave it out"
            )
        ones = np.ones(len(names))
        shift = np.nanmean(values, axis=0) if standardise else 0 * ones
        scale = np.nanstd(values, axis=0) if standardise else ones
        scale = np.where(scale > 0, scale, 1.0)
        lists = (shift, scale, absent.mean(axis=0))
        return cls(tuple(names), *(tuple(x.tolist()) for x in lists))

    def __len__(self) -> int:
        """Number of inputs of a network."""
        return len(self.names)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that a table must have."""
        return self.names

    @property
    def standardisation(self) -> tuple[tuple[float, float], ...]:
        """Shift and scale of each input."""
        return tuple(zip(self.shift, self.scale, strict=True))

    def __call__(self, table: Table, missing: float = 0.0) -> Tensor:
        """Inputs (B, F) of a network, float32, with `missing` for missing values."""
        values = table.matrix(self.names)
        absent = np.isnan(values)
        new = [
            n
            for n, m, a in zip(self.names, self.missing, absent.T, strict=True)
            if not m and a.any()
        ]
        if new:
            warnings.warn(
                f"missing values in {', '.join(new)}, which had none in the training events: the "
                "network takes the training mean for them",
                MissingValueWarning,
                stacklevel=2,
            )
        x = (values - np.array(self.shift)) / np.array(self.scale)
        return torch.from_numpy(np.where(absent, missing, x).astype(np.float32))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""
        return {
            "columns": list(self.names),
            "shift": list(self.shift),
            "scale": list(self.scale),
            "missing": list(self.missing),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TableColumns:
        """Inverse of `to_dict`."""
        found = checked(_Stored, values)
        names, shift, scale, missing = (found[n] for n in ("columns", "shift", "scale", "missing"))
        if not len(names) == len(shift) == len(scale) == len(missing):
            raise InputError("shift, scale, missing: not one for each column")
        return cls(tuple(names), tuple(shift), tuple(scale), tuple(missing))
