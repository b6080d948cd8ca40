"""Learned local frames: a Lorentz transformation for each particle, and one for each jet.

A small network predicts three four-vectors for each particle from Minkowski products. The first, which
is time-like, defines a rest frame, and the two others the axes in it. If all momenta and references
are transformed, the frames follow, so that components in them do not change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import mean_pool

__all__ = [
    "FrameNetwork",
    "LocalFrames",
    "lower_indices",
    "lower_vectors",
    "minkowski_inverse",
    "polar_frames",
    "transform_vectors",
]

_MIN_PRODUCT = 1e-12  # before the logarithm, in the square of the unit of momenta
_TINY = 1e-150  # below squares of lengths: only exact zeros are changed by it


@dataclass(frozen=True)
class LocalFrames:
    """Frames of the particles of a batch.

    Attributes
    ----------
    particles : Tensor, shape (N, 4, 4)
        Transformation from the detector to the frame of each particle, in float64.
    jets : Tensor, shape (B, 4, 4)
        Transformation from the detector to the frame of each jet, in float64.
    relative : Tensor, shape (N, 4, 4)
        Transformation from the frame of its jet to that of each particle, in float64.
    """

    particles: Tensor
    jets: Tensor
    relative: Tensor


def minkowski_inverse(matrices: Tensor) -> Tensor:
    """Inverse (..., 4, 4) of Lorentz transformations."""
    return lower_indices(lower_indices(matrices).mT)


def lower_indices(vectors: Tensor) -> Tensor:
    """Change the sign of the spatial components of four-vectors (..., 4)."""
    return torch.cat([vectors[..., :1], -vectors[..., 1:]], dim=-1)


def lower_vectors(x: Tensor) -> Tensor:
    """Lower the indices of the four-vectors among the channels (..., C), see `transform_vectors`."""
    vectors = x.shape[-1] // 8
    scalars, components = x.split([x.shape[-1] - 4 * vectors, 4 * vectors], dim=-1)
    lowered = lower_indices(components.unflatten(-1, (vectors, 4)))
    return torch.cat([scalars, lowered.flatten(-2)], dim=-1)


def transform_vectors(x: Tensor, matrices: Tensor) -> Tensor:
    """Transform the four-vectors among the channels of ``x (..., C)`` by ``matrices (..., 4, 4)``.

    The last ``4 (C // 8)`` channels are four-vectors, the others scalars.
    """
    vectors = x.shape[-1] // 8
    if vectors == 0:
        return x
    scalars, components = x.split([x.shape[-1] - 4 * vectors, 4 * vectors], dim=-1)
    moved = components.unflatten(-1, (vectors, 4)) @ matrices.mT.to(x.dtype)
    return torch.cat([scalars, moved.flatten(-2)], dim=-1)


def polar_frames(vectors: Tensor) -> Tensor:
    """Lorentz transformations (..., 4, 4) to the rest frame of the first of three four-vectors.

    The other two define the axes there: the first axis is along the second vector, and the third
    vector is in the plane of the first two axes.

    Parameters
    ----------
    vectors : Tensor, shape (..., 3, 4)
        Four-vectors in float64, the first of them time-like with positive energy.
    """
    time, *others = vectors.unbind(-2)
    time = time / _length(lower_indices(time), time)
    gamma, momentum = time[..., :1], time[..., 1:]  # momentum is gamma beta
    outer = momentum.unsqueeze(-1) * momentum.unsqueeze(-2) / (1 + gamma).unsqueeze(-1)
    block = torch.eye(3, dtype=time.dtype, device=time.device) + outer
    first_row = torch.cat([gamma, -momentum], dim=-1)
    boost = torch.cat(
        [first_row.unsqueeze(-2), torch.cat([-momentum.unsqueeze(-1), block], -1)], -2
    )
    u, v = ((boost @ other.unsqueeze(-1))[..., 1:, 0] for other in others)
    u = u / _length(u, u)
    for _ in range(2):  # once is inaccurate where the axes are nearly parallel
        v = v - (u * v).sum(-1, keepdim=True) * u
        v = v / _length(v, v)
    axes = torch.stack([u, v, torch.linalg.cross(u, v)], dim=-2)  # (..., 3, 3)
    return torch.cat([boost[..., :1, :], axes @ boost[..., 1:, :]], dim=-2)


def _length(a: Tensor, b: Tensor) -> Tensor:
    """Square root of the sum of ``a b`` over the last axis, at least that of a tiny number."""
    return (a * b).sum(-1, keepdim=True).clamp(min=_TINY).sqrt()


class FrameNetwork(nn.Module):
    """Frames of particles and jets, from Minkowski products.

    Each of the three four-vectors of a particle i is a mean of ``(p_i + p_j) / |p_i + p_j|`` over the
    other particles j of its jet and the references. Its weights are the softmax of an MLP of the
    products ``<p_i, p_j>`` and of the masses. The vectors of a jet are the means of those of its particles.

    Parameters
    ----------
    references : int
        Number K of four-vectors beside the particles of each jet; without any, jets of one and two
        particles have no unique axes.
    width : int
        Width of the two hidden layers of the MLP.

    References
    ----------
    Spinner et al., Lorentz Local Canonicalization, https://arxiv.org/abs/2505.20280.
    """

    def __init__(self, references: int, width: int = 32) -> None:
        super().__init__()
        self.kinds = references + 1  # particle, or which reference
        self.mlp = nn.Sequential(
            nn.Linear(3 + self.kinds, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, 3, bias=False),  # a softmax follows
        )

    def forward(self, p4: Tensor, references: Tensor, layout: RaggedLayout) -> LocalFrames:
        """Frames from ``p4 (N, 4)`` and ``references (K, 4)`` in GeV and float64."""
        dense = [self._vectors(block.gather(p4), block.mask, references) for block in layout.blocks]
        vectors = layout.flatten(dense) if dense else p4.new_zeros(0, 3, 4)  # (N, 3, 4)
        of_jets = mean_pool(vectors.flatten(1), layout).unflatten(1, (3, 4))
        empty = (layout.counts == 0).to(p4).view(-1, 1, 1)
        of_jets = of_jets + empty * torch.eye(4, dtype=p4.dtype, device=p4.device)[:3]
        particles = polar_frames(vectors)
        jets = polar_frames(of_jets)
        relative = particles @ minkowski_inverse(jets)[layout.batch]
        return LocalFrames(particles, jets, relative)

    def _vectors(self, p4: Tensor, mask: Tensor, references: Tensor) -> Tensor:
        """Vectors (b, P, 3, 4) of the particles in dense blocks, from ``p4 (b, P, 4)``."""
        others = torch.cat([p4, references.expand(p4.shape[0], -1, -1)], dim=1)  # (b, P + K, 4)
        products = lower_indices(p4) @ others.mT  # (b, P, P + K)
        masses = (p4 * lower_indices(p4)).sum(-1)
        of_others = (others * lower_indices(others)).sum(-1)
        sums2 = masses.unsqueeze(2) + of_others.unsqueeze(1) + 2 * products
        particles = p4.shape[1]
        kind = torch.arange(others.shape[1], device=p4.device).sub(particles - 1).clamp(min=0)
        features = [
            _logarithm(2 * products),
            _logarithm(masses).unsqueeze(2).expand_as(products),
            _logarithm(of_others).unsqueeze(1).expand_as(products),
        ]
        one_hot = F.one_hot(kind, self.kinds).expand(*products.shape, -1)
        dtype = next(self.mlp.parameters()).dtype
        logits = self.mlp(torch.cat([torch.stack(features, -1), one_hot], dim=-1).to(dtype)).to(p4)
        allowed = torch.cat([mask, mask.new_ones(len(p4), len(references))], dim=1)
        itself = torch.eye(particles, others.shape[1], dtype=torch.bool, device=p4.device)
        alone = allowed.sum(1) == 1  # only with itself
        allowed = allowed.unsqueeze(1) & (~itself | alone.view(-1, 1, 1))
        weights = logits.masked_fill(~allowed.unsqueeze(-1), -torch.inf).softmax(2)
        weights = weights / sums2.clamp(min=_MIN_PRODUCT).sqrt().unsqueeze(-1)
        # sum over j of w_ij (p_i + p_j)
        own = weights.sum(2).unsqueeze(-1) * p4.unsqueeze(2)
        return own + weights.permute(0, 1, 3, 2) @ others.unsqueeze(1)


def _logarithm(x: Tensor) -> Tensor:
    """Logarithm of a product, divided so that it is of order 1 for jets."""
    return x.clamp(min=_MIN_PRODUCT).log() / 6
