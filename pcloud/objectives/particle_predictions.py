"""Predictions for the particles of jets, and for pairs of them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.evaluation.vertices import groups_of_pairs
from pcloud.objectives.predictions import Prediction
from pcloud.objectives.rows import pairs_of
from pcloud.typing import Integers

__all__ = ["PairBernoulli", "ParticleCategorical", "ParticlePrediction"]


@dataclass(frozen=True)
class ParticlePrediction(Prediction):
    """Prediction for the N particles of B jets.

    Parameters
    ----------
    logits : Tensor, shape (I, ...)
        Logits of each item, a particle or a pair.
    counts : Tensor, shape (B,)
        Number of particles of each jet.
    """

    logits: Tensor
    counts: Tensor

    @property
    @abstractmethod
    def num_items(self) -> Tensor:
        """Number (B,) of items of each jet."""

    @abstractmethod
    def in_input_order(self, order: Tensor) -> ParticlePrediction:
        """Prediction in the order of the input.

        Parameters
        ----------
        order : Tensor, shape (N,)
            Index in the input of each particle.
        """

    @abstractmethod
    def averaged(self, parts: Sequence[ParticlePrediction]) -> ParticlePrediction:
        """Prediction with the mean probabilities of the members of an ensemble."""

    def cpu(self) -> ParticlePrediction:
        """Prediction on the CPU."""
        return replace(self, logits=self.logits.float().cpu(), counts=self.counts.cpu())

    def __getitem__(self, jets: Any) -> Any:
        """Prediction of some jets, by their indices or a mask."""
        chosen = torch.arange(len(self.counts))[jets].reshape(-1)
        items = self.num_items
        start = items.cumsum(0) - items
        number = items[chosen]
        first = torch.repeat_interleave(start[chosen] - (number.cumsum(0) - number), number)
        rows = first + torch.arange(len(first))
        return replace(self, logits=self.logits[rows], counts=self.counts[chosen])


@dataclass(frozen=True)
class ParticleCategorical(ParticlePrediction):
    """Classes of particles, of which each has one; `logits` has the shape (N, C)."""

    def loss(self, truth: Tensor) -> Tensor:
        """Negative log-likelihood (N,) of the classes ``truth (N,)``."""
        return F.cross_entropy(self.logits, truth, reduction="none")

    @property
    def mean(self) -> Tensor:
        """Probabilities (N, C)."""
        return self.logits.softmax(dim=-1)

    @property
    def num_items(self) -> Tensor:
        """Number (B,) of particles of each jet."""
        return self.counts

    def averaged(self, parts: Sequence[ParticlePrediction]) -> ParticleCategorical:
        """Prediction with the mean probabilities of the members of an ensemble."""
        log_p = torch.stack([part.logits.log_softmax(-1) for part in parts])
        return replace(self, logits=log_p.logsumexp(0) - math.log(len(parts)))

    def in_input_order(self, order: Tensor) -> ParticleCategorical:
        """Prediction in the order of the input."""
        logits = torch.empty_like(self.logits).index_copy_(0, order, self.logits)
        return replace(self, logits=logits)


@dataclass(frozen=True)
class PairBernoulli(ParticlePrediction):
    """Probability of pairs of particles to have the same label, such as one vertex.

    The pairs of each jet are (0, 1), (0, 2), ..., (1, 2), ...; `logits` has the shape (P,). A pair
    with a probability above `threshold` joins its particles.
    """

    threshold: float = 0.5

    def loss(self, truth: Tensor) -> Tensor:
        """Negative log-likelihood (P,) of ``truth (P,)``, 0 or 1."""
        return F.binary_cross_entropy_with_logits(
            self.logits, truth.to(self.logits), reduction="none"
        )

    @property
    def mean(self) -> Tensor:
        """Probability (P,) of each pair."""
        return self.logits.sigmoid()

    @property
    def num_items(self) -> Tensor:
        """Number (B,) of pairs of each jet."""
        return self.counts * (self.counts - 1) // 2

    def averaged(self, parts: Sequence[ParticlePrediction]) -> PairBernoulli:
        """Prediction with the mean probabilities of the members of an ensemble."""
        return replace(self, logits=torch.stack([part.mean for part in parts]).mean(0).logit())

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Indices i < j (P,) of the particles of each pair."""
        return pairs_of(self.counts)

    def groups(self, threshold: float | None = None) -> Integers:
        """Number (N,) of the vertex of each particle, -1 for none.

        Particles are in one vertex if they are connected by pairs with a probability above
        `threshold`, by default that of the objective.
        """
        threshold = self.threshold if threshold is None else threshold
        first, second = (index.cpu().numpy() for index in self.pairs())
        joined = self.mean.cpu().numpy() > threshold
        return groups_of_pairs(first, second, joined, self.counts.cpu().numpy().astype(np.int64))

    def in_input_order(self, order: Tensor) -> PairBernoulli:
        """Prediction in the order of the input."""
        first, second = self.pairs()
        a, b = order[first], order[second]
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        end = torch.repeat_interleave(self.counts.cumsum(0), self.counts)
        after = end - 1 - torch.arange(len(end))
        place = (after.cumsum(0) - after)[low] + high - low - 1
        return replace(
            self, logits=torch.empty_like(self.logits).index_copy_(0, place, self.logits)
        )
