"""LorentzNet: messages between all pairs of particles, made of Minkowski products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import UnknownNameError
from pcloud.models.registry import register_model
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.lorentz.minkowski import (
    BEAMS,
    MassTreatment,
    mass_treatment,
    pair_products,
    psi,
    stored_mass,
    sum_differences,
    with_references,
)
from pcloud.nn.pairs.blocks import PairBlocks
from pcloud.nn.pairs.linear import PairLinear
from pcloud.nn.pairs.messages import PairMessages
from pcloud.nn.pooling import mean_pool

__all__ = ["LorentzBlock", "LorentzNet"]


@register_model(
    "lorentznet",
    paper="2201.08187",
    year=2022,
    use="momenta alone, few training jets",
    inputs="p4",
    symmetries=("permutation", "Lorentz"),
)
class LorentzNet(nn.Module):
    """LorentzNet: a graph network whose messages know Minkowski products alone.

    Two beam particles stand beside the particles of every jet; they take part in everything, the
    mean at the end included. There is a message between any two particles of a jet, and none to
    padding: a jet scores the same in every batch. Products of momenta are taken in float64, the
    rest has the precision of the weights.

    The score is invariant under a Lorentz transformation of the jets together with the beams, the
    buffer ``beams`` of this module, and so under a rotation about the beam axis alone.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used unless `scalars` is ``"features"``.
    num_classes : int
        Classes C.
    hidden : int
        Width of all layers.
    blocks : int
        Number of blocks.
    dropout : float
        In the head.
    step : float
        How far momenta move in a block, the paper's c.
    mass : {"regulated", "stored", "zero"} or callable
        What masses the particles have, see :mod:`pcloud.nn.lorentz.minkowski`. ``"stored"`` is for official
        weights: they live on the rounding of the stored energies.
    scalars : {"mass", "features"}
        What a particle is described by: its mass, or its mass and the features `x`. These are
        invariant under a transformation only as far as they are themselves.
    beams : sequence of four-momenta
        Reference vectors in GeV; none at all for a fully symmetric network.
    limit : float, optional
        Bound in GeV for every component of a change of momentum by one message; official weights
        have 100. It breaks the symmetry.

    References
    ----------
    Gong et al., An Efficient Lorentz Equivariant Graph Neural Network for Jet Tagging,
    https://arxiv.org/abs/2201.08187.
    """

    beams: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        hidden: int = 72,
        blocks: int = 6,
        dropout: float = 0.2,
        step: float = 5e-3,
        mass: MassTreatment | str = "regulated",
        scalars: str = "mass",
        beams: Sequence[Sequence[float]] = BEAMS,
        limit: float | None = None,
    ) -> None:
        super().__init__()
        if scalars not in ("mass", "features"):
            raise UnknownNameError("kind of scalars", scalars, ("mass", "features"))
        self.mass = mass_treatment(mass)
        self.use_features = scalars == "features"
        width = 2 + in_features * self.use_features
        references = torch.tensor(beams, dtype=torch.float64).reshape(-1, 4)
        self.register_buffer("beams", references, persistent=False)
        self.embed = nn.Linear(width, hidden)
        self.blocks = nn.ModuleList(
            LorentzBlock(hidden, width, step=step, limit=limit, last=i == blocks - 1)
            for i in range(blocks)
        )
        self.head = nn.Sequential(
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        p4, scalars, nodes = self.with_beams(x, p4, as_layout(batch, layout))
        pairs = PairBlocks.of(nodes)
        h = self.embed(scalars)
        for block in self.blocks:
            h, p4 = block(h, p4, scalars, pairs)
        return self.head(mean_pool(h, nodes))

    def with_beams(
        self, x: Tensor, p4: Tensor, layout: RaggedLayout
    ) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Momenta (N', 4), in float64, scalars (N', S) and layout of particles and beams.

        The scalars are ``[psi(m), 0]`` of a particle, ``[0, psi(m)]`` of a beam.
        """
        p4, mass = self.mass(p4, layout)
        beams, beam_mass = stored_mass(self.beams)
        scalars = F.pad(psi(mass).unsqueeze(-1), (0, 1))
        of_beams = F.pad(psi(beam_mass).unsqueeze(-1), (1, 0))
        if self.use_features:
            scalars = torch.cat([scalars, x], dim=-1)
            of_beams = F.pad(of_beams, (0, x.shape[1]))
        nodes, order = with_references(layout, len(beams))
        p4 = torch.cat([p4, beams.repeat(layout.num_jets, 1)])[order]
        scalars = torch.cat([scalars, of_beams.repeat(layout.num_jets, 1)])[order]
        return p4, scalars.to(self.embed.weight.dtype), nodes


class LorentzBlock(nn.Module):
    """Lorentz group equivariant block: messages, then new features and new momenta.

    Parameters
    ----------
    channels, scalars : int
        Features and scalars per particle.
    step : float
        Factor of the change of momenta.
    limit : float, optional
        Bound of the components of one term of it.
    last : bool
        Whether the momenta stay as they are, because no block follows.
    """

    def __init__(
        self, channels: int, scalars: int, *, step: float, limit: float | None, last: bool
    ) -> None:
        super().__init__()
        self.step = step
        self.limit = limit
        self.phi_e = PairLinear(channels, 2, channels)
        self.messages = PairMessages(channels, weigh=not last)
        self.phi_h = nn.Sequential(
            nn.Linear(2 * channels + scalars, channels),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
        )

    def forward(
        self, h: Tensor, p4: Tensor, scalars: Tensor, pairs: PairBlocks
    ) -> tuple[Tensor, Tensor]:
        """New features (N, H) and momenta (N, 4) from the old ones and the `scalars` (N, S)."""
        momenta = pairs.gather(p4)
        products = psi(pair_products(momenta, pairs).to(scalars.dtype))
        terms = self.phi_e(h, products, pairs)
        total, weights = self.messages(*terms, products, pairs)
        h = h + self.phi_h(torch.cat([h, total, scalars], dim=-1))
        return h, p4 if weights is None else p4 + self._shift(momenta, weights, pairs)

    def _shift(self, momenta: Tensor, weights: Tensor, pairs: PairBlocks) -> Tensor:
        """``c mean_j phi_x(m_ij) (p_i - p_j)``, the mean over the other particles of the jet."""
        layout = pairs.layout
        others = (layout.counts - 1).clamp(min=1)[layout.batch].unsqueeze(-1)
        sums = sum_differences(momenta, weights, pairs, self.limit)
        return self.step * pairs.flatten(sums) / others
