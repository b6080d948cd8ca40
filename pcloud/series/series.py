"""Events as records of samples, such as the pulses of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.text import for_terminal
from pcloud.uniform import Entries
from pcloud.words import number_of

__all__ = ["Series"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Series(Entries):
    """Records of equal length, one per event.

    Parameters
    ----------
    records : ndarray, shape (B, T) or (B, F, T)
        T samples of F channels; records of one channel get the shape (B, 1, T). Float32.
    label, weight, targets, kept, attrs
        As for :class:`~pcloud.uniform.Entries`.

    Raises
    ------
    InputError
        If the records differ in length, or are no numbers.
    """

    records: NDArray[np.float32]

    def __post_init__(self) -> None:
        try:
            records = np.asarray(self.records, dtype=np.float32)
        except (TypeError, ValueError):
            raise InputError("records of unequal length, or that are no numbers") from None
        if records.ndim == 2:
            records = records[:, None]
        if records.ndim != 3 or 0 in records.shape[1:]:
            raise InputError(
                f"an array of shape {records.shape} is no records: (B, T), or (B, F, T) of F channels"
            )
        object.__setattr__(self, "records", records)
        super().__post_init__()

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        """Number and size of the records."""
        _, channels, length = self.records.shape
        size = f"{number_of(channels, 'channel')} x {number_of(length, 'sample')}"
        return for_terminal(f"Series of {number_of(len(self), 'record')}, {size}")

    def _own_columns(self) -> dict[str, NDArray[Any]]:
        return {"records": self.records}

    def content(self) -> NDArray[np.generic]:
        """Samples (B, F, T)."""
        return self.records
