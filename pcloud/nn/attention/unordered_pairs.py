"""Unordered pairs of the particles of each jet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import outside_transforms

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
    """

    first: Tensor
    second: Tensor
    index: tuple[Tensor, ...]

    @classmethod
    @torch.no_grad()
    @outside_transforms
    def of(cls, layout: RaggedLayout) -> UnorderedPairs:
        """All pairs of the jets of `layout`, without synchronisation.

        The pairs are in triangular order: particle l of a jet is the first of l + 1 pairs.
        """
        if layout.row_length is not None or torch.compiler.is_compiling():
            return cls._of_rows(layout)
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
        for block in layout.blocks:
            slot = torch.arange(block.index.shape[1], device=device)
            other = slot.unsqueeze(1)
            table = _triangle(torch.maximum(slot, other)) + torch.minimum(slot, other)
            # The index of a pair with an empty slot is arbitrary, but must exist.
            pair = (start[block.jets][:, None, None] + table).clamp_(max=layout.num_pairs - 1)
            index.append(torch.where(block.mask.unsqueeze(1), pair, layout.num_pairs))
        return cls(first, second, tuple(index))

    @classmethod
    def _of_rows(cls, layout: RaggedLayout) -> UnorderedPairs:
        """All pairs of slots of one block, by operations that ONNX has.

        Where the rows are not padded, pairs with empty slots are left out, but for the last one,
        so that there is a pair.
        """
        (block,) = layout.blocks
        jets, size = block.index.shape
        slot = torch.arange(size, device=block.index.device)
        number = size * (size + 1) // 2  # per jet
        pair = torch.arange(number, device=slot.device)
        first = (((8 * pair + 1).double().sqrt() - 1) / 2).long()  # exact below 2^49
        second = pair - _triangle(first)
        other = slot.unsqueeze(1)
        table = _triangle(torch.maximum(slot, other)) + torch.minimum(slot, other)
        start = (number * torch.arange(jets, device=slot.device))[:, None, None]
        index = start + table
        rows = block.index[:, first].flatten(), block.index[:, second].flatten()
        if layout.row_length is not None:
            return cls(*rows, (torch.where(block.mask.unsqueeze(1), index, jets * number),))
        is_kept = block.mask[:, first].flatten()
        is_kept = F.pad(is_kept[:-1], (0, 1), value=True)
        kept = is_kept.nonzero().squeeze(1)
        torch._check(kept.shape[0] >= 1)
        place = (is_kept.long().cumsum(0) - 1).clamp(min=0)[index]
        index = torch.where(block.mask.unsqueeze(1), place, kept.shape[0])
        return cls(rows[0][kept], rows[1][kept], (index,))

    def spread(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features (b, F, P, P) for each block from those of the pairs, ``x (M, F)``.

        The value is -inf where the second slot is empty. Where only the first is empty, it is
        arbitrary, but finite, and has no gradient.
        """
        table = F.pad(x.t(), (0, 1), value=-torch.inf)  # (F, M + 1)
        dense = (table.index_select(1, i.flatten()).unflatten(1, i.shape) for i in self.index)
        return tuple(d.transpose(0, 1).contiguous() for d in dense)


def _triangle(n: Tensor) -> Tensor:
    """Triangular number."""
    return n * (n + 1) // 2
