"""Measured numbers with statistical errors: intervals, limits and rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike

from pcloud.errors import InputError
from pcloud.stored_values import Count, Float, Text
from pcloud.text_tables import html_text
from pcloud.typing import Floats
from pcloud.validation import checked

CONFIDENCE = 0.95  # confidence level of limits
ONE_SIGMA = math.erf(math.sqrt(0.5))  # 0.683, confidence level of `Measured.low` and `.high`

_BETA_SHIFT = 0.2  # 0 is Clopper and Pearson, 1/2 is Jeffreys
_ROUNDING = 1e-14  # relative rounding error of floating-point sums
_MAX_SIDE_RATIO = 1.25  # largest ratio of the two sides of an interval printed with one error
_MAX_DECIMALS = 6  # largest number of decimals printed without an exponent


_NonNegative = Annotated[float, Interval(ge=0, le=1e15)]
_Float = Annotated[float, Interval(ge=-1e100, le=1e100)]


@dataclass(frozen=True)
class Measured:
    """A value with its statistical error, or a limit where the data only bound the value.

    Parameters
    ----------
    value : float
        The value; for a limit, the limit itself.
    error : float
        Standard error of `value`. It is half the distance between `low` and `high` where these
        are given. An error that is 0 up to rounding means that the data have no spread. It
        becomes NaN, and the value is printed without an error.
    method : str
        Method of the error, such as ``"DeLong"``.
    bootstrap : float, optional
        Standard error of `value` from resampling the jets, to compare with `error`. An error of 0
        becomes None.
    limit : {"lower", "upper"}, optional
        Kind of limit at 95 % confidence, if `value` is a limit.
    low, high : float, optional
        Ends of the 68 % interval; by default one error below and above `value`. For a limit, the
        allowed range, unless the data give an interval as well.
    low95, high95 : float, optional
        Ends of the 95 % interval, where it is not the scaled 68 % interval.
    counts : tuple of float, optional
        For a fraction, the number of jets that pass and the total number. For jets of unequal
        weights, the numbers with the same error. They give the interval at any level.
    degrees : int, optional
        Degrees of freedom of Student's t, for a mean of few values.

    Examples
    --------
    >>> Measured.fraction(30, 100).value
    0.3
    """

    value: Float
    error: Float
    method: Text = ""
    bootstrap: _Float | None = None
    limit: Literal["lower", "upper"] | None = None
    low: Float = math.nan
    high: Float = math.nan
    low95: _Float | None = None
    high95: _Float | None = None
    counts: tuple[_NonNegative, _NonNegative] | None = None
    degrees: Count | None = None

    def __post_init__(self) -> None:
        low, high = self.low, self.high
        if math.isnan(low) or math.isnan(high):
            low, high = _default_interval(self.value, self.error, self.limit)
        error = (high - low) / 2
        rounding = _ROUNDING * abs(self.value)
        if not error > rounding:
            low = high = error = math.nan
        if self.bootstrap is not None and not self.bootstrap > rounding:
            object.__setattr__(self, "bootstrap", None)
        for name, number in (("low", low), ("high", high), ("error", error)):
            object.__setattr__(self, name, number)

    @classmethod
    def fraction(cls, passed: float, total: float, method: str = "binomial") -> Measured:
        """Fraction of jets that pass, with an interval that is valid near 0 and 1, too.

        Parameters
        ----------
        passed, total : float
            Number of jets that pass, and total number.
        method : str
            Method of the error.

        Returns
        -------
        Measured
            The fraction with the interval of :func:`fraction_interval`. If none or all of the jets
            pass, the limit at 95 % confidence. Without jets, NaN.
        """
        if total <= 0:
            return cls(math.nan, math.nan, "no jets")
        counts = (float(passed), float(total))
        bound = zero_fraction_limit(total)
        if passed <= 0:
            return cls(bound, 0.0, "none passes", limit="upper", low=0.0, high=bound, counts=counts)
        if passed >= total:
            return cls(
                1 - bound, 0.0, "all pass", limit="lower", low=1 - bound, high=1.0, counts=counts
            )
        low, high = (float(end) for end in fraction_interval(passed, total))
        return cls(passed / total, 0.0, method, low=low, high=high, counts=counts)

    @classmethod
    def stratified_fraction(
        cls, passed: ArrayLike, total: ArrayLike, method: str = "binomial"
    ) -> Measured:
        """Fraction of all jets that pass, where the number of jets of each class is fixed.

        Each class has the binomial variance of ``(k + 1/2) / (n + 1)``, which is not 0 where none
        or all of its jets pass. The interval is that of a sample of one class with the same
        variance.

        Parameters
        ----------
        passed, total : array_like, shape (C,)
            Number of jets that pass, and total number, of each class.
        method : str
            Method of the error.
        """
        n = np.asarray(total, dtype=float)
        k = np.asarray(passed, dtype=float)[n > 0]
        n = n[n > 0]
        number = float(n.sum())
        mean = float(k.sum()) / number
        if mean in (0.0, 1.0):
            return cls.fraction(k.sum(), number, method)
        smooth = (k + 0.5) / (n + 1)
        error = math.sqrt(float(np.sum(n * smooth * (1 - smooth)))) / number
        return cls.fraction_with_error(mean, error, method)

    @classmethod
    def fraction_with_error(cls, value: float, error: float, method: str) -> Measured:
        """Fraction between 0 and 1 with a standard error that is not only that of counting.

        The interval is that of :meth:`fraction` for the number of jets with this standard error.

        Parameters
        ----------
        value, error : float
            Fraction, not 0 or 1, and its standard error, not 0.
        method : str
            Method of the error.
        """
        number = value * (1 - value) / error**2
        return cls.fraction(value * number, number, method)

    @classmethod
    def mean(cls, values: ArrayLike, method: str = "mean over jets") -> Measured:
        """Mean of independent values, with the interval of Student's t.

        A single value, or values that are all equal, give no error: `error`, `low` and `high` are
        NaN. Without values the mean is NaN, too.

        Parameters
        ----------
        values : array_like, shape (n,)
            The values.
        method : str
            Method of the error.
        """
        x = np.asarray(values, dtype=np.float64)
        if len(x) == 0:
            return cls(math.nan, math.nan, "no values")
        mean = float(x.mean())
        if len(x) == 1:
            return cls(mean, math.nan, "one value")
        if np.ptp(x) <= _ROUNDING * np.abs(x).max():
            return cls(float(x[0]), math.nan, "all values equal")
        degrees = len(x) - 1
        error = float(x.std(ddof=1)) / math.sqrt(len(x)) * _student(ONE_SIGMA, degrees)
        return cls(mean, error, method, degrees=degrees)

    def interval(self, level: float = ONE_SIGMA) -> tuple[float, float]:
        """Ends of the central interval at a confidence level.

        For a fraction it is :func:`fraction_interval`, for a mean that of Student's t. For other
        values the two sides of the 68 % interval are scaled as for a Gaussian. Where the 95 %
        interval is known, too, they are interpolated between both in standard deviations of a
        Gaussian.

        Raises
        ------
        InputError
            If `level` is not between 0 and 1, or is above that of a limit.
        """
        if not 0 < level < 1:
            raise InputError(f"a confidence level lies between 0 and 1, got {level:g}")
        if self.counts is not None:
            low, high = fraction_interval(*self.counts, level)
            return float(low), float(high)
        if self.limit and self.low95 is None:
            if level > CONFIDENCE:
                raise InputError(f"the limit holds at {CONFIDENCE:.0%}, not at {level:g}")
            return self.low, self.high
        down = self.value - self.low
        up = self.high - self.value
        if self.degrees is not None:
            scale = _student(level, self.degrees) / _student(ONE_SIGMA, self.degrees)
            return self.value - scale * down, self.value + scale * up
        down95 = None if self.low95 is None else self.value - self.low95
        up95 = None if self.high95 is None else self.high95 - self.value
        return self.value - _side(down, down95, level), self.value + _side(up, up95, level)

    def scaled(self, factor: float) -> Measured:
        """Convert to another unit: value, interval and bootstrap error times `factor` > 0."""
        ends95 = (self.low95, self.high95)
        if self.counts is not None:
            ends95 = self.interval(CONFIDENCE)
        bootstrap, low95, high95 = (
            None if x is None else factor * x for x in (self.bootstrap, *ends95)
        )
        return Measured(
            factor * self.value,
            factor * self.error,
            self.method,
            bootstrap,
            self.limit,
            factor * self.low,
            factor * self.high,
            low95,
            high95,
            degrees=self.degrees,
        )

    def sides(self) -> tuple[float, float]:
        """Distances of the value from `low` and `high`, for error bars; 0 without an interval."""
        if not math.isfinite(self.error):
            return 0.0, 0.0
        return max(self.value - self.low, 0.0), max(self.high - self.value, 0.0)

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        """Rounded value and error, and the method of the error."""
        return f"Measured({self}, {self.method})" if self.method else f"Measured({self})"

    def _repr_html_(self) -> str:
        return html_text(str(self), title=self.method)

    def __str__(self) -> str:
        """Value and error, rounded to two significant digits of the error."""
        return self.format()

    def format(self, digits: int = 2) -> str:
        """Value and error, rounded to `digits` significant digits of the error.

        Two errors are given where the sides of the interval differ by more than a quarter, and no
        error where the data give none.
        """
        if self.limit:
            return f"{'>' if self.limit == 'lower' else '<'} {_round_limit(self)}"
        if not math.isfinite(self.error) or not math.isfinite(self.value):
            return f"{self.value:.6g}"
        down, up = self.sides()
        if max(down, up) <= _MAX_SIDE_RATIO * min(down, up):
            return _with_exponent([self.value, self.error], digits, "{} ± {}")
        return _with_exponent([self.value, up, down], digits, "{} +{} -{}")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON; None for numbers that are not finite."""
        return {name: _finite(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Measured:
        """Inverse of `to_dict`, also for older files without an interval.

        Raises
        ------
        InputError
            If a value is absent, or is none that `to_dict` gives.
        """
        return checked(cls, fields)


def fraction_interval(
    passed: ArrayLike, total: ArrayLike, level: float = ONE_SIGMA
) -> tuple[Floats, Floats]:
    """Central interval of the probability p of a binomial number `passed` of `total`.

    Its ends are quantiles of ``Beta(k + 0.2, n - k + 0.8)`` and ``Beta(k + 0.8, n - k + 0.2)``.
    With 0 and 1 instead of 0.2 and 0.8 they would be the ends of Clopper and Pearson, whose
    coverage is never below `level` and often much above. With 1/2 they would be those of Jeffreys,
    whose coverage is `level` on average, but only 0.55 instead of 0.68 for some p. Here
    the coverage of the 68 % interval is 0.66 to 0.79 if there are at least 50 jets, of which at
    least ten are expected to pass and ten to fail, and otherwise 0.63 or more. If none or all
    pass, the interval is one-sided at `level` or at 95 %, whichever is higher. Numbers that are
    not whole, as in :meth:`Measured.fraction_with_error`, have the interval of Jeffreys, because
    the coverage of a continuous estimate does not oscillate.

    Parameters
    ----------
    passed, total : array_like
        Number of jets that pass, and total number, at least 1.
    level : float
        Confidence level.

    Returns
    -------
    low, high : ndarray
        Ends of the interval.

    References
    ----------
    Brown, Cai and DasGupta, *Statistical Science* 16 (2001) 101.
    """
    from scipy.special import betaincinv

    k, n = np.broadcast_arrays(np.asarray(passed, float), np.asarray(total, float))
    tail = (1 - level) / 2
    is_whole = (k % 1 == 0) & (n % 1 == 0)
    near = np.where(is_whole, _BETA_SHIFT, 0.5)
    far = 1 - near
    one_sided = -np.expm1(np.log1p(-max(level, CONFIDENCE)) / n)
    low = np.where(k <= 0, 0.0, betaincinv(k + near, n - k + far, tail))
    high = np.where(k >= n, 1.0, betaincinv(k + far, n - k + near, 1 - tail))
    return np.where(k >= n, 1 - one_sided, low), np.where(k <= 0, one_sided, high)


def round_together(value: float, error: float, digits: int = 2) -> tuple[str, str]:
    """Round `value` and `error` to the same decimal, set by `digits` digits of the error.

    Examples
    --------
    >>> round_together(1269.937, 100.63)
    ('1270', '100')
    >>> round_together(0.984746, 0.000178)
    ('0.98475', '0.00018')
    """
    if not 0 < error < math.inf or not math.isfinite(value):
        return f"{value:.6g}", f"{error:g}"
    value_text, error_text = _round_all([value, error], digits)
    return value_text, error_text


def zero_fraction_limit(trials: float) -> float:
    """Upper limit on a probability at 95 % confidence if none of `trials` succeeds.

    It solves (1 - p)^n = 0.05, which is about p = 3 / n, the "rule of three".
    """
    return -math.expm1(math.log1p(-CONFIDENCE) / trials)


def _default_interval(
    value: float, error: float, limit: Literal["lower", "upper"] | None
) -> tuple[float, float]:
    if limit == "lower":
        return value, math.inf
    if limit == "upper":
        return -math.inf, value
    return value - error, value + error


def _side(one_sigma: float, two_sigma: float | None, level: float) -> float:
    """Length of one side of an interval, from those of the 68 % and the 95 % interval."""
    sigmas = _sigmas(level)
    if two_sigma is None or sigmas <= 1:
        return sigmas * one_sigma
    return one_sigma + (two_sigma - one_sigma) * (sigmas - 1) / (_sigmas(CONFIDENCE) - 1)


def _sigmas(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _student(level: float, degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_exponent(numbers: Sequence[float], digits: int, form: str) -> str:
    """Value and errors, with a common power of ten if they are very small."""
    largest = max(map(abs, numbers))
    if _places(_smallest_error(numbers), digits) <= _MAX_DECIMALS or largest >= 1e-3:
        return form.format(*_round_all(numbers, digits))
    exponent = math.floor(math.log10(largest))
    inner = form.format(*_round_all([x * 10.0**-exponent for x in numbers], digits))
    return f"({inner})e{exponent:03d}"


def _round_all(numbers: Sequence[float], digits: int) -> list[str]:
    """Value and errors rounded to the same decimal, set by the smallest error."""
    smallest = _smallest_error(numbers)
    places = _places(smallest, digits)
    places = _places(round(smallest, places), digits)  # 0.0996 becomes 0.10, not 0.100
    return [_fixed(number, places) for number in numbers]


def _smallest_error(numbers: Sequence[float]) -> float:
    return min(error for error in numbers[1:] if error > 0)


def _places(number: float, digits: int) -> int:
    return digits - 1 - math.floor(math.log10(number))


def _fixed(number: float, places: int) -> str:
    return f"{round(number, places):.{max(places, 0)}f}"


def _round_limit(limit: Measured) -> str:
    # A limit is rounded to the conservative side. Close to 1, or to 100 %, the significant digits
    # are those of the distance to it.
    top = limit.high if limit.value < limit.high < math.inf else 1.0
    is_near_top = top / 2 < limit.value < top
    places = _places(top - limit.value if is_near_top else limit.value, 2)
    towards = math.floor if limit.limit == "lower" else math.ceil
    return _fixed(towards(limit.value * 10.0**places) / 10.0**places, places)
