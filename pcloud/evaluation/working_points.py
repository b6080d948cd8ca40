"""Where to cut: the threshold for a wanted efficiency or mistag rate, with errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.roc_point import RocPoint
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import binary_signal
from pcloud.typing import Floats

__all__ = ["WorkingPoint", "efficiency_threshold", "working_points"]


@dataclass(frozen=True)
class WorkingPoint:
    """A cut on the score of the signal: jets that score at least the threshold are tagged.

    Parameters
    ----------
    name : str
        What was asked for, such as ``"efficiency 0.5"``.
    threshold, efficiency, mistag_rate : Measured
        The score, the part of the signal that passes it and the part of the background, both
        counted. Of the two parts one was asked for: it has the error with which another sample
        would meet it at this threshold. The other has the interval of
        :class:`~pcloud.evaluation.roc_point.RocPoint`, which includes the error of the threshold.
        Where too few jets pass or fail, a part is a limit. A threshold at which
        many scores tie has no error.
    """

    name: str
    threshold: Measured
    efficiency: Measured
    mistag_rate: Measured

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {k: v.to_dict() if isinstance(v, Measured) else v for k, v in vars(self).items()}


def working_points(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    efficiencies: Sequence[float] = (0.3, 0.5, 0.7),
    mistag_rates: Sequence[float] = (0.1, 0.01),
    classes: Sequence[str] | None = None,
    signal: str | int | None = None,
    background: str | int | None = None,
) -> list[WorkingPoint]:
    """Find thresholds on the score of the signal.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Score of the signal, or the probability of each class.
    efficiencies, mistag_rates : sequence of float
        Wanted parts of the signal that pass at least, and of the background that pass at most.
    classes : sequence of str, optional
        Names of the classes.
    signal : str or int, optional
        The signal; by default the second of two classes. Of more classes it must be named.
    background : str or int, optional
        With more than two classes the one to reject, ranked by s / (s + b); by default all others.

    Returns
    -------
    list of WorkingPoint
        With the rates that the thresholds have on this sample. Jets of equal score pass together:
        where scores tie, the signal efficiency may be higher than wanted and the mistag rate
        lower; it is higher where even the highest score of the background has more jets.

    Raises
    ------
    InputError
        If the arrays or options cannot be used.
    """
    for rate in (*efficiencies, *mistag_rates):
        if not 0 < rate < 1:
            raise InputError(
                f"efficiencies and mistag rates must lie between 0 and 1, got {rate:g}"
            )
    sample = Scores.from_arrays(labels, scores, classes)
    if len(sample.classes) == 2:
        target = binary_signal(sample, signal, background)
        against: int | None = 1 - target
    elif signal is None:
        raise InputError(f"which of {', '.join(sample.classes)} is the signal?")
    else:
        target = sample.index(signal)
        against = None if background is None else sample.index(background)
    values = sample.discriminant(target, against)
    is_signal = sample.labels == target
    others = ~is_signal if against is None else sample.labels == against
    # the ranking sees a score of two classes from the side of its signal
    by_efficiency = [_point(values, is_signal, others, e) for e in efficiencies]
    by_mistag = [_point(values, others, is_signal, m, at_most=True) for m in mistag_rates]
    found = [
        WorkingPoint(f"efficiency {e:g}", *point)
        for e, point in zip(efficiencies, by_efficiency, strict=True)
    ]
    found += [
        WorkingPoint(f"mistag rate {m:g}", threshold, other, wanted)
        for m, (threshold, wanted, other) in zip(mistag_rates, by_mistag, strict=True)
    ]
    return found


def _point(
    values: Floats,
    wanted: NDArray[np.bool_],
    others: NDArray[np.bool_],
    rate: float,
    *,
    at_most: bool = False,
) -> tuple[Measured, Measured, Measured]:
    """Threshold that `rate` of the `wanted` jets pass, their rate, and that of the `others`."""
    threshold = _threshold(values[wanted], rate, at_most)
    passed = int((values[wanted] >= threshold.value).sum())
    own_rate = Measured.fraction(passed, int(wanted.sum()))
    passed_others, number_others = int((values[others] >= threshold.value).sum()), int(others.sum())
    is_certain = math.isnan(threshold.error)
    if is_certain or passed_others in (0, number_others):
        return threshold, own_rate, Measured.fraction(passed_others, number_others)
    part = passed / int(wanted.sum())
    counts = Ranking(values, wanted, others).counts
    return threshold, own_rate, RocPoint(counts, part if part < 1 else rate).measured()


def _threshold(values: Floats, rate: float, at_most: bool) -> Measured:
    """Lowest score that passes, between the thresholds for rates one error away.

    The rank of the true threshold among n jets is binomial, so that its 68 % interval is between
    two order statistics, whatever the distribution of the scores. Where these are tied, the
    threshold is known without an error.
    """
    falling = np.sort(values)[::-1]
    error = math.sqrt(rate * (1 - rate) / len(falling))
    high, value, low = (
        float(falling[_last_rank(falling, near, at_most) - 1])
        for near in (rate - error, rate, rate + error)
    )
    return Measured(value, 0.0, "order statistics", low=low, high=high)


def efficiency_threshold(values: Floats, efficiency: float) -> float:
    """Highest score that at least a fraction `efficiency` of the jets reach."""
    falling = np.sort(values)[::-1]
    return float(falling[_last_rank(falling, efficiency, at_most=False) - 1])


def _last_rank(falling: Floats, rate: float, at_most: bool) -> int:
    """Number of jets down to the threshold: at least `rate` of all, or at most; one if none."""
    number = len(falling)
    if not at_most:
        return min(max(math.ceil(rate * number * (1 - 1e-12)), 1), number)
    most = math.floor(rate * number * (1 + 1e-12))
    # jets of equal score pass together: where too many tie, the cut is above them
    ends = np.searchsorted(-falling, -falling, side="right")
    allowed = ends[ends <= most]
    return int(allowed[-1] if len(allowed) else ends[0])
