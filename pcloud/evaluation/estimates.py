"""The quantities of an evaluation: each knows its value, its influence and its limit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pcloud.evaluation.measured import CONFIDENCE, Measured, zero_fraction_limit
from pcloud.evaluation.ranking import Counts
from pcloud.evaluation.roc_point import RocPoint
from pcloud.evaluation.tasks import Task
from pcloud.typing import Floats

Weights = NDArray[np.uint8]


class Metric(ABC):
    """A quantity estimated from the jets of a sample.

    Attributes
    ----------
    name : str
        Name in the table.
    method : str
        Name of its counting error.
    """

    name: str
    method: str

    @abstractmethod
    def value(self, weights: Weights, counts: Sequence[Counts]) -> float:
        """Value when jet i is taken ``weights[i]`` times, `counts` being those of the tasks."""

    @abstractmethod
    def influence(self) -> Floats:
        """First-order change of the value due to each jet, shape (B,)."""

    @abstractmethod
    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Table entry for a value and its errors."""


@dataclass(frozen=True)
class Accuracy(Metric):
    """Fraction of jets whose most probable class is the true one."""

    correct: NDArray[np.bool_]
    labels: NDArray[np.integer]
    name: str = "accuracy"
    method: str = "binomial"

    def value(self, weights: Weights, counts: Sequence[Counts]) -> float:
        """Weighted fraction of jets that are right."""
        return float(np.sum(weights, where=self.correct, dtype=np.int64)) / len(weights)

    def influence(self) -> Floats:
        """One share of the total for each jet that is right."""
        return self.correct / len(self.correct)

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Accuracy, or a limit if every jet is right or every jet wrong."""
        passed, total = np.bincount(self.labels[self.correct]), np.bincount(self.labels)
        passed = np.pad(passed, (0, len(total) - len(passed)))
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
        """Share of well-ordered pairs."""
        return counts[self.position].auc()

    def influence(self) -> Floats:
        """DeLong's structural components."""
        return self.task.ranking.auc_influence()

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Area, or a limit if the classes do not overlap.

        Of the smaller class's n jets, each makes a pair with one of the larger: n independent
        pairs, each well ordered with a probability that is the area.
        """
        return area_or_limit(value, error, bootstrap, self.method, self.task.smaller_class)


@dataclass(frozen=True)
class MacroArea(Metric):
    """Mean area of several tasks, each class against the rest, each counting the same."""

    areas: Sequence[Area]
    name: str = "auc_ovr"
    method: str = "DeLong"

    def value(self, weights: Weights, counts: Sequence[Counts]) -> float:
        """Mean of the areas."""
        return float(np.mean([area.value(weights, counts) for area in self.areas]))

    def influence(self) -> Floats:
        """Mean of the influences: the areas share their jets, so they are correlated."""
        total = self.areas[0].influence()
        for area in self.areas[1:]:  # one at a time: each is as long as the sample
            total = total + area.influence()
        return total / len(self.areas)

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Mean area, or a limit if no two classes overlap."""
        smaller = min(area.task.smaller_class for area in self.areas)
        return area_or_limit(value, error, bootstrap, self.method, smaller)


@dataclass(frozen=True)
class Rejection(Metric):
    """Inverse of the background efficiency at a signal efficiency.

    Value, interval and limits are those of the background efficiency (`RocPoint`) up to the last
    step. Only the bootstrap error is scaled by the derivative of the inverse.
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
        """Influence on the background efficiency."""
        return self.task.ranking.background_efficiency_influence(self.efficiency)

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Rejection with the interval of `RocPoint`, or the limit that stands in its place.

        The first-order `error` is not quoted: it fails where few jets are near the cut.
        """
        efficiency = RocPoint(self.task.ranking.counts, self.efficiency).measured()
        found = _inverse(efficiency)
        if found.limit or bootstrap is None:
            return found
        return replace(found, bootstrap=bootstrap * value**-2)  # |d(1/x) / dx|


def task_estimates(task: Task, position: int, efficiencies: Sequence[float]) -> list[Metric]:
    """Area and rejections of one task."""
    rejections = [Rejection(task, position, e, task.key(f"rejection@{e:g}")) for e in efficiencies]
    return [Area(task, position, task.key("auc")), *rejections]


def _inverse(efficiency: Measured) -> Measured:
    """Rejection of a background efficiency: 1 / x of values and ends of intervals."""
    opposite: dict[str, Literal["lower", "upper"]] = {"lower": "upper", "upper": "lower"}
    value, method = 1 / efficiency.value, efficiency.method
    limit = opposite[efficiency.limit] if efficiency.limit else None
    if efficiency.low95 is None:
        return Measured(value, 0.0, method, limit=limit)
    high, low = (1 / end for end in efficiency.interval())
    high95, low95 = (1 / end for end in efficiency.interval(CONFIDENCE))
    return Measured(value, (high - low) / 2, method, None, limit, low, high, low95, high95)


def area_or_limit(
    value: float, error: float, bootstrap: float | None, method: str, trials: int
) -> Measured:
    """Area with its error, or a limit where none or all of `trials` independent pairs are right."""
    bound = zero_fraction_limit(trials)
    if value == 1:
        return Measured(1 - bound, 0.0, "no failure", limit="lower", low=1 - bound, high=1.0)
    if value == 0:
        return Measured(bound, 0.0, "no success", limit="upper", low=0.0, high=bound)
    if not error > 0:  # none of these pairs is untied, so less than `bound` of all pairs are
        return Measured(value, bound / 2, "all scores tied")
    return Measured(value, error, method, bootstrap)
