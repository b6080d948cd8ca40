"""Parts of the jets that are test jets in turn, for cross-validation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pcloud.errors import InputError

__all__ = ["Fold"]


@dataclass(frozen=True)
class Fold:
    """One of several parts of the jets, by their keys, that are test jets in turn.

    Parameters
    ----------
    index : int
        Number of the part, from 1.
    number : int
        Number of parts, at least 2.
    """

    index: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Fold:
        """Fold from a text such as ``"2/5"``.

        Raises
        ------
        InputError
            If it is not a fold.
        """
        match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text.strip())
        index, number = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= index <= number or number < 2:
            raise InputError(
                f"fold must be i/k with 1 <= i <= k and k >= 2, such as 2/5, got {text!r}"
            )
        return cls(index, number)

    def __str__(self) -> str:
        return f"{self.index}/{self.number}"

    @property
    def numbers(self) -> tuple[int, int]:
        """Range of the random numbers of the part, for :func:`pcloud.keys.in_split`."""
        return (self.index - 1) * 2**64 // self.number, self.index * 2**64 // self.number
