"""Rows of particles: their representations and labels, and the pairs of particles of a jet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["ParticleRows", "pairs_of", "sum_per_jet"]


@dataclass(frozen=True)
class ParticleRows:
    """Particles of B jets, of all collections or of one.

    Parameters
    ----------
    features : Tensor, shape (N, D)
        Representations, from the network.
    jet : Tensor, shape (N,)
        Jet of each row, sorted.
    num_jets : int
        Number of jets B.
    labels : Tensor, shape (N, L), or None
        Labels of the rows, in the order of the objectives that learn them.
    collection : Tensor, shape (N,), or None
        Collection of each row; None if there is one.
    """

    features: Tensor
    jet: Tensor
    num_jets: int
    labels: Tensor | None = None
    collection: Tensor | None = None

    @classmethod
    def of_batch(cls, features: Tensor, batch: Any) -> ParticleRows:
        """Rows of a batch of :func:`pcloud.batch.collate`."""
        found = {n: batch[n] for n in ("collection", "particle_labels") if n in batch}
        return cls(
            features,
            batch.batch,
            len(batch.ptr) - 1,
            found.get("particle_labels"),
            found.get("collection"),
        )

    def of_collection(self, number: int) -> ParticleRows:
        """Rows of one collection, by its number."""
        if self.collection is None:
            return self
        rows = (self.collection == number).nonzero().flatten()
        labels = None if self.labels is None else self.labels[rows]
        return replace(
            self, features=self.features[rows], jet=self.jet[rows], labels=labels, collection=None
        )

    def select(self, mask: Tensor) -> ParticleRows:
        """Rows for which a mask (N,) is True."""
        rows = mask.nonzero().flatten()
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, features=self.features[rows], jet=self.jet[rows], labels=labels)

    @property
    def counts(self) -> Tensor:
        """Number (B,) of rows of each jet."""
        return torch.bincount(self.jet, minlength=self.num_jets)


def pairs_of(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Unordered pairs of different particles of each jet.

    Parameters
    ----------
    counts : Tensor, shape (B,)
        Number of particles of each jet, of N in total.

    Returns
    -------
    tuple of Tensor, each of shape (P,)
        Indices i < j of the particles of each pair, sorted by i and then by j.
    """
    end = torch.repeat_interleave(counts.cumsum(0), counts)
    row = torch.arange(len(end), device=counts.device)
    after = end - 1 - row  # particles of the same jet that follow
    first = torch.repeat_interleave(row, after)
    start = torch.repeat_interleave(after.cumsum(0) - after, after)
    second = first + 1 + torch.arange(len(first), device=counts.device) - start
    return first, second


def sum_per_jet(values: Tensor, jet: Tensor, num_jets: int) -> Tensor:
    """Sums (B,) of the values (I,) of each jet."""
    return values.new_zeros(num_jets).index_add(0, jet, values)
