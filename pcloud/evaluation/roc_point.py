"""Confidence intervals of the background efficiency at a signal efficiency."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np

from pcloud.evaluation.measured import CONFIDENCE, ONE_SIGMA, Measured
from pcloud.evaluation.ranking import Counts
from pcloud.typing import Floats

__all__ = ["BetaMixture", "RocPoint"]

Side = Literal["lower", "upper"]

MIN_SIGNAL_JETS = 2.0  # expected number on each side of the cut that an interval needs
MIN_BACKGROUND_JETS = 3.0  # number that passes the cut that an interval needs
_FEW_BACKGROUND_JETS = "fewer than three background jets pass"
_ROUNDING = 1e-9  # relative; 2000 x (1 - 0.999) counts as 2 jets
_STEPS = 64  # number of quadrature points in the threshold
_RANGE = 4.0  # half-width of the quadrature in standard deviations, plus as many jets
_SIGNAL_SHIFT = 0.2  # signal jets, shift of the tighter end of an interval
_BACKGROUND_SHIFT = 0.1  # background jets; 0 is Jeffreys, 1/2 is Clopper and Pearson
_LOGIT_RANGE = 80.0  # largest logit of a fraction, which is then above 1e-35
_LOGIT_PRECISION = 1e-6


@dataclass(frozen=True)
class BetaMixture:
    """Mixture of Beta distributions, as the distribution of a fraction.

    A Beta distribution whose first parameter is 0 is a point mass at 0, one whose second
    parameter is 0 is a point mass at 1.

    Parameters
    ----------
    weights : ndarray, shape (K,)
        Weights of the mixture, which add up to 1.
    first, second : ndarray, shape (K,)
        Parameters of the Beta distributions.
    """

    weights: Floats
    first: Floats
    second: Floats

    def cdf(self, fraction: float) -> float:
        """Cumulative distribution function without the point masses at 1."""
        from scipy.special import betainc

        spread = (self.first > 0) & (self.second > 0)
        below = betainc(self.first[spread], self.second[spread], fraction)
        at_zero = self.weights[self.first <= 0].sum()
        return float(self.weights[spread] @ below + at_zero)

    def quantile(self, probability: float) -> float:
        """Quantile of the fraction; 0 or 1 in a point mass."""
        from scipy.optimize import brentq
        from scipy.special import expit

        def excess(logit: float) -> float:
            return self.cdf(float(expit(logit))) - probability

        guess, reach = self._normal_quantile(probability)
        low, high = guess - reach, guess + reach
        while excess(low) >= 0:
            if low <= -_LOGIT_RANGE:
                return 0.0
            low, high, reach = max(low - 2 * reach, -_LOGIT_RANGE), low, 2 * reach
        while excess(high) <= 0:
            if high >= _LOGIT_RANGE:
                return 1.0
            low, high, reach = high, min(high + 2 * reach, _LOGIT_RANGE), 2 * reach
        return float(expit(brentq(excess, low, high, xtol=_LOGIT_PRECISION)))

    def _normal_quantile(self, probability: float) -> tuple[float, float]:
        """Logit of the quantile of a normal distribution of the same moments, and its precision."""
        total = self.first + self.second
        means = self.first / total
        mean = min(max(float(self.weights @ means), 1e-12), 1 - 1e-12)
        inside = means * (1 - means) / (total + 1)
        variance = float(self.weights @ (inside + (means - mean) ** 2))
        spread = min(sqrt(variance) / (mean * (1 - mean)), 3.0)  # of the logit
        guess = log(mean / (1 - mean)) + NormalDist().inv_cdf(probability) * spread
        return guess, max(0.2 * spread, 1e-3)


@dataclass(frozen=True)
class RocPoint:
    """Background efficiency at a signal efficiency, with intervals and limits.

    Two quantities fluctuate: the threshold, which depends on the n signal jets, and the number of
    the m background jets that pass it. Both are treated without assumptions on the scores.

    *Threshold.* The true signal efficiency of a cut at the v-th signal jet is distributed as
    Beta(v, n + 1 - v). The threshold of the efficiency e therefore lies below that jet with the
    probability I_e(v, n + 1 - v), the distribution function of this Beta distribution. For all
    real v it is a continuous distribution of the position of the threshold among the signal jets
    (smoothed order statistics, Hutson 1999).

    *Background.* At a position v, b(v) background jets pass, interpolated between neighbouring
    signal jets, and the background efficiency has the posterior distribution of Jeffreys,
    Beta(b + 1/2, m - b + 1/2) (Brown, Cai and DasGupta 2001).

    The average of the second distribution over the first is the distribution of the background
    efficiency. It is computed by quadrature, without random numbers. An interval lies between two
    of its quantiles. The slope of the ROC curve enters through b(v).

    The coverage of any interval oscillates, because numbers of jets are integers. Two small
    shifts, chosen with toy experiments, keep the coverage from falling far below its level. Both
    ends of the interval are shifted by 0.1 background jets towards the interval of Clopper and
    Pearson. The tighter end is shifted outwards by another 0.2 signal jets, because the value is
    at the tighter end of its step of the ROC curve.

    *Ties.* In a group of tied jets the ROC curve is a straight line, and a cut accepts the same
    fraction of each of them, which does not fluctuate. n and m are replaced by the larger numbers
    with the remaining variance.

    *Limits.* A one-sided limit is quoted where fewer than two signal jets are expected on one side
    of the cut, or fewer than three background jets pass. It uses integer positions, with the
    background at the next signal jet away from the value, no background before the first signal
    jet and all of it after the last. The distributions are those of Clopper and Pearson,
    Beta(b, m - b + 1) for a lower and Beta(b + 1, m - b) for an upper limit.

    Parameters
    ----------
    counts : Counts
        Jets in order of score.
    efficiency : float
        Signal efficiency, between 0 and 1.

    References
    ----------
    Hutson, *J. Appl. Stat.* 26 (1999) 343;
    Brown, Cai, DasGupta, *Stat. Sci.* 16 (2001) 101;
    Clopper, Pearson, *Biometrika* 26 (1934) 404.
    """

    counts: Counts
    efficiency: float

    @cached_property
    def num_signal(self) -> int:
        """Number of signal jets, n."""
        return int(self.counts.signal.sum())

    @cached_property
    def num_background(self) -> int:
        """Number of background jets, m."""
        return int(self.counts.background.sum())

    @cached_property
    def value(self) -> float:
        """Background efficiency of the sample."""
        return float(self.counts.background_efficiency(np.array(self.efficiency)))

    @cached_property
    def missing(self) -> str:
        """Reason why the sample has no interval; empty if it has one."""
        passing = self.efficiency * self.num_signal * (1 + _ROUNDING)
        failing = (1 - self.efficiency) * self.num_signal * (1 + _ROUNDING)
        if failing < 1:
            return "no signal jet fails"
        if failing < MIN_SIGNAL_JETS:
            return "one signal jet fails"
        if passing < MIN_SIGNAL_JETS:
            return "too few signal jets pass"
        if self.value == 0:
            return "no background passes"
        if self.value * self.num_background < MIN_BACKGROUND_JETS * (1 - _ROUNDING):
            return _FEW_BACKGROUND_JETS
        return ""

    def interval(self, level: float = ONE_SIGMA) -> tuple[float, float]:
        """Central interval of the background efficiency at a confidence level."""
        tail = (1 - level) / 2
        low = self.distribution("lower").quantile(tail)
        high = self.distribution("upper").quantile(1 - tail)
        return min(low, self.value), max(high, self.value)

    def limit(self, side: Side, level: float = CONFIDENCE) -> float:
        """One-sided limit on the background efficiency; 0 or 1 where the data give none."""
        return self._bound(side).quantile(level if side == "upper" else 1 - level)

    def measured(self) -> Measured:
        """Background efficiency with its error, or a limit instead.

        The limit for few background jets has an interval, too, as `low` and `high`.
        """
        if self.missing and self.missing != _FEW_BACKGROUND_JETS:
            lower = self.limit("lower") if self.missing.endswith("signal jet fails") else 0.0
            if lower > 0:
                return Measured(lower, 0.0, self.missing, limit="lower")
            return Measured(self.limit("upper"), 0.0, self.missing, limit="upper")
        low, high = self.interval()
        ends95 = self.interval(CONFIDENCE)
        error = (high - low) / 2
        if self.missing:
            limit = self.limit("upper")
            return Measured(limit, error, self.missing, None, "upper", low, high, *ends95)
        return Measured(self.value, error, "counting", None, None, low, high, *ends95)

    def distribution(self, end: Side) -> BetaMixture:
        """Distribution of the background efficiency for one end of the intervals."""
        position, weights = self._threshold
        shift = _BACKGROUND_SHIFT
        if end == "lower":
            shift = -shift
            tighter = _SIGNAL_SHIFT * self.num_signal / self._effective[0]
            position = np.maximum(position - tighter, 0.0)
        m = self.num_background
        effective_m = self._effective[1]
        passed = self._passed(position) * effective_m / m
        return BetaMixture(weights, passed + 0.5 + shift, effective_m - passed + 0.5 - shift)

    @cached_property
    def _effective(self) -> tuple[float, float]:
        """Numbers of signal and background jets, increased by ties."""
        ties = self.counts.tied_variance(self.efficiency)
        n = self.num_signal
        m = self.num_background
        return n / max(1 - ties[0], 1 / n), m / max(1 - ties[1], 1 / m)

    @cached_property
    def _threshold(self) -> tuple[Floats, Floats]:
        """Positions of the threshold among the signal jets, and their weights."""
        number = self._effective[0]
        edges = np.linspace(*self._range(number), _STEPS + 1)
        return (edges[1:] + edges[:-1]) / 2, self._weights(edges, number)

    def _bound(self, side: Side) -> BetaMixture:
        """Distribution of the background efficiency on the conservative side of a limit."""
        n = self.num_signal
        m = self.num_background
        low, high = self._range(n)
        edges = np.unique(np.round(np.linspace(np.floor(low), np.ceil(high), _STEPS + 1)))
        weights = self._weights(edges, n)
        if side == "lower":
            passed = self.counts.background_above(edges[:-1])
            return BetaMixture(weights, passed, m - passed + 1)
        passed = self.counts.background_above(edges[1:])
        return BetaMixture(weights, passed + 1, m - passed)

    def _range(self, effective_n: float) -> tuple[float, float]:
        """Range of positions that contains the threshold with a probability of about 1 - 1e-4."""
        n = self.num_signal
        centre = self.efficiency * (n + 1)
        spread = n * sqrt(self.efficiency * (1 - self.efficiency) / effective_n)
        reach = _RANGE * (spread + n / effective_n)
        return max(centre - reach, 0.0), min(centre + reach, n + 1.0)

    def _weights(self, edges: Floats, effective_n: float) -> Floats:
        """Probability that the threshold lies between neighbouring edges of position."""
        from scipy.special import betainc

        inner = edges[1:-1] * (effective_n + 1) / (self.num_signal + 1)
        below = betainc(inner, effective_n + 1 - inner, self.efficiency)
        return -np.diff(np.concatenate([[1.0], below, [0.0]]))

    def _passed(self, position: Floats) -> Floats:
        """Interpolated number of background jets above a position among the signal jets."""
        before = np.floor(position)
        first = self.counts.background_above(before)
        second = self.counts.background_above(before + 1)
        return first + (position - before) * (second - first)
