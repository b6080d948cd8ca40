"""Functions of expressions for numpy arrays and constants, for each element.

Numbers are computed in float64 and integers in 64 bits, so that event numbers stay exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError

__all__ = ["Array", "apply", "number"]

Array = NDArray[Any]


def number(x: Any, function: str) -> Any:
    """Numbers in 64 bits: integers exact where they fit, else float64."""
    if isinstance(x, bool):
        return int(x)
    if isinstance(x, str) or (isinstance(x, np.ndarray) and x.dtype.kind == "U"):
        raise InputError(f"{function}() takes numbers, not texts")
    if not isinstance(x, np.ndarray):
        return x
    if x.dtype.kind == "f":
        return x.astype(np.float64, copy=False)
    if x.dtype == np.uint64 and x.size and x.max() >= 2**63:
        return x
    return x.astype(np.int64, copy=False)


def _truth(x: Any) -> Any:
    if isinstance(x, str) or (isinstance(x, np.ndarray) and x.dtype.kind == "U"):
        raise InputError("a text is neither true nor false")
    return np.not_equal(x, 0)


def _is_text(x: Any) -> bool:
    return isinstance(x, str) or (isinstance(x, np.ndarray) and x.dtype.kind == "U")


def _integer(x: Any) -> bool:
    return isinstance(x, int) or (isinstance(x, np.ndarray) and x.dtype.kind in "iu")


def _bits(function: Callable[..., Array], logical: Callable[..., Array]) -> Callable[..., Array]:
    """Function of truth values, or of the bits of integers."""

    def apply_bits(*x: Any) -> Array:
        if all(isinstance(a, bool) or getattr(a, "dtype", None) == np.bool_ for a in x):
            return logical(*x)
        numbers = [number(a, function.__name__) for a in x]
        if all(_integer(a) for a in numbers):
            return function(*numbers)
        raise InputError(
            "&, |, ^ and ~ take truth values or integers; comparisons beside them need brackets, "
            "such as (pt > 5) & (eta < 2)"
        )

    return apply_bits


def _whole(function: Callable[..., Array]) -> Callable[..., Array]:
    """Division with a whole quotient, exact for integers, and NaN or infinite for a divisor 0."""

    def divide(x: Any, y: Any) -> Array:
        if _integer(x) and _integer(y) and not np.any(np.equal(y, 0)):
            return function(x, y)
        return function(np.asarray(x, np.float64), y)

    return divide


def _minus(x: Any, y: Any = None) -> Array:
    """Negative, or difference; numbers from 2^63 on become float64, which has a sign."""
    x, y = (
        a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.uint64 else a
        for a in (x, y)
    )
    return np.negative(x) if y is None else np.subtract(x, y)


def _to_integer(x: Any) -> Array:
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    if x.size and not (np.abs(x) < 2**63).all():
        raise InputError("int() takes finite numbers below 2^63")
    return x.astype(np.int64)


def _power(x: Any, y: Any) -> Array:
    return np.power(np.asarray(x, np.float64), y)


def _isin(x: Any, *values: Any) -> Array:
    found = np.equal(x, values[0]) if values else np.zeros(np.shape(x), np.bool_)
    for value in values[1:]:
        found = found | np.equal(x, value)
    return found


_NUMERIC: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(np, name)
        for name in (
            *("add", "multiply", "divide", "positive", "minimum", "maximum", "sign", "sqrt"),
            *("exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "arcsin"),
            *("arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh"),
            *("hypot", "arctan2", "floor", "ceil", "isnan", "isfinite"),
        )
    },
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
    "round": np.rint,
    "subtract": _minus,
    "negative": _minus,
    "remainder": _whole(np.remainder),
    "floor_divide": _whole(np.floor_divide),
    "power": _power,
    "int": _to_integer,
    "float": lambda x: np.asarray(x, np.float64),
    "where": lambda condition, x, y: np.where(_truth(condition), x, y),
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "wrap_phi": lambda x: np.pi - np.remainder(np.pi - np.asarray(x, np.float64), 2 * np.pi),
}

_LOGICAL: dict[str, Callable[..., Any]] = {
    "logical_and": lambda x, y: np.logical_and(_truth(x), _truth(y)),
    "logical_or": lambda x, y: np.logical_or(_truth(x), _truth(y)),
    "logical_not": lambda x: ~_truth(x),
    "bool": _truth,
    "bitwise_and": _bits(np.bitwise_and, np.logical_and),
    "bitwise_or": _bits(np.bitwise_or, np.logical_or),
    "bitwise_xor": _bits(np.bitwise_xor, np.logical_xor),
    "invert": _bits(np.invert, np.logical_not),
}

_COMPARISONS: dict[str, Callable[..., Any]] = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "isin": _isin,
}


def apply(name: str, arguments: Sequence[Any]) -> Array:
    """Function of the vocabulary of arrays of one shape and of constants, for each element."""
    with np.errstate(all="ignore"):
        if name in _NUMERIC:
            return np.asarray(_NUMERIC[name](*(number(a, name) for a in arguments)))
        if name in _LOGICAL:
            return np.asarray(_LOGICAL[name](*arguments))
        if len({_is_text(argument) for argument in arguments}) > 1:
            raise InputError("a text is compared with a number")
        return np.asarray(_COMPARISONS[name](*arguments))
