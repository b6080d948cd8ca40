"""Quantiles of weighted values, with their errors from influence functions."""

from __future__ import annotations

import math

import numpy as np

from pcloud.evaluation.influence import METHOD, Estimate, effective_size
from pcloud.evaluation.measured import Measured
from pcloud.typing import Floats

__all__ = ["ONE_SIGMA_LEVELS", "half_width", "quantile", "spread", "standard_deviation"]

ONE_SIGMA_LEVELS = (0.15865525393145707, 0.8413447460685429)
"""Levels of the ends of the central 68.3 %, one standard deviation of a Gaussian."""

_IQR_OF_GAUSSIAN = 1.3489795003921634


class SortedValues:
    """Values in increasing order, whose quantiles are found many times.

    Parameters
    ----------
    values : ndarray, shape (B,)
        The values.
    weights : ndarray, shape (B,), optional
        Weights of the jets. Where their sums fall, as negative weights make them, the largest sum
        before counts.
    """

    def __init__(self, values: Floats, weights: Floats | None = None) -> None:
        self.values = np.asarray(values, dtype=np.float64)
        self.weights = np.ones(len(self.values)) if weights is None else weights
        order = np.argsort(self.values, kind="stable")
        self.sorted = self.values[order]
        w = self.weights[order]
        self.total = float(w.sum())
        sums = np.maximum.accumulate(np.cumsum(w) - w / 2)
        self.positions = (sums - sums[0]) / (sums[-1] - sums[0]) if sums[-1] > sums[0] else None
        self.size = effective_size(self.weights)

    def at(self, level: float) -> float:
        """Quantile at a level, as of ``numpy.quantile`` if the weights are equal."""
        if self.positions is None:
            return float(self.sorted[len(self.sorted) // 2])
        return float(np.interp(level, self.positions, self.sorted))

    def estimate(self, level: float) -> Estimate:
        """Quantile at a level with its influence function.

        The density at the quantile is estimated from the quantiles one standard deviation of the
        counting error below and above.
        """
        value = self.at(level)
        step = max(math.sqrt(level * (1 - level) / max(self.size, 1.0)), 1 / len(self.sorted))
        low, high = max(level - step, 0.0), min(level + step, 1.0)
        inverse_density = (self.at(high) - self.at(low)) / (high - low)
        inside = (self.values <= value).astype(float)
        return Estimate(value, self.weights * (level - inside) * inverse_density / self.total)


def quantile(values: Floats, level: float, weights: Floats | None = None) -> Measured:
    """Quantile of ``values (B,)`` with its error.

    Parameters
    ----------
    values : ndarray, shape (B,)
        The values.
    level : float
        Level, between 0 and 1.
    weights : ndarray, shape (B,), optional
        Weights of the jets.
    """
    if len(values) == 0:
        return Measured(math.nan, math.nan, "no jets")
    return measured(SortedValues(values, weights).estimate(level))


def half_width(
    values: Floats,
    weights: Floats | None = None,
    levels: tuple[float, float] = ONE_SIGMA_LEVELS,
) -> Measured:
    """Half the distance between two quantiles of ``values (B,)``, by default of the central 68 %.

    The error includes the correlation of the two quantiles.
    """
    if len(values) == 0:
        return Measured(math.nan, math.nan, "no jets")
    return measured(_half(SortedValues(values, weights), levels))


def spread(values: Floats, weights: Floats | None = None) -> Measured:
    """Interquartile range of ``values (B,)`` over that of a Gaussian of standard deviation 1."""
    if len(values) == 0:
        return Measured(math.nan, math.nan, "no jets")
    found = _half(SortedValues(values, weights), (0.25, 0.75))
    factor = 2 / _IQR_OF_GAUSSIAN
    return measured(Estimate(factor * found.value, factor * found.influence))


def standard_deviation(values: Floats, weights: Floats | None = None) -> Measured:
    """Standard deviation of ``values (B,)`` with its error."""
    if len(values) < 2:
        return Measured(math.nan, math.nan, "no jets")
    w = np.ones(len(values)) if weights is None else weights
    total = float(w.sum())
    squares = (values - float(w @ values) / total) ** 2
    variance = float(w @ squares) / total
    if not variance > 0:
        return Measured(0.0 if variance == 0 else math.nan, math.nan, METHOD)
    sigma = math.sqrt(variance)
    return measured(Estimate(sigma, w * (squares - variance) / (2 * sigma * total)))


def measured(estimate: Estimate) -> Measured:
    """Value and error of an estimate."""
    return Measured(estimate.value, estimate.error(), METHOD)


def _half(values: SortedValues, levels: tuple[float, float]) -> Estimate:
    difference = values.estimate(levels[1]) - values.estimate(levels[0])
    return Estimate(difference.value / 2, difference.influence / 2)
