"""What two particles of a jet are to each other, once per unordered pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud import kinematics
from pcloud.nn.attention.pair_mlp import NormedMLP
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import kernel_allowed, outside_transforms
from pcloud.nn.numerics.precision import at_least_float32

__all__ = ["PairBias", "UnorderedPairs", "interactions"]

_TINY = 1e-8  # lower bound of all features before the logarithm


@dataclass(frozen=True)
class UnorderedPairs:
    """The unordered pairs of particles of the same jet, a particle with itself included.

    Attributes
    ----------
    first, second : Tensor, shape (M,)
        The two particles, the first not before the second.
    index : tuple of Tensor, shape (b, P, P)
        For each block of the layout the pair of the particles in two slots; `M` where the second
        slot is empty.
    ordered : Tensor, shape (2, M)
        Place of the pair, and of the same pair in the other order, in the concatenation of all
        flattened `index`.
    """

    first: Tensor
    second: Tensor
    index: tuple[Tensor, ...]
    ordered: Tensor

    @classmethod
    @torch.no_grad()
    @outside_transforms
    def of(cls, layout: RaggedLayout) -> UnorderedPairs:
        """All pairs of the jets of `layout`, without waiting for a GPU.

        Pairs stand in the order of a triangle: particle l of a jet comes first in l + 1 of them.
        """
        device, counts = layout.batch.device, layout.counts
        start = F.pad((counts * (counts + 1) // 2).cumsum(0), (1, 0))[:-1]  # of a jet's triangle
        particle = torch.arange(layout.num_particles, device=device)
        place = particle - layout.ptr[layout.batch]  # in the jet
        before = start[layout.batch] + _triangle(place)
        first = torch.repeat_interleave(place + 1, output_size=layout.num_pairs)
        second_place = torch.arange(layout.num_pairs, device=device) - before[first]
        second = layout.ptr[layout.batch[first]] + second_place

        index, row, total = [], [place[:0]], 0
        for block in layout.blocks:
            jets, size = block.index.shape
            slot = torch.arange(size, device=device)
            rows, columns = slot.unsqueeze(1), slot
            table = _triangle(torch.maximum(rows, columns)) + torch.minimum(rows, columns)
            # pairs with an empty slot may be anything that exists
            pair = (start[block.jets][:, None, None] + table).clamp_(max=layout.num_pairs - 1)
            index.append(torch.where(block.mask.unsqueeze(1), pair, layout.num_pairs))
            row.append(total + size * torch.arange(jets * size, device=device))
            total += pair.numel()
        of_particle = torch.cat(row)[layout.position]
        ordered = [of_particle[first] + second_place, of_particle[second] + place[first]]
        return cls(first, second, tuple(index), torch.stack(ordered))

    def spread(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features ``x (M, F)`` of the pairs as (b, F, P, P) for each block.

        -inf where the second slot is empty. Where the first is, there is something finite, through
        which no gradient flows.
        """
        if kernel_allowed(x):
            return _Spread.apply(x, self.ordered, *self.index)
        return _spread(x, self.index)


def _spread(x: Tensor, index: Sequence[Tensor]) -> tuple[Tensor, ...]:
    table = F.pad(x.t(), (0, 1), value=-torch.inf)  # (F, M + 1)
    dense = (table.index_select(1, i.flatten()).unflatten(1, i.shape) for i in index)
    return tuple(d.transpose(0, 1).contiguous() for d in dense)


def _triangle(n: Tensor) -> Tensor:
    return n * (n + 1) // 2


class _Spread(torch.autograd.Function):
    """Gathers in the backward pass, too: an addition at scattered places is slow on every device.

    The backward pass can be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, ordered: Tensor, *index: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(ordered)
        return _spread(x, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (ordered,) = ctx.saved_tensors
        grad = torch.cat([g.transpose(0, 1).flatten(1) for g in grads], 1)
        both = grad.index_select(1, ordered[0]) + grad.index_select(1, ordered[1])
        itself = ordered[0] == ordered[1]  # counted twice
        return (both * torch.where(itself, 0.5, 1.0).to(both)).t(), None, *(None for _ in grads)


def interactions(p4: Tensor, pairs: UnorderedPairs) -> Tensor:
    """The logarithms of kT, z, distance and squared mass of each pair, shape (M, 4).

    With the distance ``delta`` in rapidity and azimuth, ``kT = min(pT) delta`` and
    ``z = min(pT) / sum(pT)``, each at least 1e-8 before the logarithm; kT in GeV, the mass squared
    in GeV^2. In single precision at least. For a particle with itself and for coinciding particles
    kT and distance are at their lower bound. Gradients flow where the momenta want one, such as for
    attribution; in training they do not.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    pairs : Pairs
        Of the particles.
    """
    p4 = p4.to(at_least_float32(p4))
    particles = torch.stack([kinematics.pt(p4), _rapidity(p4), kinematics.phi(p4), *p4.unbind(1)])
    a, b = particles.index_select(1, pairs.first), particles.index_select(1, pairs.second)
    softer, both = torch.minimum(a[0], b[0]), a[0] + b[0]
    delta2 = (a[1] - b[1]) ** 2 + kinematics.wrap_phi(a[2] - b[2]) ** 2
    delta = kinematics.safe_sqrt(delta2)
    # Written out as the authors do: for collinear particles it is the rounding that one sees.
    e, px, py, pz = a[3:] + b[3:]
    m2 = e * e - (px * px + py * py + pz * pz)
    features = [softer * delta, softer / both.clamp(min=_TINY), delta, m2]
    return torch.stack(features, dim=1).clamp_(min=_TINY).log_()


def _rapidity(p4: Tensor) -> Tensor:
    """Rapidity by the formula of the authors' code, finite along the beam."""
    e, _, _, pz = p4.unbind(1)
    ratio = 1 + 2 * pz / (e - pz).clamp(min=1e-20)
    return 0.5 * ratio.clamp(min=1e-20).log()


class PairBias(nn.Module):
    """What each pair of particles adds to the attention logits of each head.

    Parameters
    ----------
    hidden : sequence of int
        Widths of the layers between the four :func:`interactions` and the heads.
    heads : int
        Number of heads.

    References
    ----------
    Qu, Li and Qian, Particle Transformer for Jet Tagging, https://arxiv.org/abs/2202.03772.
    """

    def __init__(self, hidden: Sequence[int], heads: int) -> None:
        super().__init__()
        self.embed = NormedMLP([4, *hidden, heads])

    @torch.compiler.disable  # each layout of blocks would be compiled anew
    def forward(self, p4: Tensor, layout: RaggedLayout) -> tuple[Tensor, ...]:
        """Bias (b, heads, P, P) for each block, -inf for empty slots as keys, from ``p4 (N, 4)``."""
        pairs = UnorderedPairs.of(layout)
        features = interactions(p4, pairs).to(next(self.embed.parameters()).dtype)
        return pairs.spread(self.embed(features))
