"""A number with its error, and how to print it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

CONFIDENCE = 0.95  # of the limits that stand in for values at the edge of their range


@dataclass(frozen=True)
class Measured:
    """A value and its statistical error, or a limit where the data only bound the value.

    Parameters
    ----------
    value : float
        The value; for a limit, the limit itself.
    error : float
        Standard error of `value`; 0 for a limit.
    method : str
        Where `error` comes from, such as ``"DeLong"``.
    bootstrap : float, optional
        Standard error of `value` from resampling the jets, to compare with `error`.
    limit : {"lower", "upper"}, optional
        Says that the value is above (below) `value` at 95 % confidence.
    """

    value: float
    error: float
    method: str = ""
    bootstrap: float | None = None
    limit: Literal["lower", "upper"] | None = None

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        """Value and error, rounded to two significant digits of the error."""
        if self.limit:
            return f"{'>' if self.limit == 'lower' else '<'} {_round_limit(self)}"
        return " ± ".join(round_together(self.value, self.error))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Measured:
        """Inverse of `to_dict`."""
        return cls(**fields)


def round_together(value: float, error: float, digits: int = 2) -> tuple[str, str]:
    """Write `value` and `error` to the same place, set by `digits` digits of the error.

    Examples
    --------
    >>> round_together(1269.937, 100.63)
    ('1270', '100')
    >>> round_together(0.984746, 0.000178)
    ('0.98475', '0.00018')
    """
    if not error > 0 or not math.isfinite(value):
        return f"{value:.6g}", f"{error:g}"
    places = _places(error, digits)
    places = _places(round(error, places), digits)  # 0.0996 rounds up to 0.10, not to 0.100
    return _fixed(value, places), _fixed(error, places)


def zero_fraction_limit(trials: int) -> float:
    """Upper limit on a probability when none of `trials` succeeded, at 95 % confidence.

    Solves (1 - p)^n = 0.05: about 3 / n, the "rule of three".
    """
    return -math.expm1(math.log1p(-CONFIDENCE) / trials)


def _places(number: float, digits: int) -> int:
    return digits - 1 - math.floor(math.log10(number))


def _fixed(number: float, places: int) -> str:
    return f"{round(number, places):.{max(places, 0)}f}"


def _round_limit(limit: Measured) -> str:
    # A limit is rounded to the safe side. Close to 1 the digits that matter are those of 1 - x.
    near_one = 0.5 < limit.value < 1
    places = _places(1 - limit.value if near_one else limit.value, 2)
    towards = math.floor if limit.limit == "lower" else math.ceil
    return _fixed(towards(limit.value * 10.0**places) / 10.0**places, places)
