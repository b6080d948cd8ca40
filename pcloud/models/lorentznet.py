"""LorentzNet: messages between all pairs of particles, functions of Minkowski products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import UnknownNameError
from pcloud.models.head import mlp_head
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
    """LorentzNet: a graph network whose messages depend on Minkowski products only.

    Two beam particles are added to the particles of every jet and treated like them, also in the
    final mean. There is a message between any two particles of a jet, and none to padding: the score
    of a jet does not depend on the batch. Products of momenta are computed in float64, the rest in
    the precision of the weights.

    The score is invariant under a Lorentz transformation of the jets together with the beams, the
    buffer ``beams`` of this module. For fixed beams, it is invariant under rotations about the beam
    axis.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used unless `scalars` is ``"features"``.
    num_outputs : int
        Number of outputs, one for each class (C).
    width : int
        Width of all layers.
    num_layers : int
        Number of blocks.
    dropout : float
        Dropout probability in the head.
    step : float
        Factor c of the paper, which scales the change of the momenta in a block.
    mass : {"regulated", "stored", "zero"} or callable
        Treatment of the particle masses, see :mod:`pcloud.nn.lorentz.minkowski`. ``"stored"`` is for
        official weights: they were trained on masses dominated by the rounding of stored energies.
    scalars : {"mass", "features"}
        Scalar inputs of a particle: its mass, or its mass and the features `x`. With features, the
        score is invariant under those transformations only that leave them unchanged.
    beams : sequence of four-momenta
        Reference vectors in GeV; an empty sequence for full Lorentz symmetry.
    limit : float, optional
        Bound in GeV on every component of the change of a momentum by one message, 100 for official
        weights. It breaks the symmetry.

    References
    ----------
    Gong et al., An Efficient Lorentz Equivariant Graph Neural Network for Jet Tagging,
    https://arxiv.org/abs/2201.08187.
    """

    beams: Tensor

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        width: int = 72,
        num_layers: int = 6,
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
        num_scalars = 2 + in_features * self.use_features
        references = torch.tensor(beams, dtype=torch.float64).reshape(-1, 4)
        self.register_buffer("beams", references, persistent=False)
        self.embed = nn.Linear(num_scalars, width)
        self.blocks = nn.ModuleList(
            LorentzBlock(width, num_scalars, step=step, limit=limit, last=i == num_layers - 1)
            for i in range(num_layers)
        )
        self.head = mlp_head([width, width], num_outputs, dropout)

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
