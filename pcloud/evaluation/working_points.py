"""Where to cut: the threshold for a wanted efficiency or mistag rate, with errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.measured import Measured, zero_fraction_limit
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.resampling import counting_error
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import binary_signal

__all__ = ["WorkingPoint", "working_points"]


@dataclass(frozen=True)
class WorkingPoint:
    """A cut on the score of the signal: jets that score at least the threshold are tagged.

    Parameters
    ----------
    name : str
        What was asked for, such as ``"efficiency 0.5"``.
    threshold, efficiency, mistag_rate : Measured
        The score, the part of the signal that passes it and the part of the background. Of the
        two parts one was asked for: it has the error with which another sample would meet it at
        this threshold. The other has the error at the wanted rate, which the threshold's is in.
    """

    name: str
    threshold: Measured
    efficiency: Measured
    mistag_rate: Measured

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return asdict(self)


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
        Wanted parts of the signal, and of the background, that pass.
    classes : sequence of str, optional
        Names of the classes.
    signal : str or int, optional
        The signal; by default the second of two classes. Of more classes it must be named.
    background : str or int, optional
        With more than two classes the one to reject, ranked by s / (s + b); by default all others.

    Returns
    -------
    list of WorkingPoint

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
    sample = Scores.check(labels, scores, classes)
    if len(sample.classes) == 2:
        target = binary_signal(sample, signal, background)
        against: int | None = 1 - target
    elif signal is None:
        raise InputError(f"which of {', '.join(sample.classes)} is the signal?")
    else:
        target = sample.index(signal)
        against = None if background is None else sample.index(background)
    values = sample.of(target, against)
    is_signal = sample.labels == target
    others = ~is_signal if against is None else sample.labels == against
    # the ranking sees a score of two classes from the side of its signal
    by_efficiency = [_point(values, is_signal, others, sample.labels, e) for e in efficiencies]
    by_mistag = [_point(values, others, is_signal, sample.labels, m) for m in mistag_rates]
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
    values: NDArray[np.floating],
    wanted: NDArray[np.bool_],
    others: NDArray[np.bool_],
    labels: NDArray[np.integer],
    rate: float,
) -> tuple[Measured, Measured, Measured]:
    """Threshold that `rate` of the `wanted` jets pass, their rate, and that of the `others`."""
    number = int(wanted.sum())
    error = float(np.sqrt(rate * (1 - rate) / number))
    ranking = Ranking(values, wanted, others)
    passed = float(ranking.counts.background_efficiency(np.array(rate)))
    other = Measured(
        passed,
        counting_error(ranking.background_efficiency_influence(rate), labels),
        "counting",
    )
    if passed == 0:
        limit = zero_fraction_limit(int(others.sum()))
        other = Measured(limit, 0.0, "none passes", limit="upper")
    return (
        _threshold(values[wanted], rate, error),
        Measured(rate, error, "binomial"),
        other,
    )


def _threshold(values: NDArray[np.floating], rate: float, error: float) -> Measured:
    """Score of the last jet that passes; half the distance of the scores one error away.

    The rank of the true threshold among n jets is binomial, so that its 68 % interval is between
    two order statistics, whatever the distribution of the scores.
    """
    down = np.sort(values)[::-1]
    number = len(down)
    ranks = np.ceil(np.array([rate - error, rate, rate + error]) * number * (1 - 1e-12)) - 1
    high, value, low = down[np.clip(ranks.astype(int), 0, number - 1)]
    return Measured(float(value), float(high - low) / 2, "order statistics")
