"""Confidence intervals of the background efficiency at a signal efficiency, of jets with weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pcloud.evaluation.influence import METHOD, Estimate, effective_size
from pcloud.evaluation.measured import CONFIDENCE, Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.roc_point import MIN_BACKGROUND_JETS, MIN_SIGNAL_JETS
from pcloud.typing import Floats

__all__ = ["WeightedRocPoint"]


@dataclass(frozen=True)
class WeightedRocPoint:
    """Background efficiency at a signal efficiency with its error from the influence function.

    The error contains the fluctuation of the background that passes, with the weights of these very
    jets, and that of the threshold, with the weights of the signal jets times the slope of the ROC
    curve. The interval is that of a binomial fraction with this error.

    A limit is quoted where fewer than two effective signal jets are expected on one side of the cut,
    or fewer than three effective background jets pass. The background that passes then has a scaled
    Poisson distribution, whose mean and variance are those of the sum of weights. Half of the
    probability outside is that of the threshold, the other half that of the background.

    Parameters
    ----------
    ranking : Ranking
        Jets with weights.
    efficiency : float
        Signal efficiency, between 0 and 1.

    References
    ----------
    Bohm and Zech, *Nucl. Instrum. Meth. A* 748 (2014) 1, https://arxiv.org/abs/1309.1287 (scaled
    Poisson distribution).
    """

    ranking: Ranking
    efficiency: float

    @cached_property
    def estimate(self) -> Estimate:
        """Background efficiency of the sample with its influence function."""
        value = float(self.ranking.counts.background_efficiency(np.array(self.efficiency)))
        return Estimate(value, self.ranking.background_efficiency_influence(self.efficiency))

    @cached_property
    def missing(self) -> str:
        """Reason why the sample has no interval; empty if it has one."""
        accepted = self.ranking.accepted(self.efficiency)
        signal = self._weights[self.ranking.signal_jets]
        share = accepted[self.ranking.signal_jets]
        failing = effective_size(signal * (1 - share))
        if failing < 1:
            return "no signal jet fails"
        if failing < MIN_SIGNAL_JETS:
            return "one signal jet fails"
        if effective_size(signal * share) < MIN_SIGNAL_JETS:
            return "too few signal jets pass"
        jets = self.ranking.background_jets
        passing = self._weights[jets] * accepted[jets]
        if self.estimate.value <= 0:
            return "no background passes"
        if effective_size(passing) < MIN_BACKGROUND_JETS:
            return "fewer than three background jets pass"
        return ""

    def measured(self) -> Measured:
        """Background efficiency with its error, or a limit instead."""
        if self.missing:
            lower = self._lower_limit() if self.missing.endswith("signal jet fails") else 0.0
            if lower > 0:
                return Measured(lower, 0.0, self.missing, limit="lower")
            return Measured(self._upper_limit(), 0.0, self.missing, limit="upper")
        found = self.estimate.fraction(self.ranking.background_size)
        if found.limit or found.counts is None:
            return found
        return Measured(
            self.estimate.value,
            found.error,
            METHOD,
            None,
            None,
            found.low,
            found.high,
            *found.interval(CONFIDENCE),
        )

    @property
    def _weights(self) -> Floats:
        assert self.ranking.weights is not None
        return self.ranking.weights

    def _upper_limit(self) -> float:
        from scipy.special import gammaincinv

        number, unit = self._passing(self._threshold((1 + CONFIDENCE) / 2))
        return min(unit * float(gammaincinv(number + 1, (1 + CONFIDENCE) / 2)), 1.0)

    def _lower_limit(self) -> float:
        from scipy.special import gammaincinv

        number, unit = self._passing(self._threshold((1 - CONFIDENCE) / 2))
        return unit * float(gammaincinv(number, (1 - CONFIDENCE) / 2)) if number > 0 else 0.0

    def _threshold(self, level: float) -> float:
        """Quantile of the signal efficiency that has the true one; 1 if all signal may pass."""
        from scipy.special import betaincinv

        number = self.ranking.signal_size
        passing = self.efficiency * number
        upper = level > 0.5
        if (passing if not upper else number - passing) < 1:
            return float(upper)
        shifts = (1, 0) if upper else (0, 1)
        return float(betaincinv(passing + shifts[0], number - passing + shifts[1], level))

    def _passing(self, efficiency: float) -> tuple[float, float]:
        """Effective number of background jets that pass, and the efficiency that one stands for."""
        jets = self.ranking.background_jets
        weights = self._weights[jets]
        total = float(weights.sum())
        passed = weights
        if efficiency < 1:
            passed = (
                weights * self.ranking.accepted(efficiency)[jets] if efficiency > 0 else 0 * weights
            )
        number = effective_size(passed)
        if number == 0 or passed.sum() <= 0:
            return 0.0, 1 / self.ranking.background_size
        return number, float(passed @ passed) / float(passed.sum()) / total
