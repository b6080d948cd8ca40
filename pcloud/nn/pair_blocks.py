"""All ordered pairs of particles of a jet, without an edge list."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcloud.nn.layout import DenseBlock, RaggedLayout

__all__ = ["PairBlock", "Scratch", "pair_blocks", "tight"]

_SPREAD = 1.06  # longest over shortest jet in a block: some 6 % of its pairs are padding
_PAIRS_CPU = 2**13  # pairs worked on at a time: megabytes, which stay in the cache
_PAIRS = 2**18  # elsewhere, where a chunk should be large enough to fill an accelerator


class Scratch:
    """Memory for what is needed for a moment only, used again by whoever comes next."""

    def __init__(self) -> None:
        self._memory: dict[tuple[int, torch.dtype], Tensor] = {}
        self._views: dict[tuple[int, torch.dtype, tuple[int, ...]], Tensor] = {}

    def __call__(self, slot: int, like: Tensor, *shape: int) -> Tensor:
        """What was last written to the memory `slot`, as a tensor of that shape."""
        key = slot, like.dtype, shape
        if key not in self._views:
            size = math.prod(shape)
            memory = self._memory.get(key[:2])
            if memory is None or len(memory) < size:
                self._views.clear()
                memory = self._memory[key[:2]] = like.new_empty(size)
            self._views[key] = memory[:size].view(shape)
        return self._views[key]


@dataclass(frozen=True)
class PairBlock:
    """The pairs of different particles in a dense block, and the chunks in which to work on them.

    A chunk holds all pairs of some receivers: of all those in some jets, or of some in one jet.

    Attributes
    ----------
    block : DenseBlock
        Jets of similar length.
    mask : Tensor, shape (b, P, P)
        True for a pair of two different particles, False beside padding and on the diagonal.
    jets : list of slice
        Of the block, for each chunk.
    receivers : list of int
        Number in each chunk, of the b P slots of the block.
    scratch : Scratch
        Memory shared by all blocks of a batch.
    """

    block: DenseBlock
    mask: Tensor
    jets: list[slice]
    receivers: list[int]
    scratch: Scratch = field(compare=False)

    def by_jet(self, x: Tensor) -> list[Tensor]:
        """``x (b, ...)`` for each chunk."""
        return [x[jets] for jets in self.jets]

    def by_receiver(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x (b, P, ...)`` as (receivers, ...) for each chunk; no copies."""
        return x.flatten(0, 1).split_with_sizes(self.receivers)

    def by_pair(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x (b, P, P, ...)`` as (pairs, ...) for each chunk; no copies."""
        length = self.mask.shape[2]
        return x.flatten(0, 2).split_with_sizes([count * length for count in self.receivers])


@torch.compiler.disable
def pair_blocks(layout: RaggedLayout) -> list[PairBlock]:
    """The pairs of every block of `layout`; made once per batch."""
    pairs, scratch = [], Scratch()
    for block in layout.blocks:
        mask = block.mask.unsqueeze(1) & block.mask.unsqueeze(2)
        mask.diagonal(dim1=1, dim2=2).fill_(False)
        jets, receivers = zip(*_chunks(mask), strict=True)
        pairs.append(PairBlock(block, mask, list(jets), list(receivers), scratch))
    return pairs


def _chunks(mask: Tensor) -> Iterator[tuple[slice, int]]:
    """As many jets as fit; of a jet that does not fit, equal parts of its receivers."""
    jets, length, _ = mask.shape
    pairs = _PAIRS_CPU if mask.device.type == "cpu" else _PAIRS
    step = max(1, pairs // length**2)
    rows = -(-length // -(-(length**2) // pairs)) if length**2 > pairs else length
    for jet in range(0, jets, step):
        stop = min(jet + step, jets)
        for row in range(0, length, rows):
            yield slice(jet, stop), (stop - jet) * (min(row + rows, length) - row)


def tight(layout: RaggedLayout) -> RaggedLayout:
    """The same jets in more blocks with less padding; as it is on an accelerator.

    A sixth fewer pairs are worth some more calls on a CPU. Elsewhere the lengths of the jets cannot
    be known without a synchronisation.
    """
    if layout.ptr.device.type != "cpu":
        return layout
    return RaggedLayout.from_ptr(layout.ptr, spread=_SPREAD)
