"""Functions and constants that an expression may name."""

from __future__ import annotations

import math

__all__ = ["CONSTANTS", "FUNCTIONS", "REDUCTIONS"]

FUNCTIONS = {
    **dict.fromkeys(
        (
            *("abs", "sign", "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10"),
            *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
            *("arcsinh", "arccosh", "arctanh", "floor", "ceil", "round", "int", "float", "bool"),
            *("isnan", "isfinite", "sum", "mean", "num", "any", "all", "first", "wrap_phi"),
        ),
        (1, 1),
    ),
    **dict.fromkeys(("hypot", "arctan2", "minimum", "maximum", "isin"), (2, 2)),
    **dict.fromkeys(("min", "max"), (1, 2)),
    **dict.fromkeys(("where", "clip"), (3, 3)),
}
"""Functions, each with its smallest and largest number of arguments."""

REDUCTIONS = ("sum", "mean", "min", "max", "num", "any", "all", "first")
"""Functions that give one value per jet from one argument with values of its particles.

Of a jet without particles, ``sum`` and ``num`` are 0, ``any`` is false, ``all`` is true, and the
others are NaN. ``min`` and ``max`` with two arguments are the smaller and the larger of the two.
"""

CONSTANTS = {"pi": math.pi, "inf": math.inf, "nan": math.nan}
"""Names of numbers; a column of the same name has priority."""
