"""All ordered pairs of particles of a jet, without an edge list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pcloud.nn.layout import DenseBlock, RaggedLayout

__all__ = ["Chunk", "PairBlock", "pair_blocks"]

_PAIRS_CPU = 2**13  # pairs in a chunk: some megabytes, in the cache
_PAIRS = 2**18  # elsewhere, where a chunk should be large enough to fill an accelerator


@dataclass(frozen=True)
class Chunk:
    """Pairs that are worked on together.

    Attributes
    ----------
    jets, receivers, senders : slice
        Of a block: an index into ``(b, P, P, ...)``.
    pairs : slice
        Of all pairs of the block, chunk after chunk.
    """

    jets: slice
    receivers: slice
    senders: slice
    pairs: slice

    @property
    def index(self) -> tuple[slice, slice, slice]:
        """Index into ``(b, P, P, ...)``."""
        return self.jets, self.receivers, self.senders

    def unflatten(self, x: Tensor) -> Tensor:
        """Rows of ``x (pairs, ...)`` as jets, receivers and senders."""
        return x.unflatten(0, tuple(s.stop - s.start for s in self.index))

    def __len__(self) -> int:
        return self.pairs.stop - self.pairs.start


@dataclass(frozen=True)
class PairBlock:
    """The pairs of different particles in a dense block.

    Attributes
    ----------
    block : DenseBlock
        Jets of similar length.
    mask : Tensor, shape (b, P, P)
        True for a pair of two different particles, False beside padding and on the diagonal.
    chunks : tuple of Chunk
        Together they hold every pair once, and few beside padding.
    """

    block: DenseBlock
    mask: Tensor
    chunks: tuple[Chunk, ...]


@torch.compiler.disable
def pair_blocks(layout: RaggedLayout) -> list[PairBlock]:
    """The pairs of every block of `layout`; made once per batch."""
    pairs = []
    for block in layout.blocks:
        mask = block.mask.unsqueeze(1) & block.mask.unsqueeze(2)
        mask.diagonal(dim1=1, dim2=2).fill_(False)
        pairs.append(PairBlock(block, mask, tuple(_chunks(block.mask))))
    return pairs


def _chunks(mask: Tensor) -> Iterator[Chunk]:
    """As many jets as fit, cut to the longest of them; or some receivers of one long jet."""
    on_cpu = mask.device.type == "cpu"
    pairs = _PAIRS_CPU if on_cpu else _PAIRS
    jets, longest = mask.shape
    # A look at the lengths would synchronise an accelerator.
    lengths = mask.sum(1).tolist() if on_cpu else [longest] * jets
    jet = start = 0
    while jet < jets:
        length = lengths[jet]
        stop = min(jets, jet + max(1, pairs // length**2))
        rows = min(length, max(1, pairs // length))
        for row in range(0, length, rows):
            receivers = slice(row, min(row + rows, length))
            end = start + (stop - jet) * (receivers.stop - row) * length
            yield Chunk(slice(jet, stop), receivers, slice(0, length), slice(start, end))
            start = end
        jet = stop
