"""LorentzNet: messages between all pairs of particles, functions of Minkowski products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import UnknownNameError
from pcloud.models.head import mlp_head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import four_momenta
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
from pcloud.nn.representation import Representation

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

    Examples
    --------
    >>> model = LorentzNet(in_features=7).eval()
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
        references = torch.tensor(four_momenta("beams", beams), dtype=torch.float64).reshape(-1, 4)
        self.register_buffer("beams", references, persistent=False)
        self.embed = nn.Linear(num_scalars, width)
        self.particle_width = width
        self.blocks = nn.ModuleList(
            LorentzBlock(width, num_scalars, step=step, limit=limit, last=i == num_layers - 1)
            for i in range(num_layers)
        )
        self.head = mlp_head([width, width], num_outputs, dropout)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        return self.head(self.pool(self.particles(x, p4, batch, layout)))

    def particles(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Representation:
        """Representation of each particle, from the arguments of `forward`."""
        p4, scalars, nodes = self.with_beams(x, p4, as_layout(batch, layout, p4))
        pairs = PairBlocks.of(nodes)
        h = self.embed(scalars)
        for block in self.blocks:
            h, p4 = block(h, p4, scalars, pairs)
        return Representation(h, nodes, len(self.beams))

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return mean_pool(h.rows, h.layout)

    def with_beams(
        self, x: Tensor, p4: Tensor, layout: RaggedLayout
    ) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Momenta (N', 4), in float64, scalars (N', S) and layout of particles and beams.

        The scalars are ``[psi(m), 0]`` for a particle, ``[0, psi(m)]`` for a beam.
        """
        p4, mass = self.mass(p4, layout)
        beams, beam_mass = stored_mass(self.beams)
        scalars = F.pad(psi(mass).unsqueeze(-1), (0, 1))
        beam_scalars = F.pad(psi(beam_mass).unsqueeze(-1), (1, 0))
        if self.use_features:
            scalars = torch.cat([scalars, x], dim=-1)
            beam_scalars = F.pad(beam_scalars, (0, x.shape[1]))
        nodes, order = with_references(layout, len(beams))
        p4 = torch.cat([p4, beams.repeat(layout.num_jets, 1)])[order]
        scalars = torch.cat([scalars, beam_scalars.repeat(layout.num_jets, 1)])[order]
        return p4, scalars.to(self.embed.weight.dtype), nodes


class LorentzBlock(nn.Module):
    """Lorentz group equivariant block (LGEB) of the paper.

    With the Minkowski norm and product of momenta ``p``, and scalars ``s`` of a particle::

        m_ij  = phi_e(h_i, h_j, psi(|p_i - p_j|^2), psi(<p_i, p_j>))
        h_i  <- h_i + phi_h(h_i, sum_j w_ij m_ij, s_i)    with w_ij = phi_m(m_ij)
        p_i  <- p_i + c mean_j phi_x(w_ij m_ij) (p_i - p_j)

    ===================  ==========================================================
    Symbol of the paper  Attribute
    ===================  ==========================================================
    phi_e                ``phi_e`` (first layer) and ``messages.linear`` (second one)
    phi_m                ``messages.phi_m``
    phi_x                ``messages.phi_x``
    phi_h                ``phi_h``
    c                    ``step``
    ===================  ==========================================================

    Sums and means run over the other particles of the jet. The first layer of ``phi_e`` is applied
    to each particle before the sum over pairs, see :class:`~pcloud.nn.pairs.linear.PairLinear`.

    Parameters
    ----------
    width : int
        Number of features h per particle.
    num_scalars : int
        Number of scalars s per particle.
    step : float
        Factor c of the change of momenta.
    limit : float, optional
        Bound in GeV on the components of each term of this change.
    last : bool
        Leave the momenta unchanged, because no block follows.
    """

    def __init__(
        self, width: int, num_scalars: int, *, step: float, limit: float | None, last: bool
    ) -> None:
        super().__init__()
        self.step = step
        self.limit = limit
        self.phi_e = PairLinear(width, 2, width)
        self.messages = PairMessages(width, weigh=not last)
        self.phi_h = nn.Sequential(
            nn.Linear(2 * width + num_scalars, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width),
        )

    def forward(
        self, h: Tensor, p4: Tensor, scalars: Tensor, pairs: PairBlocks
    ) -> tuple[Tensor, Tensor]:
        """New features (N, H) and momenta (N, 4) from previous ones and the `scalars` (N, S)."""
        momenta = pairs.gather(p4)
        products = psi(pair_products(momenta, pairs).to(scalars.dtype))
        terms = self.phi_e(h, products, pairs)
        messages, weights = self.messages(*terms, products, pairs)  # sum_j w_ij m_ij, phi_x
        h = h + self.phi_h(torch.cat([h, messages, scalars], dim=-1))
        return h, p4 if weights is None else p4 + self._shift(momenta, weights, pairs)

    def _shift(self, momenta: Tensor, weights: Tensor, pairs: PairBlocks) -> Tensor:
        """``c mean_j phi_x(w_ij m_ij) (p_i - p_j)``, the mean over the other particles of the jet."""
        layout = pairs.layout
        others = (layout.counts - 1).clamp(min=1)[layout.batch].unsqueeze(-1)
        sums = sum_differences(momenta, weights, pairs, self.limit)
        return self.step * pairs.flatten(sums) / others
