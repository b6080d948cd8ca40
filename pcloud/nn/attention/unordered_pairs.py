"""Unordered pairs of the particles of each jet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import kernel_allowed, outside_transforms

__all__ = ["UnorderedPairs"]


@dataclass(frozen=True)
class UnorderedPairs:
    """Unordered pairs of particles of the same jet, including a particle with itself.

    Attributes
    ----------
    first, second : Tensor, shape (M,)
        Indices of the two particles; the first is not smaller than the second.
    index : tuple of Tensor, shape (b, P, P)
        Index of the pair of the particles in two slots, for each block of the layout; `M` where the
        second slot is empty.
    ordered : Tensor, shape (2, M)
        Positions of the pair and of the reversed pair in the concatenation of all flattened
        `index`.
    """

    first: Tensor
    second: Tensor
    index: tuple[Tensor, ...]
    ordered: Tensor

    @classmethod
    @torch.no_grad()
    @outside_transforms
    def of(cls, layout: RaggedLayout) -> UnorderedPairs:
        """All pairs of the jets of `layout`, without synchronisation.

        The pairs are in triangular order: particle l of a jet is the first of l + 1 pairs.
        """
        device = layout.batch.device
        counts = layout.counts
        start = F.pad(_triangle(counts).cumsum(0), (1, 0))[:-1]  # first pair of each jet
        particle = torch.arange(layout.num_particles, device=device)
        position = particle - layout.ptr[layout.batch]  # in the jet
        first_pair = start[layout.batch] + _triangle(position)  # of each particle
        first = torch.repeat_interleave(position + 1, output_size=layout.num_pairs)
        second_position = torch.arange(layout.num_pairs, device=device) - first_pair[first]
        second = layout.ptr[layout.batch[first]] + second_position

        index = []
        row = [position[:0]]
        total = 0
        for block in layout.blocks:
            jets, size = block.index.shape
            slot = torch.arange(size, device=device)
            other = slot.unsqueeze(1)
            table = _triangle(torch.maximum(slot, other)) + torch.minimum(slot, other)
            # The index of a pair with an empty slot is arbitrary, but must exist.
            pair = (start[block.jets][:, None, None] + table).clamp_(max=layout.num_pairs - 1)
            index.append(torch.where(block.mask.unsqueeze(1), pair, layout.num_pairs))
            row.append(total + size * torch.arange(jets * size, device=device))
            total += pair.numel()
        row_of_particle = torch.cat(row)[layout.position]
        ordered = [
            row_of_particle[first] + second_position,
            row_of_particle[second] + position[first],
        ]
        return cls(first, second, tuple(index), torch.stack(ordered))

    def spread(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features (b, F, P, P) for each block from those of the pairs, ``x (M, F)``.

        The value is -inf where the second slot is empty. Where only the first is empty, it is
        arbitrary, but finite, and has no gradient.
        """
        if kernel_allowed(x):
            return _Spread.apply(x, self.ordered, *self.index)
        return _spread(x, self.index)


def _spread(x: Tensor, index: Sequence[Tensor]) -> tuple[Tensor, ...]:
    table = F.pad(x.t(), (0, 1), value=-torch.inf)  # (F, M + 1)
    dense = (table.index_select(1, i.flatten()).unflatten(1, i.shape) for i in index)
    return tuple(d.transpose(0, 1).contiguous() for d in dense)


def _triangle(n: Tensor) -> Tensor:
    """Triangular number."""
    return n * (n + 1) // 2


class _Spread(torch.autograd.Function):
    """Kernel of :meth:`UnorderedPairs.spread`, whose backward pass gathers, too.

    PyTorch's backward pass of a gather is a scattered addition, which is slow on every device. This
    backward pass can be differentiated again.
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
        diagonal = ordered[0] == ordered[1]  # counted twice
        return (both * torch.where(diagonal, 0.5, 1.0).to(both)).t(), None, *(None for _ in grads)
