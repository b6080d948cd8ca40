"""Pairs of particles with the same label, such as tracks of one vertex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.evaluation.vertices import match_vertices
from pcloud.io.particle_labels import UNKNOWN_LABEL
from pcloud.modality import Dataset
from pcloud.nn.dense import dense_layers
from pcloud.objectives.of_particles import Held, OfParticles
from pcloud.objectives.particle_predictions import PairBernoulli
from pcloud.objectives.rows import ParticleRows, pairs_of, sum_per_jet

__all__ = ["PairNetwork", "Pairs"]


class PairNetwork(nn.Module):
    """Symmetric function of two particles: an MLP of ``A h_i + A h_j - |B h_i - B h_j|``.

    The maps A and B are applied to each particle, so that a pair costs little.

    Parameters
    ----------
    width : int
        Number of features D of a particle.
    widths : sequence of int
        Widths of the hidden layers, the first of which is that of A and B.
    """

    def __init__(self, width: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.sum = nn.Linear(width, widths[0])
        self.distance = nn.Linear(width, widths[0], bias=False)
        self.hidden = dense_layers(widths)
        self.output = nn.Linear(widths[-1], 1)

    def forward(self, h: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Logits (P,) of pairs of the particles ``h (N, D)``."""
        total, place = self.sum(h), self.distance(h)
        distance = (place.index_select(0, first) - place.index_select(0, second)).abs()
        total = total.index_select(0, first) + total.index_select(0, second)
        return self.output(self.hidden(F.relu(total - distance))).squeeze(-1)


class Pairs(OfParticles):
    """Pairs of particles of a jet with the same label, learned by the cross-entropy.

    Particles with a negative label are alone: no pair of them has the same label. Those whose label
    is not known do not count.

    Parameters
    ----------
    name : str
        Name of the label.
    index, collection : int
        As for :class:`~pcloud.objectives.of_particles.OfParticles`.
    widths : sequence of int
        Widths of the hidden layers of the pair network.
    threshold : float
        Probability above which a pair joins two particles to one vertex.
    """

    kind = "pairs"

    def __init__(
        self,
        name: str,
        index: int = 0,
        collection: int = 0,
        widths: Sequence[int] = (64,),
        threshold: float = 0.5,
    ) -> None:
        super().__init__(name, index, collection)
        self.widths = list(widths)
        self.threshold = threshold
        self.constant = 0.0

    def make_layers(self, width: int) -> nn.Module:
        """Pair network."""
        return PairNetwork(width, self.widths)

    def forward(self, rows: ParticleRows) -> PairBernoulli:
        """Probability of each pair of particles of the collection."""
        rows = self.own(rows)
        return self._prediction(rows)

    def _prediction(self, rows: ParticleRows) -> PairBernoulli:
        assert self.layers is not None
        logits = self.layers(rows.features, *pairs_of(rows.counts))
        return PairBernoulli(logits.float(), rows.counts, self.threshold)

    def is_known(self, labels: Tensor) -> Tensor:
        """Mask (N,) of the labels that are known, including those of particles that are alone."""
        return labels != UNKNOWN_LABEL

    def _same(self, known: ParticleRows) -> tuple[Tensor, Tensor]:
        """Mask (P,) of the pairs with the same label, and their jet (P,)."""
        labels = self.truth(known)
        first, second = pairs_of(known.counts)
        same = (labels[first] == labels[second]) & (labels[first] >= 0)
        return same, known.jet[first]

    def losses(self, rows: ParticleRows) -> tuple[Tensor, Tensor]:
        """Cross-entropy (I,) of each pair with known labels, and its jet (I,)."""
        known = self.known(rows)
        same, jet = self._same(known)
        return self._prediction(known).loss(same), jet

    def constant_losses(self, rows: ParticleRows) -> Tensor:
        """Cross-entropy (I,) of the fraction of pairs with the same label."""
        same, _ = self._same(self.known(rows))
        logits = torch.full(same.shape, self.constant, device=same.device)
        return F.binary_cross_entropy_with_logits(logits, same.float(), reduction="none")

    def held_for_metrics(self, rows: ParticleRows) -> dict[str, Tensor]:
        """Numbers of true, predicted and matched vertices of each jet."""
        predicted = self._prediction(rows).groups()
        labels = self.truth(rows).cpu()
        found = match_vertices(
            labels.numpy(),
            predicted,
            self.is_known(labels).numpy(),
            rows.jet.cpu().numpy(),
            rows.num_jets,
        )
        return {name: torch.from_numpy(v.astype(np.float64)) for name, v in vars(found).items()}

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Efficiency and purity of the vertices."""
        return f"val_efficiency_{self.name}", f"val_purity_{self.name}"

    def metrics(self, held: Held, weights: Tensor | None = None) -> dict[str, float]:
        """Efficiency and purity of the vertices, see :func:`pcloud.evaluation.vertices`."""
        w = torch.ones_like(held["items"]) if weights is None else weights.double()
        matched = float((w * held["matched"]).sum())

        def share(of: str) -> float:
            total = float((w * held[of]).sum())
            return matched / total if total > 0 else float("nan")

        return {
            f"val_efficiency_{self.name}": share("true"),
            f"val_purity_{self.name}": share("predicted"),
        }

    def num_items(self, rows: ParticleRows) -> Tensor:
        """Number (B,) of pairs with known labels."""
        return rows.counts * (rows.counts - 1) // 2

    def _num_same(self, rows: ParticleRows) -> Tensor:
        """Number (B,) of pairs with the same label."""
        labels = self.truth(rows)
        grouped = labels >= 0
        jet, label = rows.jet[grouped], labels[grouped].long()
        most = int(label.max()) + 1 if len(label) else 1
        groups, sizes = (jet * most + label).unique(return_counts=True)
        return sum_per_jet(sizes * (sizes - 1) // 2, groups // most, rows.num_jets)

    def fit_constant(self, rows: ParticleRows, weights: Tensor) -> None:
        """Take the fraction of pairs with the same label."""
        same, every = (weights * number for number in (self._num_same(rows), self.num_items(rows)))
        fraction = (same.sum() / every.sum()).clamp(1e-6, 1 - 1e-6)
        self.constant = float(fraction.logit())

    def check(self, data: Dataset, whose: str) -> None:
        """Check that there are pairs with the same label, and others."""
        rows = self.labelled(data)
        pairs = int(self.num_items(rows).sum())
        if pairs == 0:
            raise InputError(f"no jet of the {whose} has two particles with label {self.name!r}")
        same = int(self._num_same(rows).sum())
        if same in (0, pairs) and whose.startswith("training"):
            which = "all" if same else "none"
            raise InputError(
                f"particle label {self.name!r} is the same in {which} of the {pairs:,} pairs of the "
                f"{whose}: there is nothing to learn"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, and the weights of the layers."""
        return {**super().to_dict(), "widths": self.widths, "threshold": self.threshold}
