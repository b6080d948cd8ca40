"""Metrics of an evaluation, each with its value, its influence function and its limit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pcloud.evaluation.influence import effective_size, weighted_mean
from pcloud.evaluation.measured import CONFIDENCE, Measured, zero_fraction_limit
from pcloud.evaluation.ranking import Counts, Ranking
from pcloud.evaluation.resampling import counting_error
from pcloud.evaluation.roc_point import RocPoint
from pcloud.evaluation.tasks import Task
from pcloud.evaluation.weighted_roc_point import WeightedRocPoint
from pcloud.typing import Floats

Weights = NDArray[np.uint8]

_ROUNDING = 1e-12  # of the area of jets with weights


class Metric(ABC):
    """Quantity estimated from the jets of a sample.

    Attributes
    ----------
    name : str
        Name in the table.
    method : str
        Name of the method of its counting error.
    """

    name: str
    method: str

    @abstractmethod
    def value(self, weights: Weights, counts: Sequence[Counts]) -> float:
        """Value if jet i occurs ``weights[i]`` times; `counts` are those of the tasks."""

    @abstractmethod
    def influence(self) -> Floats:
        """Influence function: first-order change of the value due to each jet, shape (B,)."""

    @abstractmethod
    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Table entry for a value and its errors."""


@dataclass(frozen=True)
class Accuracy(Metric):
    """Fraction of jets whose most probable class is the true one."""

    correct: NDArray[np.bool_]
    labels: NDArray[np.integer]
    weights: NDArray[np.float64] | None = None  # of the jets
    name: str = "accuracy"
    method: str = "binomial"

    def value(self, weights: Weights, counts: Sequence[Counts]) -> float:
        """Weighted fraction of jets that are correctly classified."""
        if self.weights is not None:
            both = weights * self.weights
            return float(both @ self.correct) / float(both.sum())
        return float(np.sum(weights, where=self.correct, dtype=np.int64)) / len(weights)

    def influence(self) -> Floats:
        """``1 / B`` for each correctly classified jet, 0 for the others; or that of a mean."""
        if self.weights is not None:
            return weighted_mean(self.correct, self.weights).influence
        return self.correct / len(self.correct)

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Accuracy, or a limit if all jets or no jets are correctly classified."""
        if self.weights is not None:
            estimate = weighted_mean(self.correct, self.weights)
            found = estimate.fraction(effective_size(self.weights), self.labels)
            return found if found.limit else replace(found, bootstrap=bootstrap)
        total = np.bincount(self.labels)
        passed = np.bincount(self.labels[self.correct], minlength=len(total))
        fraction = Measured.stratified_fraction(passed, total, self.method)
        return fraction if fraction.limit else replace(fraction, bootstrap=bootstrap)


@dataclass(frozen=True)
class Area(Metric):
    """Area under the ROC curve of one task."""

    task: Task
    position: int  # of the task among the counts
    name: str
    method: str = "DeLong"

    def value(self, weights: Weights, counts: Sequence[Counts]) -> float:
        """Fraction of pairs in which the signal jet scores higher."""
        return counts[self.position].auc()

    def influence(self) -> Floats:
        """Structural components of DeLong."""
        return self.task.ranking.auc_influence()

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Area, or a limit if the classes do not overlap.

        With n jets in the smaller class there are n independent pairs of a signal jet and a
        background jet. The probability that the signal jet scores higher is the area.
        """
        return area_or_limit(value, error, bootstrap, self.method, self.task.smaller_class)


@dataclass(frozen=True)
class MacroArea(Metric):
    """Unweighted mean area of several tasks, each class against the rest."""

    areas: Sequence[Area]
    name: str = "auc_ovr"
    method: str = "DeLong"

    def value(self, weights: Weights, counts: Sequence[Counts]) -> float:
        """Mean of the areas."""
        return float(np.mean([area.value(weights, counts) for area in self.areas]))

    def influence(self) -> Floats:
        """Mean of the influence functions, since the areas share their jets and are correlated."""
        total = self.areas[0].influence()
        for area in self.areas[1:]:  # one at a time: each needs memory for the whole sample
            total = total + area.influence()
        return total / len(self.areas)

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Mean area, or a limit if no two classes overlap."""
        smaller = min(area.task.smaller_class for area in self.areas)
        return area_or_limit(value, error, bootstrap, self.method, smaller)


@dataclass(frozen=True)
class Rejection(Metric):
    """Inverse of the background efficiency at a signal efficiency.

    Value, interval and limits are those of the background efficiency (`RocPoint`), inverted in the
    last step. Only the bootstrap error is scaled by the derivative of the inverse.
    """

    task: Task
    position: int
    efficiency: float
    name: str
    method: str = "counting"

    def value(self, weights: Weights, counts: Sequence[Counts]) -> float:
        """Background efficiency."""
        return float(counts[self.position].background_efficiency(np.array(self.efficiency)))

    def influence(self) -> Floats:
        """Influence function of the background efficiency."""
        return self.task.ranking.background_efficiency_influence(self.efficiency)

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Rejection with the interval of `RocPoint`, or a limit instead.

        The first-order `error` is used only for jets with weights: it is wrong where few jets are
        near the cut.
        """
        efficiency = measured_background_efficiency(self.task.ranking, self.efficiency)
        found = inverse_fraction(efficiency)
        if found.limit or bootstrap is None:
            return found
        return replace(found, bootstrap=bootstrap * value**-2)  # |d(1/x) / dx|


def task_estimates(task: Task, position: int, efficiencies: Sequence[float]) -> list[Metric]:
    """Area and rejections of one task."""
    rejections = [Rejection(task, position, e, task.key(f"rejection@{e:g}")) for e in efficiencies]
    return [Area(task, position, task.key("auc")), *rejections]


def measured_background_efficiency(ranking: Ranking, efficiency: float) -> Measured:
    """Background efficiency at a signal efficiency with its interval, or a limit."""
    if ranking.weights is not None:
        return WeightedRocPoint(ranking, efficiency).measured()
    return RocPoint(ranking.counts, efficiency).measured()


def measured_area(task: Task, labels: NDArray[np.integer]) -> Measured:
    """Area of a task with its counting error; `labels` (B,) are the classes of all jets."""
    ranking = task.ranking
    error = counting_error(ranking.auc_influence(), labels)
    return area_or_limit(ranking.counts.auc(), error, None, "DeLong", task.smaller_class)


def inverse_fraction(efficiency: Measured) -> Measured:
    """Rejection of a background efficiency: 1 / x of its value and of the ends of its intervals."""
    opposite: dict[str, Literal["lower", "upper"]] = {"lower": "upper", "upper": "lower"}
    value = 1 / efficiency.value if efficiency.value else math.nan
    method = efficiency.method
    limit = opposite[efficiency.limit] if efficiency.limit else None
    if efficiency.low95 is None and (limit or efficiency.counts is None):
        return Measured(value, 0.0, method, limit=limit)
    high, low = (1 / end for end in efficiency.interval())
    high95, low95 = (1 / end for end in efficiency.interval(CONFIDENCE))
    return Measured(value, (high - low) / 2, method, None, limit, low, high, low95, high95)


def area_or_limit(
    value: float, error: float, bootstrap: float | None, method: str, trials: float
) -> Measured:
    """Area with its error, or a limit if it is 0 or 1.

    Parameters
    ----------
    value, error : float
        Area and its counting error.
    bootstrap : float, optional
        Bootstrap error of the area.
    method : str
        Name of the method of `error`.
    trials : float
        Number of independent pairs of a signal jet and a background jet.
    """
    bound = zero_fraction_limit(trials)
    if not error > 0 and abs(value - round(value)) <= _ROUNDING:  # of sums of weights
        value = round(value)
    if value == 1:
        return Measured(1 - bound, 0.0, "no failure", limit="lower", low=1 - bound, high=1.0)
    if value == 0:
        return Measured(bound, 0.0, "no success", limit="upper", low=0.0, high=bound)
    if not error > 0:  # all of the pairs are tied: at most a fraction `bound` of all pairs is not
        return Measured(value, bound / 2, "all scores tied")
    return Measured(value, error, method, bootstrap)
