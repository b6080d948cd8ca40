"""Split-conformal intervals of a quantity: intervals that contain the truth at a given rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval, Len

from pcloud.errors import InputError
from pcloud.evaluation.regression import PredictedTarget
from pcloud.stored_values import Name
from pcloud.typing import Booleans, Floats

__all__ = ["ConformalIntervals", "fit_intervals"]

LEVELS = (0.68, 0.95)
"""Levels of the intervals that are fitted."""

_MIN_JETS_OF_BIN = 100
_NUM_BINS = 3

_Number = Annotated[float, Interval(ge=-1e100, le=1e100)]


@dataclass(frozen=True)
class ConformalIntervals:
    """Widths by which the intervals of a prediction are moved outwards.

    Parameters
    ----------
    target : str
        Name of the target.
    level : float
        Fraction of jets whose interval contains the true value.
    edges : sequence of float
        Edges in jet pT, in GeV, between bins with a width each; none for one width.
    widths : sequence of float
        Width of each bin on the scale of the prediction: in standard deviations of a prediction
        that has them. None is infinite: there were too few jets for this level.
    """

    target: Name
    level: Annotated[float, Interval(gt=0, lt=1)]
    edges: Annotated[Sequence[_Number], Len(0, 1000)]
    widths: Annotated[Sequence[_Number | None], Len(1, 1001)]

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.edges) + 1:
            raise InputError(f"widths of {self.target}: not one for each bin")

    def ends(self, sample: PredictedTarget) -> tuple[Floats, Floats]:
        """Ends (B,) of the intervals in the unit of the target."""
        low, high = np.empty(len(sample)), np.empty(len(sample))
        place = self._place(sample)
        for i, width in enumerate(self.widths):
            inside = place == i
            grown = sample.select(inside).prediction.widened(self.level, _finite(width))
            low[inside], high[inside] = (sample.target.value(end).numpy() for end in grown)
        return low, high

    def covered(self, sample: PredictedTarget) -> Booleans:
        """Mask (B,) of the jets whose interval contains the true value."""
        width = np.array([_finite(w) for w in self.widths])[self._place(sample)]
        excess = sample.prediction.excess(sample.learned_truth, self.level).numpy()
        return excess <= width

    def _place(self, sample: PredictedTarget) -> np.ndarray:
        """Bin (B,) of each jet."""
        if len(self.edges) == 0:
            return np.zeros(len(sample), dtype=np.intp)
        return np.searchsorted(self.edges, sample.observables["pt"], side="right")


def fit_intervals(
    sample: PredictedTarget, level: float, bins: int = _NUM_BINS
) -> ConformalIntervals:
    """Fit the widths on jets that were not used in the training.

    If these and future jets are exchangeable, the interval of a future jet contains its true value
    with a probability of at least `level`, for any network. With several bins of jet pT this holds
    in each bin.

    Parameters
    ----------
    sample : PredictedTarget
        Predictions of validation jets.
    level : float
        Fraction of jets whose interval contains the true value.
    bins : int
        Number of bins of jet pT with equal numbers of jets; one if there are few jets.

    Raises
    ------
    InputError
        If the level is not between 0 and 1, or a weight is negative.

    References
    ----------
    Lei et al., https://arxiv.org/abs/1604.04173 (absolute and scaled differences); Romano,
    Patterson and Candès, https://arxiv.org/abs/1905.03222 (quantiles); Vovk,
    https://arxiv.org/abs/1209.2673 (bins).
    """
    if not 0 < level < 1:
        raise InputError(f"the level of an interval is between 0 and 1, got {level:g}")
    weights = sample.weights
    if weights is not None and bool((weights < 0).any()):
        raise InputError("conformal intervals need weights that are not negative")
    edges: list[float] = []
    if bins > 1 and "pt" in sample.observables and len(sample) >= bins * _MIN_JETS_OF_BIN:
        inner = np.linspace(0, 1, bins + 1)[1:-1]
        edges = np.unique(np.quantile(sample.observables["pt"], inner)).tolist()
    excess = sample.prediction.excess(sample.learned_truth, level).numpy()
    place = np.searchsorted(edges, sample.observables["pt"], "right") if edges else None
    widths = []
    for i in range(len(edges) + 1):
        inside = slice(None) if place is None else place == i
        widths.append(_width(excess[inside], level, None if weights is None else weights[inside]))
    return ConformalIntervals(sample.name, level, edges, widths)


def _width(excess: Floats, level: float, weights: Floats | None) -> float | None:
    """Smallest width that covers enough jets; None if there are too few."""
    w = np.ones(len(excess)) if weights is None else weights
    if len(w) == 0 or not w.sum() > 0:
        return None
    order = np.argsort(excess)
    # the future jet, with the largest weight, may have any excess
    needed = level * (w.sum() + w.max()) * (1 - 1e-12)
    k = int(np.searchsorted(np.cumsum(w[order]), needed, side="left"))
    return float(excess[order][k]) if k < len(excess) else None


def _finite(width: float | None) -> float:
    return math.inf if width is None else width
