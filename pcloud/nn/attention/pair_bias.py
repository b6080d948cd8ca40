"""Bias of the attention weights from features of pairs of particles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcloud import kinematics
from pcloud.nn.attention.pair_mlp import NormedMLP
from pcloud.nn.attention.unordered_pairs import UnorderedPairs
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.precision import at_least_float32

__all__ = ["PairBias", "interactions"]

_MIN_FEATURE = 1e-8  # before the logarithm


def interactions(p4: Tensor, pairs: UnorderedPairs) -> Tensor:
    """Logarithms of kT, z, distance and squared mass of each pair, shape (M, 4), at least float32.

    With the distance ``delta`` in rapidity and azimuth, ``kT = min(pT) delta`` in GeV and
    ``z = min(pT) / sum(pT)``; the squared mass is in GeV^2. Each feature is at least 1e-8 before the
    logarithm. For a particle with itself and for coinciding particles, kT and distance have this
    lower bound. The result is differentiable with respect to `p4`, for example for attribution.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    pairs : UnorderedPairs
        Pairs of the particles.

    References
    ----------
    Qu, Li and Qian, Particle Transformer for Jet Tagging, https://arxiv.org/abs/2202.03772.
    """
    p4 = p4.to(at_least_float32(p4))
    # Logarithm and arctangent are correctly rounded, since libraries differ in the last digit, which
    # is all of the distance of nearly collinear particles.
    angles = [_rapidity(p4), kinematics.phi(p4.double()).to(p4)]
    particles = torch.stack([kinematics.pt(p4), *angles, *p4.unbind(1)])
    a = particles.index_select(1, pairs.first)
    b = particles.index_select(1, pairs.second)
    softer = torch.minimum(a[0], b[0])
    pt_sum = a[0] + b[0]
    delta2 = (a[1] - b[1]) ** 2 + kinematics.wrap_phi(a[2] - b[2]) ** 2
    delta = kinematics.safe_sqrt(delta2)
    # The formula of the authors' code: for collinear particles the result is a rounding error.
    e, px, py, pz = a[3:] + b[3:]
    m2 = e * e - (px * px + py * py + pz * pz)
    features = [softer * delta, softer / pt_sum.clamp(min=_MIN_FEATURE), delta, m2]
    return torch.stack(features, dim=1).clamp_(min=_MIN_FEATURE).log_()


def _rapidity(p4: Tensor) -> Tensor:
    """Rapidity with the formula of the authors' code, finite along the beam."""
    e, _, _, pz = p4.unbind(1)
    ratio = 1 + 2 * pz / (e - pz).clamp(min=1e-20)
    return 0.5 * ratio.clamp(min=1e-20).double().log().to(p4)


class PairBias(nn.Module):
    """Bias that each pair of particles adds to the attention logits of each head.

    Parameters
    ----------
    hidden : sequence of int
        Widths of the hidden layers between the four :func:`interactions` and the heads.
    heads : int
        Number of heads.
    bias : bool
        Linear maps with a constant term.

    References
    ----------
    Qu, Li and Qian, Particle Transformer for Jet Tagging, https://arxiv.org/abs/2202.03772.
    """

    def __init__(self, hidden: Sequence[int], heads: int, bias: bool = True) -> None:
        super().__init__()
        self.embed = NormedMLP([4, *hidden, heads], bias)

    @torch.compiler.disable  # each layout of blocks would be compiled again
    def forward(self, p4: Tensor, layout: RaggedLayout) -> tuple[Tensor, ...]:
        """Bias (b, heads, P, P) for each block, -inf for empty slots as keys, from ``p4 (N, 4)``."""
        pairs = UnorderedPairs.of(layout)
        features = interactions(p4, pairs).to(next(self.embed.parameters()).dtype)
        return pairs.spread(self.embed(features))
