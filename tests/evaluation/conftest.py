"""Toy taggers whose true performance is known."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

NORMAL = NormalDist()


@dataclass(frozen=True)
class GaussianTagger:
    """Discriminant normal around 0 for background and `separation` for signal.

    Its score is the probability of signal in a sample of as many jets of each class.
    """

    separation: float = 2.0

    def draw(
        self, num_signal: int, num_background: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        labels = np.repeat([1, 0], [num_signal, num_background])
        x = generator.normal(size=len(labels)) + self.separation * labels
        return labels, 1 / (1 + np.exp(self.separation * (self.separation / 2 - x)))

    @property
    def auc(self) -> float:
        return NORMAL.cdf(self.separation / 2**0.5)

    @property
    def accuracy(self) -> float:
        return NORMAL.cdf(self.separation / 2)

    def rejection(self, efficiency: float) -> float:
        cut = self.separation - NORMAL.inv_cdf(efficiency)
        return 1 / (1 - NORMAL.cdf(cut))


@pytest.fixture
def tagger() -> GaussianTagger:
    return GaussianTagger()
