"""One-vs-one area under the ROC curve of several classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pcloud.evaluation.estimates import Metric, area_or_limit
from pcloud.evaluation.influence import effective_size
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Counts
from pcloud.evaluation.scores import Scores
from pcloud.typing import Floats, Integers

__all__ = ["PairwiseArea"]

Weights = NDArray[np.uint8]


@dataclass(frozen=True)
class _Column:
    """Jets in decreasing order of the score of one class, in groups of equal score."""

    order: Integers  # (B,)
    group: Integers  # (B,), in this order

    @classmethod
    def of(cls, scores: Floats) -> _Column:
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        return cls(order, np.concatenate([[0], np.cumsum(falling[1:] != falling[:-1])]))

    def above(self, weights: Floats) -> Floats:
        """Total weight of the jets that score higher than each jet, plus half of its ties, (B,)."""
        in_group = np.bincount(self.group, weights[self.order])
        found = np.empty(len(self.order))
        found[self.order] = (np.cumsum(in_group) - in_group / 2)[self.group]
        return found


@dataclass(frozen=True)
class PairwiseArea(Metric):
    """Mean area over ordered pairs of classes, ranked by the probability of the first class.

    Only the jets of the two classes of a pair are used. This is the macro average
    ``multi_class="ovo"`` of scikit-learn, which weaver-core reports. It does not depend on the
    numbers of jets of the classes.

    Parameters
    ----------
    sample : Scores
        Labels and probabilities (B, C).
    present : sequence of int
        Indices of the classes that have jets.
    """

    sample: Scores
    present: Sequence[int]
    name: str = "auc_ovo"
    method: str = "DeLong"

    def value(self, weights: Weights, counts: Sequence[Counts]) -> float:
        """Mean of the areas."""
        return float(np.mean([areas for _, areas in self._areas(weights * self._weights)]))

    def influence(self) -> Floats:
        """Mean of the structural components of DeLong."""
        labels = self.sample.labels
        weights = self._weights
        number = np.bincount(labels, weights, len(self.sample.classes))
        pairs = len(self.present) * (len(self.present) - 1)
        is_present = np.isin(labels, self.present)
        total = np.zeros(len(labels))
        for signal, areas in self._areas(weights):
            column = self._columns[signal]
            is_signal = labels == signal
            others = is_present & ~is_signal
            mean_areas = np.zeros(len(number))
            mean_areas[[c for c in self.present if c != signal]] = areas
            share = np.where(others, 1 / np.where(number > 0, number, 1)[labels], 0.0) * weights
            below = share.sum() - column.above(share)
            above = column.above(is_signal * weights)
            passed = (below[is_signal] - areas.sum()) / number[signal]
            total[is_signal] += passed * weights[is_signal]
            passed = above[others] / number[signal] - mean_areas[labels[others]]
            total[others] += passed * share[others]
        return total / pairs

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Mean area, or a limit if no two classes overlap."""
        members = (self.sample.labels == c for c in self.present)
        smallest = min(effective_size(self._weights[jets]) for jets in members)
        return area_or_limit(value, error, bootstrap, self.method, smallest)

    @cached_property
    def _weights(self) -> Floats:
        """Weights of the jets, (B,)."""
        weights = self.sample.weights
        return np.ones(len(self.sample.labels)) if weights is None else weights

    @cached_property
    def _columns(self) -> dict[int, _Column]:
        return {c: _Column.of(self.sample.values[:, c]) for c in self.present}

    def _areas(self, weights: Floats) -> list[tuple[int, Floats]]:
        """Areas of each present class against each other present class, (C - 1,) each."""
        labels = self.sample.labels
        number = np.bincount(labels, weights, minlength=len(self.sample.classes))
        found = []
        for signal in self.present:
            above = self._columns[signal].above(weights * (labels == signal))
            well_ordered = np.bincount(labels, weights * above, minlength=len(number))
            others = [c for c in self.present if c != signal]
            found.append((signal, well_ordered[others] / (number[others] * number[signal])))
        return found
