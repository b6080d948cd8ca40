"""Places of the heads of all particles in dense blocks, in which attention is computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import outside_transforms
from pcloud.nn.numerics.precision import at_least_float32

__all__ = ["HeadBlock", "HeadSlots"]

_CPU_BLOCK_WEIGHTS = 2**18  # attention weights of a block on a CPU: a second-level cache
_CPU_LENGTH_RATIO = 1.1  # longest to shortest jet in a block


@dataclass(frozen=True)
class HeadBlock:
    """Rows of the heads of the particles in a dense block; a row has d channels.

    Attributes
    ----------
    mask : Tensor, shape (b, 1, P, 1)
        True where the slot contains a particle.
    source : Tensor, shape (b heads P,)
        Row in ``(N, heads)``; an empty slot has that of the first particle of its jet.
    qkv_source : Tensor, shape (3 b heads P,)
        Row in ``(N, 3, heads)``, for query, key and value.
    rows : slice
        Rows in the concatenation of all blocks.
    """

    mask: Tensor
    source: Tensor
    qkv_source: Tensor
    rows: slice

    def gather(self, x: Tensor, source: Tensor) -> Tensor:
        """Rows `source` of flat ``x (N, ..., d)``, shape (..., P, d), at least float32."""
        x = x.view(-1, x.shape[-1]).index_select(0, source)
        return x.view(-1, self.mask.shape[2], x.shape[-1]).to(at_least_float32(x))

    def view(self, dense: Tensor) -> Tensor:
        """View (b heads, P, d) of the rows of this block in ``dense (rows, d)``."""
        return dense[self.rows].unflatten(0, (-1, self.mask.shape[2]))


@dataclass(frozen=True)
class HeadSlots:
    """Layout of particles and heads for attention; made once per batch.

    Attributes
    ----------
    layout : RaggedLayout
        Layout whose blocks are used for attention and for its bias. On a CPU the blocks are so small
        that the P x P weights fit into the cache.
    blocks : tuple of HeadBlock
        Rows of the heads in these blocks.
    target : Tensor, shape (N heads,)
        Row of each particle and head in the concatenation of all blocks.
    qkv_target : Tensor, shape (N 3 heads,)
        Row of each query, key and value in the stack of three such concatenations.
    """

    layout: RaggedLayout
    blocks: tuple[HeadBlock, ...]
    target: Tensor
    qkv_target: Tensor

    @property
    def num_rows(self) -> int:
        """Number of rows in the concatenation of all blocks."""
        return self.blocks[-1].rows.stop

    @classmethod
    @torch.compiler.disable
    @outside_transforms
    def of(cls, layout: RaggedLayout, heads: int) -> HeadSlots:
        """Slots for the particles of `layout` with `heads` heads each."""
        device = layout.ptr.device
        # Padded jets keep their block, which an exported network can compute.
        if device.type == "cpu" and layout.row_length is None and not torch.compiler.is_compiling():
            layout = RaggedLayout.from_ptr(
                layout.ptr, spread=_CPU_LENGTH_RATIO, pairs=_CPU_BLOCK_WEIGHTS // heads
            )
        head = torch.arange(heads, device=device)
        kind = torch.arange(3, device=device)  # query, key, value
        blocks = []
        targets = [layout.position.new_empty(0, heads)]
        start = 0
        for block in layout.blocks:
            particle = block.index.unsqueeze(1)  # (b, 1, P)
            source = heads * particle + head.unsqueeze(1)  # (b, heads, P)
            qkv_source = source + 2 * heads * particle + heads * kind.view(3, 1, 1, 1)
            rows = slice(start, start + source.numel())
            mask = block.mask[:, None, :, None]
            blocks.append(HeadBlock(mask, source.flatten(), qkv_source.flatten(), rows))
            row = torch.arange(rows.start, rows.stop, device=device).view(source.shape)
            targets.append(row.mT.flatten(0, 1))
            start = rows.stop
        target = torch.cat(targets)[layout.position]  # (N, heads)
        qkv_target = target.unsqueeze(1) + start * kind.unsqueeze(1)
        return cls(layout, tuple(blocks), target.flatten(), qkv_target.flatten())
