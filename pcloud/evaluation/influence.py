"""Estimates from weighted jets: a value and its influence function, from which its error follows.

The influence of a jet is the first-order change of an estimate due to it. For independent jets the
variance of the estimate is the sum of the squares. This holds for any weights, also where they
depend on the score, or are negative. A number of jets "of equal error", ``(sum w)^2 / sum w^2``, does
not: it is the same for every cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcloud.evaluation.measured import Measured
from pcloud.evaluation.resampling import counting_error
from pcloud.typing import Booleans, Floats

__all__ = [
    "METHOD",
    "Estimate",
    "effective_size",
    "mean_over_jets",
    "weighted_fraction",
    "weighted_mean",
]

METHOD = "influence function"
"""Method of the errors of weighted quantities."""


@dataclass(frozen=True)
class Estimate:
    """Value of a statistic of jets, with its influence function.

    Differences and products of estimates of the same jets have the influence functions of the chain
    rule, so that their errors include the correlation.

    Parameters
    ----------
    value : float
        The value.
    influence : ndarray, shape (B,)
        First-order change of the value due to each jet.
    """

    value: float
    influence: Floats

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate(self.value - other.value, self.influence - other.influence)

    def log(self) -> Estimate:
        """Logarithm of a positive value."""
        return Estimate(math.log(self.value), self.influence / self.value)

    def error(self, labels: NDArray[np.integer] | None = None) -> float:
        """Standard error.

        Parameters
        ----------
        labels : ndarray of int, shape (B,), optional
            Class of each jet, if the number of jets of each class is fixed, as in
            :func:`~pcloud.evaluation.resampling.counting_error`.
        """
        if labels is not None:
            return counting_error(self.influence, labels)
        return math.sqrt(float(self.influence @ self.influence))

    def fraction(self, number: float, labels: NDArray[np.integer] | None = None) -> Measured:
        """Fraction with its interval, or a limit if it is 0 or 1.

        The interval is that of a number of jets with the same error. Negative weights can give a
        value outside 0 to 1, whose interval is that of a Gaussian.

        Parameters
        ----------
        number : float
            Effective number of jets, for the limit.
        labels : ndarray of int, shape (B,), optional
            As for :meth:`error`.
        """
        error = self.error(labels)
        if self.value in (0.0, 1.0):
            return Measured.fraction(self.value * number, number)
        if 0 < self.value < 1 and error > 0:
            return Measured.fraction_with_error(self.value, error, METHOD)
        return Measured(self.value, error, METHOD)


def effective_size(weights: Floats) -> float:
    """Number of jets of equal weight with the same relative error of their sum."""
    square = float(weights @ weights)
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0


def weighted_mean(values: Floats | Booleans, weights: Floats) -> Estimate:
    """Mean of ``values (B,)`` with ``weights (B,)``, whose sum is not 0."""
    total = float(weights.sum())
    mean = float(weights @ values) / total
    return Estimate(mean, weights * (values - mean) / total)


def weighted_fraction(passed: Booleans, weights: Floats | None = None) -> Measured:
    """Fraction of jets that pass, with its interval; without weights the binomial one.

    Parameters
    ----------
    passed : ndarray of bool, shape (B,)
        True for the jets that pass.
    weights : ndarray, shape (B,), optional
        Weights of the jets.
    """
    if weights is None:
        return Measured.fraction(int(passed.sum()), len(passed))
    total = float(weights.sum())
    if len(passed) == 0 or total == 0:
        return Measured(math.nan, math.nan, "no jets")
    if passed.all() or not passed.any():
        number = effective_size(weights)
        return Measured.fraction(number * float(passed[0]), number)
    return weighted_mean(passed, weights).fraction(effective_size(weights))


def mean_over_jets(values: Floats, weights: Floats | None = None) -> Measured:
    """Mean of ``values (B,)`` with its error; without weights, or of equal values, that of Student."""
    if weights is None or len(values) < 2 or np.ptp(values) == 0 or not weights.sum() > 0:
        return Measured.mean(values)
    found = weighted_mean(values, weights)
    return Measured(found.value, found.error(), METHOD)
