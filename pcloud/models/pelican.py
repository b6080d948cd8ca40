"""PELICAN: matrices of Minkowski products, mixed by all maps that know no order of particles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud import kinematics as kin
from pcloud.models.registry import register_model
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.lorentz.minkowski import BEAMS, MassTreatment, mass_treatment, with_references
from pcloud.nn.pairs.equivariant import (
    TYPICAL_MULTIPLICITY,
    EquivariantLinear,
    Pairs,
    invariant_pool,
)

__all__ = ["PELICAN"]

_LABELS = 10  # channels that tell particles from beams
_EXPONENTS = (0.05, 0.5)  # square roots of the first and last exponent of the encoding


@register_model(
    "pelican",
    paper="2307.16506",
    year=2023,
    use="momenta alone, few parameters",
    inputs="p4",
    symmetries=("permutation", "Lorentz"),
)
class PELICAN(nn.Module):
    """PELICAN: a network on the Minkowski products of all pairs of particles.

    Two beam particles stand beside the particles of every jet. A block mixes the channels of each
    pair, and then pairs by the fifteen linear maps that treat all particles alike. Products are
    taken in float64, the rest has the precision of the weights. A jet scores the same in every batch.

    Beside the paper, which particles of a pair are beams comes in by a linear map of the four
    cases, not by the maps from particles to pairs.

    The score is invariant under a Lorentz transformation of the jets together with the beams, the
    buffer ``beams`` of this module, and so under a rotation about the beam axis alone.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used.
    num_classes : int
        Classes C.
    blocks : int
        Number of blocks.
    hidden : int
        Channels of a pair between blocks.
    messages : int
        Channels of a pair before the maps.
    dropout : float
        Of messages, and before the last layer.
    mass : {"regulated", "stored", "zero"} or callable
        What masses the particles have, see :mod:`pcloud.nn.lorentz.minkowski`.
    beams : sequence of four-momenta
        Reference vectors in GeV; none at all for a fully symmetric network.

    References
    ----------
    Bogatskiy et al., Explainable Equivariant Neural Networks for Particle Physics: PELICAN,
    https://arxiv.org/abs/2307.16506.
    """

    beams: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        blocks: int = 5,
        hidden: int = 132,
        messages: int = 78,
        dropout: float = 0.01,
        mass: MassTreatment | str = "regulated",
        beams: Sequence[Sequence[float]] = BEAMS,
    ) -> None:
        super().__init__()
        if hidden <= _LABELS:
            raise ValueError(f"hidden must be above {_LABELS}, got {hidden}")
        self.mass = mass_treatment(mass)
        references = torch.tensor(beams, dtype=torch.float64).reshape(-1, 4)
        self.register_buffer("beams", references, persistent=False)
        self.encode = ProductEncoding(hidden - _LABELS)
        self.labels = nn.Linear(4, _LABELS)
        self.blocks = nn.ModuleList(Block(hidden, messages, dropout) for _ in range(blocks))
        self.message = message(hidden, messages, dropout)
        self.power = nn.Parameter(torch.rand(2 * messages))
        self.pool = nn.Linear(2 * messages, hidden)
        self.head = nn.Sequential(
            nn.LeakyReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes)
        )

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        p4, is_beam, nodes = self.with_beams(p4, as_layout(batch, layout))
        pairs = Pairs.of(nodes)
        h = self.embed(p4, is_beam, pairs)
        for block in self.blocks:
            h = block(h, pairs)
        h = invariant_pool(self.message(h), pairs)
        multiplicity = (nodes.counts.clamp(min=1) / TYPICAL_MULTIPLICITY).to(h).unsqueeze(-1)
        return self.head(self.pool(h * multiplicity**self.power))

    def with_beams(self, p4: Tensor, layout: RaggedLayout) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Momenta (N', 4), in float64, of particles and beams, which are beams, and their layout."""
        p4, _ = self.mass(p4, layout)
        nodes, order = with_references(layout, len(self.beams))
        p4 = torch.cat([p4, self.beams.double().repeat(layout.num_jets, 1)])[order]
        return p4, (order >= layout.num_particles).to(self.labels.weight), nodes

    def embed(self, p4: Tensor, is_beam: Tensor, pairs: Pairs) -> Tensor:
        """Channels (E, H) of pairs: their product, and which of the two is a beam."""
        products = kin.minkowski_dot(p4[pairs.first], p4[pairs.second])
        first, second = is_beam[pairs.first], is_beam[pairs.second]
        same = torch.zeros_like(first).index_fill(0, pairs.diagonal, 1.0)
        labels = self.labels(torch.stack([first, second, same, same * first], dim=1))
        return torch.cat([self.encode(products.to(is_beam.dtype)), labels], dim=1)


class ProductEncoding(nn.Module):
    """Learnable powers ``((1 + d)^a - 1) / a`` of products d: nearly logarithms where a is small.

    Parameters
    ----------
    channels : int
        Number of exponents ``a``, whose square roots are learned.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.linspace(*_EXPONENTS, channels))

    def forward(self, products: Tensor) -> Tensor:
        """Channels (E, K) of `products` (E,) in GeV^2; rounding below zero counts as zero."""
        exponent = self.root**2 + 1e-6
        return torch.expm1(products.clamp(min=0).log1p().unsqueeze(-1) * exponent) / exponent


def message(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """What is done with each pair by itself."""
    return nn.Sequential(
        nn.Linear(in_channels, out_channels),
        nn.LeakyReLU(),
        nn.BatchNorm1d(out_channels),
        nn.Dropout(dropout),
    )


class Block(nn.Module):
    """Messages, and then the maps between pairs."""

    def __init__(self, hidden: int, messages: int, dropout: float) -> None:
        super().__init__()
        self.message = message(hidden, messages, dropout)
        self.mix = EquivariantLinear(messages, hidden)

    def forward(self, h: Tensor, pairs: Pairs) -> Tensor:
        """New channels (E, H) of pairs."""
        return F.leaky_relu(self.mix(self.message(h), pairs))
