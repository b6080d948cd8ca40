"""Inputs of a network on series: records of one length, standardised by the training records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor
from typing_extensions import TypedDict

from pcloud.errors import InputError
from pcloud.series.series import Series
from pcloud.stored_values import Float
from pcloud.validation import checked

__all__ = ["SeriesFormat"]

_Size = Annotated[int, Interval(ge=1, le=10**7)]


class _Stored(TypedDict):
    """Plain values of a format."""

    length: _Size
    shift: list[Float]
    scale: list[Annotated[float, Interval(gt=0, le=1e30)]]


@dataclass(frozen=True)
class SeriesFormat:
    """Length of records, and shift and scale of each of their channels.

    Parameters
    ----------
    length : int
        Number of samples T.
    shift, scale : tuple of float
        Mean and standard deviation of all samples of each channel of the training records.
    """

    kind: ClassVar[str] = "series"
    columns: ClassVar[tuple[str, ...]] = ()
    jet_columns: ClassVar[tuple[str, ...]] = ()
    names: ClassVar[tuple[str, ...]] = ()  # samples have no names

    length: int
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, series: Series, *, standardise: bool = True) -> SeriesFormat:
        """Determine the format of training records."""
        _, channels, length = series.records.shape
        shift = np.zeros(channels)
        scale = np.ones(channels)
        if standardise:
            shift = series.records.mean(axis=(0, 2), dtype=np.float64)
            scale = series.records.std(axis=(0, 2), dtype=np.float64)
        return cls(length, tuple(shift.tolist()), tuple(np.where(scale > 0, scale, 1.0).tolist()))

    def __len__(self) -> int:
        """Number of channels, the input features of a network."""
        return len(self.shift)

    @property
    def standardisation(self) -> SeriesFormat:
        """The format itself."""
        return self

    def __call__(self, series: Series) -> Tensor:
        """Inputs (B, F, T) of a network, float32.

        Raises
        ------
        InputError
            If the records have another length or number of channels.
        """
        found = series.records.shape[1:]
        if found != (len(self), self.length):
            raise InputError(
                f"these records have (channels, samples) = {found}, the network takes "
                f"{(len(self), self.length)}"
            )
        shift, scale = (torch.tensor(x).view(-1, 1) for x in (self.shift, self.scale))
        return (torch.from_numpy(series.records) - shift) / scale

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""
        return {"length": self.length, "shift": list(self.shift), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SeriesFormat:
        """Inverse of `to_dict`."""
        found = checked(_Stored, values)
        if not len(found["shift"]) == len(found["scale"]) > 0:
            raise InputError("shift, scale: not one for each channel")
        return cls(found["length"], tuple(found["shift"]), tuple(found["scale"]))
