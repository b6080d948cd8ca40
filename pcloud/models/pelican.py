"""PELICAN: matrices of Minkowski products, mixed by permutation-equivariant maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud import kinematics as kin
from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import four_momenta
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.lorentz.minkowski import BEAMS, MassTreatment, mass_treatment, with_references
from pcloud.nn.pairs.equivariant import (
    TYPICAL_MULTIPLICITY,
    EquivariantLinear,
    Pairs,
    invariant_pool,
)

__all__ = ["PELICAN"]

_LABEL_CHANNELS = 10  # channels that distinguish particles from beams
_EXPONENT_ROOTS = (0.05, 0.5)  # square roots of the first and last exponent of the encoding


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

    Two beam particles are added to the particles of every jet. A block mixes the channels of each
    pair, then the pairs, by the fifteen permutation-equivariant linear maps. Products are computed
    in float64, the rest in the precision of the weights. The score of a jet does not depend on the
    batch.

    Unlike in the paper, the information which particles of a pair are beams enters by a linear map
    of the four cases, not by the maps from particles to pairs.

    The score is invariant under a Lorentz transformation of the jets together with the beams, the
    buffer ``beams`` of this module. For fixed beams, it is invariant under rotations about the beam
    axis.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used.
    num_outputs : int
        Number of outputs, one for each class (C).
    num_layers : int
        Number of blocks.
    width : int
        Channels of a pair between blocks.
    message_width : int
        Channels of a pair before the equivariant maps.
    dropout : float
        Dropout probability of messages, and before the last layer.
    mass : {"regulated", "stored", "zero"} or callable
        Treatment of the particle masses, see :mod:`pcloud.nn.lorentz.minkowski`.
    beams : sequence of four-momenta
        Reference vectors in GeV; an empty sequence for full Lorentz symmetry.

    References
    ----------
    Bogatskiy et al., Explainable Equivariant Neural Networks for Particle Physics: PELICAN,
    https://arxiv.org/abs/2307.16506.

    Examples
    --------
    >>> model = PELICAN(in_features=7, num_layers=1).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    beams: Tensor

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        num_layers: int = 5,
        width: int = 132,
        message_width: int = 78,
        dropout: float = 0.01,
        mass: MassTreatment | str = "regulated",
        beams: Sequence[Sequence[float]] = BEAMS,
    ) -> None:
        super().__init__()
        if width <= _LABEL_CHANNELS:
            raise ValueError(f"width must be above {_LABEL_CHANNELS}, got {width}")
        self.mass = mass_treatment(mass)
        references = torch.tensor(four_momenta("beams", beams), dtype=torch.float64).reshape(-1, 4)
        self.register_buffer("beams", references, persistent=False)
        self.encode = ProductEncoding(width - _LABEL_CHANNELS)
        self.labels = nn.Linear(4, _LABEL_CHANNELS)
        self.blocks = nn.ModuleList(Block(width, message_width, dropout) for _ in range(num_layers))
        self.message = message(width, message_width, dropout)
        self.power = nn.Parameter(torch.rand(2 * message_width))
        self.pool = nn.Linear(2 * message_width, width)
        self.head = Head([nn.LeakyReLU(), nn.Dropout(dropout)], width, num_outputs)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        p4, is_beam, nodes = self.with_beams(p4, as_layout(batch, layout, p4))
        pairs = Pairs.of(nodes)
        h = self.embed(p4, is_beam, pairs)
        for block in self.blocks:
            h = block(h, pairs)
        h = invariant_pool(self.message(h), pairs)
        multiplicity = (nodes.counts.clamp(min=1) / TYPICAL_MULTIPLICITY).to(h).unsqueeze(-1)
        return self.head(self.pool(h * multiplicity**self.power))

    def with_beams(self, p4: Tensor, layout: RaggedLayout) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Momenta (N', 4), in float64, of particles and beams, indicators (N',) of beams, layout."""
        p4, _ = self.mass(p4, layout)
        nodes, order = with_references(layout, len(self.beams))
        p4 = torch.cat([p4, self.beams.double().repeat(layout.num_jets, 1)])[order]
        return p4, (order >= layout.num_particles).to(self.labels.weight), nodes

    def embed(self, p4: Tensor, is_beam: Tensor, pairs: Pairs) -> Tensor:
        """Channels (E, H) of pairs: their product, and indicators of beams."""
        products = kin.minkowski_dot(p4[pairs.first], p4[pairs.second])
        first, second = is_beam[pairs.first], is_beam[pairs.second]
        same = torch.zeros_like(first).index_fill(0, pairs.diagonal, 1.0)
        labels = self.labels(torch.stack([first, second, same, same * first], dim=1))
        return torch.cat([self.encode(products.to(is_beam.dtype)), labels], dim=1)


class ProductEncoding(nn.Module):
    """Learnable powers ``((1 + d)^a - 1) / a`` of products d, nearly logarithms for small a.

    Parameters
    ----------
    channels : int
        Number of exponents ``a``, whose square roots are learned.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.linspace(*_EXPONENT_ROOTS, channels))

    def forward(self, products: Tensor) -> Tensor:
        """Channels (E, K) of `products` (E,) in GeV^2; negative ones from rounding count as zero."""
        exponent = self.root**2 + 1e-6
        return torch.expm1(products.clamp(min=0).log1p().unsqueeze(-1) * exponent) / exponent


def message(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """Channel-mixing MLP applied to each pair independently."""
    return nn.Sequential(
        nn.Linear(in_channels, out_channels),
        nn.LeakyReLU(),
        nn.BatchNorm1d(out_channels),
        nn.Dropout(dropout),
    )


class Block(nn.Module):
    """Message MLP, then the equivariant maps between pairs."""

    def __init__(self, width: int, message_width: int, dropout: float) -> None:
        super().__init__()
        self.message = message(width, message_width, dropout)
        self.mix = EquivariantLinear(message_width, width)

    def forward(self, h: Tensor, pairs: Pairs) -> Tensor:
        """New channels (E, H) of pairs."""
        return F.leaky_relu(self.mix(self.message(h), pairs))
