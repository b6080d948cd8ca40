"""Types of the values in the files of a run, with the bounds that a file must keep.

They are the types of fields of dataclasses and dictionaries that :func:`pcloud.validation.checked`
reads. Every number that sets a loop or an allocation is bounded far above any use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval, Len

from pcloud.errors import InputError
from pcloud.validation import Checked, Converted

__all__ = [
    "KEEP_UNKNOWN",
    "Count",
    "Float",
    "Fraction",
    "Grid",
    "Integer",
    "Name",
    "Names",
    "NumberArray",
    "Numbers",
    "PlainOptions",
    "Text",
    "tensor",
]

_MAX_NUMBER = 1e100  # physical numbers are far below; figures and sums of larger ones overflow
_MAX_ENTRIES = 10**7  # numbers in one array of a file
_MAX_DEPTH = 8  # levels of the options of a model
_MAX_OPTION = 10**6  # largest number in the options of a model that is not a seed
_MAX_OPTIONS = 1000  # items of one list or mapping there


def _number_or_nan(value: Any) -> Any:
    """Read None as NaN, which JSON does not have."""
    return math.nan if value is None else value


def _bounded(value: float) -> float:
    if abs(value) > _MAX_NUMBER:
        raise InputError(f"{value:g} is beyond {_MAX_NUMBER:g}")
    return value


Float = Annotated[float, Converted(_bounded, after=True), Converted(_number_or_nan)]
"""Number of a file, of at most 1e100, or NaN, which the file has as null."""

Fraction = Annotated[float, Interval(ge=0, le=1)]
"""Number from 0 to 1."""

Count = Annotated[int, Interval(ge=0, le=10**15)]
"""Number of jets or of other things."""

Integer = Annotated[int, Interval(ge=-(2**64), le=2**64)]
"""Any integer, such as a seed or a checksum."""

Text = Annotated[str, Len(0, 10_000)]
"""Text of bounded length."""

Name = Annotated[str, Len(1, 1000)]
"""Name of something."""


def _different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise InputError(f"{', '.join(names[:12])} repeat")
    return names


Names = Annotated[list[Name], Len(1, 10_000), Converted(_different, after=True)]
"""Different names, such as those of classes."""


@dataclass(frozen=True)
class _Array:
    """Check that nested lists are a rectangular array of numbers with some number of axes."""

    ndim: int
    convert: bool

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, list | tuple | np.ndarray):
            raise InputError(f"expected {_SHAPES[self.ndim]}, got {type(value).__name__}")
        try:
            array = np.array(value, dtype=float)
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise InputError(f"not {_SHAPES[self.ndim]}") from None
        if array.ndim == 1 and self.ndim == 2 and not array.size:
            array = array.reshape(0, 0)
        if array.ndim != self.ndim or array.size > _MAX_ENTRIES:
            raise InputError(f"not {_SHAPES[self.ndim]}, but an array of shape {array.shape}")
        if (np.abs(array) > _MAX_NUMBER).any():
            raise InputError(f"has numbers beyond {_MAX_NUMBER:g}")
        return array if self.convert else value


_SHAPES = {1: "a list of numbers", 2: "rows of numbers, all equally long"}

Numbers = Annotated[list[float], Checked(_Array(1, convert=False))]
"""List of numbers, None for NaN, which stays a list."""

Grid = Annotated[list[list[float]], Checked(_Array(2, convert=False))]
"""Rows of numbers, which stay lists."""

NumberArray = Annotated[np.ndarray, Checked(_Array(2, convert=True))]
"""Rows of numbers, converted to an array of two axes, with NaN for None."""


def _plain_options(value: Any, place: str = "", depth: int = 0) -> Any:
    """Options of a model: numbers of usual sizes, strings, None, and short lists of these."""
    if depth > _MAX_DEPTH:
        raise InputError(f"{place}: more than {_MAX_DEPTH} levels")
    if isinstance(value, dict | list | tuple):
        if len(value) > _MAX_OPTIONS:
            raise InputError(f"{place}: {len(value)} items, more than {_MAX_OPTIONS}")
        if isinstance(value, dict):
            return {
                str(key): _plain_options(entry, f"{place}.{key}".lstrip("."), depth + 1)
                for key, entry in value.items()
            }
        entries = (_plain_options(v, f"{place}.{i}", depth + 1) for i, v in enumerate(value))
        return type(value)(entries)
    most = 2**64 if place.endswith("seed") else _MAX_OPTION
    if isinstance(value, int | float) and not -most <= value <= most:
        raise InputError(f"{place}: {value:g} is not between {-most:,} and {most:,}")
    return value


PlainOptions = Annotated[dict[str, Any], Converted(_plain_options, after=True)]
"""Options of a model by name."""


KEEP_UNKNOWN = {"extra": "allow"}
"""``__pydantic_config__`` of a `TypedDict` that keeps further entries, as newer versions may have."""


def tensor(check: Callable[[Any], None] = lambda value: None) -> Checked:
    """Marker of a field that is a tensor, which `check` may refuse with an InputError."""

    def is_tensor(value: Any) -> Any:
        import torch

        if not isinstance(value, torch.Tensor):
            raise InputError(f"expected a tensor, got {type(value).__name__}")
        check(value)
        return value

    return Checked(is_tensor)
