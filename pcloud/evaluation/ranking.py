"""Signal and background jets in order of score: ROC curve, area, working points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.influence import effective_size
from pcloud.typing import Booleans, Floats, Integers


@dataclass(frozen=True)
class Counts:
    """Numbers of signal and background jets in the groups of a ranking, highest score first.

    They are sums of weights where the jets have weights. With negative weights the signal efficiency
    does not only rise as the cut is relaxed, and the first group that reaches an efficiency is used.

    Within a group the order of signal and background is unknown, so that the ROC curve is a
    straight line there: half of the tied pairs count as correctly ordered, and a working point
    inside the group accepts the same fraction of its signal and of its background.
    """

    signal: Integers | Floats  # (G,)
    background: Integers | Floats  # (G,)

    def auc(self) -> float:
        """Area under the ROC curve: fraction of pairs in which the signal jet scores higher.

        The sum over numbers is one over integers, so that only the last division is rounded.
        """
        above = np.cumsum(self.signal) - self.signal
        pairs = np.sum(self.background * (2 * above + self.signal))  # twice the number
        return float(pairs) / (2.0 * float(self.signal.sum()) * float(self.background.sum()))

    def background_efficiency(self, efficiency: Floats) -> Floats:
        """Fraction of the background that passes the cut with the signal efficiency `efficiency`.

        Several cuts have the same signal efficiency where background jets score between two
        signal jets. The tightest of them is used, which passes the least background.
        """
        group, fraction = self.working_point(efficiency)
        passed = np.cumsum(self.background)[group] - self.background[group]
        return (passed + fraction * self.background[group]) / self.background.sum()

    def working_point(self, efficiency: Floats) -> tuple[Integers, Floats]:
        """Group in which a signal efficiency is reached, and the accepted fraction of the group."""
        kept = np.cumsum(self.signal)
        reached = np.maximum.accumulate(kept) if kept.dtype.kind == "f" else kept
        # 0.1 x 30 is 3.0000000000000004 in floating point and must not require a fourth jet.
        required = np.asarray(efficiency) * kept[-1] * (1 - 1e-12)
        group = np.searchsorted(reached, required)
        inside = self.signal[group]
        return group, (required - kept[group] + inside) / inside

    def background_above(self, position: Floats) -> Floats:
        """Number of background jets that score above the signal jet at a position from 1 to n.

        Position 0 is above all jets, position n + 1 below all. In a group of ties, its s signal
        jets divide its background into s + 1 equal parts.
        """
        kept = np.cumsum(self.signal)
        inside = np.clip(position, 1, kept[-1])
        group = np.searchsorted(kept, inside)
        number = self.signal[group]
        below = self.background[group] * (kept[group] + 1 - inside) / (number + 1)
        above = np.cumsum(self.background)[group] - below
        ends = np.where(position > kept[-1], float(self.background.sum()), 0.0)
        return np.where(inside == position, above, ends)

    def tied_variance(self, efficiency: float) -> tuple[float, float]:
        """Fraction by which ties reduce the binomial variance of signal and background.

        A cut that accepts the fraction f of a group accepts f of each of its s jets. The variance
        of the accepted number is then n e (1 - e) - s f (1 - f), where e is the efficiency and n
        the number of jets.
        """
        group, fraction = self.working_point(np.array(efficiency))
        if self.background[group] == 0:  # a group of signal jets alone, which are not tied
            return 0.0, 0.0
        spread = fraction * (1 - fraction)
        passed = float(self.background_efficiency(np.array(efficiency)))
        shares = [
            float(number[group] * spread / (number.sum() * rate * (1 - rate))) if rate < 1 else 0.0
            for number, rate in ((self.signal, efficiency), (self.background, passed))
        ]
        return shares[0], shares[1]

    def slope(self, efficiency: float, number: float | None = None) -> float:
        """Slope of the ROC curve, d(background efficiency) / d(signal efficiency).

        It is a finite difference over a window of half-width n^(-1/5) / 2, the optimal rate for
        a density estimate, limited to a third of the distance to either end of the curve. Here n is
        `number`, by default the number of signal jets.
        """
        number = self.signal.sum() if number is None else number
        half = min(0.5 * number**-0.2, efficiency / 3, (1 - efficiency) / 3)
        low, high = self.background_efficiency(np.array([efficiency - half, efficiency + half]))
        return float(high - low) / (2 * half)

    def curve(self) -> tuple[Floats, Floats]:
        """Corners of the ROC curve: background efficiency and signal efficiency."""
        corner = [np.concatenate([[0], np.cumsum(n)]) / n.sum() for n in self._ordered()]
        return corner[1], corner[0]

    def _ordered(self) -> tuple[Integers | Floats, Integers | Floats]:
        return self.signal, self.background


class Ranking:
    """Signal and background jets sorted once by score, for any number of resamplings.

    Jets of equal score form a group. Consecutive jets of one kind form a group as well, since
    their order changes neither the area nor the working points: 404 000 jets give about 40 000
    groups. Jets with weights form no such groups, because weights may be negative.

    Parameters
    ----------
    scores : ndarray, shape (B,)
        Score of every jet; higher is more signal-like. It need not be a probability.
    signal, background : ndarray of bool, shape (B,)
        Masks of the signal jets and of the background jets. Other jets are left out.
    weights : ndarray, shape (B,), optional
        Weights of the jets. Weights that are equal within signal and within background have no
        effect and are not used.

    Attributes
    ----------
    weights : ndarray or None, shape (B,)
        Weights that are used.
    signal_size, background_size : float
        Effective numbers of jets, those with equal weights that have the same relative error.

    Raises
    ------
    InputError
        If a kind has no jets, or weights whose sum is not positive.
    """

    def __init__(
        self,
        scores: Floats,
        signal: Booleans,
        background: Booleans,
        weights: Floats | None = None,
    ) -> None:
        if not signal.any() or not background.any():
            raise InputError("ranking needs jets of both kinds, signal and background")
        if weights is not None and all(np.ptp(weights[kind]) == 0 for kind in (signal, background)):
            weights = None
        self.weights = weights
        jets = np.flatnonzero(signal | background)
        order = jets[np.argsort(-scores[jets], kind="stable")]
        is_signal = signal[order]
        group = _groups(scores[order], is_signal, merged=weights is None)
        self.size = len(scores)
        self.num_groups = int(group[-1]) + 1
        self.signal_jets = order[is_signal]
        self.signal_group = group[is_signal]
        self.background_jets = order[~is_signal]
        self.background_group = group[~is_signal]
        self._signal_starts = _starts(self.signal_group)
        self._background_starts = _starts(self.background_group)
        self.counts = self.resampled(np.ones(self.size, dtype=np.uint8))
        self.signal_size: float = len(self.signal_jets)
        self.background_size: float = len(self.background_jets)
        self._totals: tuple[float, float] = (self.signal_size, self.background_size)
        if weights is not None:
            self.signal_size = effective_size(weights[self.signal_jets])
            self.background_size = effective_size(weights[self.background_jets])
            self._totals = (float(self.counts.signal.sum()), float(self.counts.background.sum()))
            if min(self._totals) <= 0:
                raise InputError("the weights of signal and of background must have a positive sum")

    def resampled(self, multiplicities: Integers) -> Counts:
        """Counts of the groups if jet i occurs ``multiplicities[i]`` times."""
        weights = multiplicities if self.weights is None else multiplicities * self.weights
        return Counts(
            self._sum(weights[self.signal_jets], self.signal_group, self._signal_starts),
            self._sum(
                weights[self.background_jets], self.background_group, self._background_starts
            ),
        )

    def _sum(
        self, weights: Integers | Floats, group: Integers, starts: Integers
    ) -> Integers | Floats:
        dtype: type = np.int64 if self.weights is None else np.float64
        total: NDArray[Any] = np.zeros(self.num_groups, dtype=dtype)
        total[group[starts]] = np.add.reduceat(weights, starts, dtype=dtype)
        return total

    def _weighted(self, influence: Floats) -> Floats:
        """Influence of jets with weights, from that of jets without."""
        return influence if self.weights is None else influence * self.weights

    def auc_influence(self) -> Floats:
        """Influence function of the area: contribution of each jet to its deviation, shape (B,).

        These are the structural components of DeLong, centred and divided by the number of
        jets of their kind. The sum of their squares estimates the variance of the area. With
        weights, each is multiplied by the weight of the jet over the mean weight.
        """
        counts = self.counts
        auc = counts.auc()
        num_signal, num_background = self._totals
        below = num_background - np.cumsum(counts.background) + counts.background / 2
        above = np.cumsum(counts.signal) - counts.signal / 2
        influence = np.zeros(self.size)
        influence[self.signal_jets] = (below[self.signal_group] / num_background - auc) / num_signal
        influence[self.background_jets] = (
            above[self.background_group] / num_signal - auc
        ) / num_background
        return self._weighted(influence)

    def background_efficiency_influence(self, efficiency: float) -> Floats:
        """Influence function of the background efficiency at a signal efficiency, shape (B,).

        The background jets contribute the counting error at a fixed threshold, the signal jets
        the error of the threshold times the slope of the ROC curve.
        """
        passed = self.accepted(efficiency)
        num_signal, num_background = self._totals
        if self.weights is None:
            value = passed[self.background_jets].mean()
        else:
            value = float(self.counts.background_efficiency(np.array(efficiency)))
        influence = np.zeros(self.size)
        influence[self.background_jets] = (passed[self.background_jets] - value) / num_background
        influence[self.signal_jets] = (
            self.counts.slope(efficiency, self.signal_size)
            * (efficiency - passed[self.signal_jets])
            / num_signal
        )
        return self._weighted(influence)

    def accepted(self, efficiency: float) -> Floats:
        """Probability that each jet passes: 1 above the cut, 0 below it, in between for ties."""
        group, fraction = self.counts.working_point(np.array(efficiency))
        passed = np.zeros(self.size)
        passed[self.background_jets] = (self.background_group < group) + fraction * (
            self.background_group == group
        )
        if self.weights is not None or self.counts.background[group]:
            passed[self.signal_jets] = (self.signal_group < group) + fraction * (
                self.signal_group == group
            )
        else:  # only signal in this group: its jets pass one after another
            position = np.arange(len(self.signal_jets))
            required = efficiency * len(self.signal_jets)
            passed[self.signal_jets] = np.clip(required - position, 0, 1)
        return passed


def _groups(scores: Floats, is_signal: Booleans, *, merged: bool) -> Integers:
    """Index of the group of each jet, for jets sorted by score.

    Groups of one kind that follow each other are one group if `merged` is true.
    """
    tie = np.concatenate([[0], np.cumsum(scores[1:] != scores[:-1])])
    if not merged:
        return tie
    size = np.bincount(tie)
    purity = np.bincount(tie, weights=is_signal) / size  # 0 or 1 in a group of one kind
    mixed = (purity > 0) & (purity < 1)
    new = np.concatenate([[False], (purity[1:] != purity[:-1]) | mixed[1:]])
    return np.cumsum(new)[tie]


def _starts(group: Integers) -> Integers:
    return np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
