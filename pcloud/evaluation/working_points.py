"""Working points: thresholds for a requested efficiency or mistag rate, with errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.estimates import measured_background_efficiency
from pcloud.evaluation.influence import METHOD, Estimate, weighted_fraction, weighted_mean
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.roc_point import RocPoint
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import signal_scores
from pcloud.stored_values import Text
from pcloud.text_tables import html_table
from pcloud.typing import Floats

__all__ = [
    "WorkingPoint",
    "efficiency_threshold",
    "working_points",
    "working_points_of_scores",
]


@dataclass(frozen=True)
class WorkingPoint:
    """A cut on the score of the signal: jets that score at least the threshold are tagged.

    Parameters
    ----------
    name : str
        Requested rate, such as ``"efficiency 0.5"``.
    threshold : Measured
        Lowest score that passes. It has no error where many scores tie at the threshold.
    efficiency, mistag_rate : Measured
        Fraction of the signal jets and of the background jets that pass. One of the two was
        requested: its binomial error is the spread of this rate over other samples at the same
        threshold. The other one has the interval of
        :class:`~pcloud.evaluation.roc_point.RocPoint`, which includes the error of the threshold.
        A fraction is a limit where too few jets pass or fail.
    """

    name: Text
    threshold: Measured
    efficiency: Measured
    mistag_rate: Measured

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {k: v.to_dict() if isinstance(v, Measured) else v for k, v in vars(self).items()}

    def __repr__(self) -> str:
        """Requested rate, threshold and both rates."""
        return (
            f"WorkingPoint({self.name}: threshold {self.threshold}, "
            f"efficiency {self.efficiency}, mistag rate {self.mistag_rate})"
        )

    def _repr_html_(self) -> str:
        header = ["working point", "threshold", "efficiency", "mistag rate"]
        values = (self.threshold, self.efficiency, self.mistag_rate)
        return html_table([header, [self.name, *map(str, values)]])


def working_points(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    efficiencies: Sequence[float] = (0.3, 0.5, 0.7),
    mistag_rates: Sequence[float] = (0.1, 0.01),
    classes: Sequence[str] | None = None,
    signal: str | int | None = None,
    background: str | int | None = None,
    weights: ArrayLike | None = None,
) -> list[WorkingPoint]:
    """Find the thresholds on the score of the signal that give the requested rates.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Score of the signal, or the probability of each class.
    efficiencies, mistag_rates : sequence of float
        Requested rates: minimum fractions of the signal and maximum fractions of the background
        that pass.
    classes : sequence of str, optional
        Names of the classes.
    signal : str or int, optional
        The signal class; by default the second of two classes. With more classes it must be named.
    background : str or int, optional
        With more than two classes, the class to reject, ranked by s / (s + b); by default all
        other classes.
    weights : array_like, shape (B,), optional
        Weights of the jets, which may be negative. The threshold of an efficiency is the highest
        one that reaches it.

    Returns
    -------
    list of WorkingPoint
        Working points with the rates of the thresholds on this sample. Jets of equal score pass
        together. Where scores tie, the signal efficiency may therefore be higher than requested
        and the mistag rate lower. The mistag rate is higher than requested where the highest
        score of the background is shared by too many jets.

    Raises
    ------
    InputError
        If the arrays or options cannot be used.
    """
    sample = Scores.from_arrays(labels, scores, classes, weights)
    return working_points_of_scores(
        sample,
        efficiencies=efficiencies,
        mistag_rates=mistag_rates,
        signal=signal,
        background=background,
    )


def working_points_of_scores(
    sample: Scores,
    *,
    efficiencies: Sequence[float] = (0.3, 0.5, 0.7),
    mistag_rates: Sequence[float] = (0.1, 0.01),
    signal: str | int | None = None,
    background: str | int | None = None,
) -> list[WorkingPoint]:
    """Find thresholds as :func:`working_points`, from `Scores` that are already checked."""
    for rate in (*efficiencies, *mistag_rates):
        _check_rate(rate)
    values, is_signal, is_background = signal_scores(sample, signal, background)
    found = []
    for rate in efficiencies:
        threshold, efficiency, mistag_rate = _point(
            values, is_signal, is_background, rate, weights=sample.weights
        )
        found.append(WorkingPoint(f"efficiency {rate:g}", threshold, efficiency, mistag_rate))
    for rate in mistag_rates:
        threshold, mistag_rate, efficiency = _point(
            values, is_background, is_signal, rate, at_most=True, weights=sample.weights
        )
        found.append(WorkingPoint(f"mistag rate {rate:g}", threshold, efficiency, mistag_rate))
    return found


def mistag_point(
    values: Floats,
    requested: NDArray[np.bool_],
    others: NDArray[np.bool_],
    rate: float,
    weights: Floats | None = None,
) -> tuple[Measured, Measured, Measured]:
    """Threshold that at most `rate` of the `requested` jets pass, their rate, that of the `others`."""
    _check_rate(rate)
    return _point(values, requested, others, rate, at_most=True, weights=weights)


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise InputError(f"efficiencies and mistag rates must lie between 0 and 1, got {rate:g}")


def _point(
    values: Floats,
    requested: NDArray[np.bool_],
    others: NDArray[np.bool_],
    rate: float,
    *,
    at_most: bool = False,
    weights: Floats | None = None,
) -> tuple[Measured, Measured, Measured]:
    """Threshold that `rate` of the `requested` jets pass, their rate, and that of the `others`."""
    if weights is not None:
        return _weighted_point(values, requested, others, rate, at_most, weights)
    threshold = _threshold(values[requested], rate, at_most)
    passed = int((values[requested] >= threshold.value).sum())
    total = int(requested.sum())
    requested_rate = Measured.fraction(passed, total)
    passed_others = int((values[others] >= threshold.value).sum())
    total_others = int(others.sum())
    has_no_error = math.isnan(threshold.error)
    if has_no_error or passed_others in (0, total_others):
        return threshold, requested_rate, Measured.fraction(passed_others, total_others)
    counts = Ranking(values, requested, others).counts
    efficiency = passed / total if passed < total else rate
    return threshold, requested_rate, RocPoint(counts, efficiency).measured()


def _weighted_point(
    values: Floats,
    requested: NDArray[np.bool_],
    others: NDArray[np.bool_],
    rate: float,
    at_most: bool,
    weights: Floats,
) -> tuple[Measured, Measured, Measured]:
    """Threshold and rates of jets with weights, as in :func:`_point`."""
    threshold = _weighted_threshold(values[requested], weights[requested], rate, at_most)
    passed = values >= threshold.value
    found = weighted_fraction(passed[requested], weights[requested])
    of_others = weighted_fraction(passed[others], weights[others])
    if math.isnan(threshold.error) or of_others.limit:
        return threshold, found, of_others
    ranking = Ranking(values, requested, others, weights)
    efficiency = float(weights[requested] @ passed[requested]) / float(weights[requested].sum())
    efficiency = efficiency if 0 < efficiency < 1 else rate
    return threshold, found, measured_background_efficiency(ranking, efficiency)


def _weighted_threshold(values: Floats, weights: Floats, rate: float, at_most: bool) -> Measured:
    """Lowest score that passes, with the thresholds for rates one standard error away."""
    order = np.argsort(-values, kind="stable")
    falling = values[order]
    ordered = weights[order]

    def threshold(near: float) -> float:
        return float(falling[_last_rank(falling, near, at_most, ordered) - 1])

    value = threshold(rate)
    estimate = weighted_mean(values >= value, weights)
    error = Estimate(rate, estimate.influence).error()
    low, high = threshold(min(rate + error, 1.0)), threshold(max(rate - error, 0.0))
    return Measured(value, 0.0, METHOD, low=low, high=high)


def _threshold(values: Floats, rate: float, at_most: bool) -> Measured:
    """Lowest score that passes, with the thresholds for rates one standard error away.

    The rank of the true threshold among n jets is binomial. Its 68 % interval therefore lies
    between two order statistics, for any distribution of the scores. Where these are tied, the
    threshold has no error.
    """
    falling = np.sort(values)[::-1]
    error = math.sqrt(rate * (1 - rate) / len(falling))
    high, value, low = (
        float(falling[_last_rank(falling, near, at_most) - 1])
        for near in (rate - error, rate, rate + error)
    )
    return Measured(value, 0.0, "order statistics", low=low, high=high)


def efficiency_threshold(values: Floats, efficiency: float, weights: Floats | None = None) -> float:
    """Highest score that at least a fraction `efficiency` of the jets, or of their weights, reach.

    Raises
    ------
    InputError
        If `efficiency` does not lie between 0 and 1.
    """
    _check_rate(efficiency)
    if weights is not None:
        order = np.argsort(-values, kind="stable")
        falling = values[order]
        return float(falling[_last_rank(falling, efficiency, False, weights[order]) - 1])
    falling = np.sort(values)[::-1]
    return float(falling[_last_rank(falling, efficiency, at_most=False) - 1])


def _last_rank(falling: Floats, rate: float, at_most: bool, weights: Floats | None = None) -> int:
    """Number of jets down to the threshold: at least or at most `rate` of all, and at least one."""
    if weights is not None:
        return _last_weighted_rank(falling, rate, at_most, weights)
    number = len(falling)
    if not at_most:
        return min(max(math.ceil(rate * number * (1 - 1e-12)), 1), number)
    most = math.floor(rate * number * (1 + 1e-12))
    # jets of equal score pass together: the cut is above a group of ties that is too large
    ends = np.searchsorted(-falling, -falling, side="right")
    allowed = ends[ends <= most]
    return int(allowed[-1] if len(allowed) else ends[0])


def _last_weighted_rank(falling: Floats, rate: float, at_most: bool, weights: Floats) -> int:
    """Number of jets down to the threshold, as :func:`_last_rank`, for ``weights (n,)``."""
    ends = np.flatnonzero(np.concatenate([falling[1:] != falling[:-1], [True]])) + 1
    passed = np.cumsum(weights)[ends - 1] / weights.sum()
    highest = np.maximum.accumulate(passed)  # with negative weights the sum may fall again
    if not at_most:
        first = int(np.searchsorted(highest, rate * (1 - 1e-12)))
        return int(ends[min(first, len(ends) - 1)])
    allowed = int(np.searchsorted(highest, rate * (1 + 1e-12), side="right"))
    return int(ends[max(allowed, 1) - 1])
