"""All ordered pairs of particles of a jet, without an edge list."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pcloud.nn.layout import RaggedLayout, take_rows

__all__ = ["Chunk", "PairBlocks", "Part", "Scratch"]

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


class Part(NamedTuple):
    """Pairs of some jets of one length: all of them, or those of some receivers of one jet."""

    jets: int
    length: int  # of each jet
    receivers: slice  # slots
    senders: slice  # slots
    pairs: slice  # in the chunk

    @property
    def shape(self) -> tuple[int, int, int]:
        """Jets, receivers of each, senders of each."""
        return self.jets, (self.receivers.stop - self.receivers.start) // self.jets, self.length


class Chunk(NamedTuple):
    """Pairs that are worked on at a time: all those of some receivers."""

    receivers: slice  # slots
    pairs: slice  # in the batch
    parts: tuple[Part, ...]


class Rectangle(NamedTuple):
    """Where the jets of one dense block stand."""

    jets: int
    length: int
    slots: slice
    pairs: slice


@dataclass(frozen=True)
class PairBlocks:
    """The pairs of particles of every jet of a batch, as one list of M.

    Particles stand in S slots, those of the blocks of `layout`; the pairs are those of the first
    slot as a receiver with every sender of its jet, then those of the second, and so on.

    Attributes
    ----------
    layout : RaggedLayout
        Of the particles: on a CPU a block holds jets of one length, or all of up to 16 particles.
    source : Tensor, shape (S,)
        Particle in each slot; an empty slot repeats the first particle of its jet.
    mask : Tensor, shape (M,)
        True for a pair of two different particles, False beside padding and of a slot with itself.
    rectangles : tuple of Rectangle
        The blocks.
    chunks : tuple of Chunk
        The pieces in which to work on the pairs.
    scratch : Scratch
        Memory for them.
    """

    layout: RaggedLayout
    source: Tensor
    mask: Tensor
    rectangles: tuple[Rectangle, ...]
    chunks: tuple[Chunk, ...]
    scratch: Scratch = field(default_factory=Scratch, compare=False)

    @classmethod
    @torch.compiler.disable
    def of(cls, layout: RaggedLayout) -> PairBlocks:
        """The pairs of the jets of `layout`; made once per batch, without a synchronisation.

        On a CPU with as little padding as there can be. Elsewhere, where lengths are not known,
        the blocks stay as they are.
        """
        device = layout.ptr.device
        if device.type == "cpu":
            layout = RaggedLayout.from_ptr(layout.ptr, spread=1.0)
        shapes = [block.index.shape for block in layout.blocks]
        source = [block.index.flatten() for block in layout.blocks]
        masks = []
        for block in layout.blocks:
            mask = block.mask.unsqueeze(1) & block.mask.unsqueeze(2)
            mask.diagonal(dim1=1, dim2=2).fill_(False)
            masks.append(mask.flatten())
        empty = layout.position[:0]
        return cls(
            layout,
            torch.cat([empty, *source]),
            torch.cat([empty.bool(), *masks]),
            tuple(_rectangles(shapes)),
            tuple(_chunks(shapes, _PAIRS_CPU if device.type == "cpu" else _PAIRS)),
        )

    def __len__(self) -> int:
        """Number of pairs M."""
        return len(self.mask)

    def gather(self, x: Tensor) -> Tensor:
        """Particles ``x (N, ...)`` in their slots (S, ...)."""
        return take_rows(x, self.source)

    def flatten(self, slots: Tensor) -> Tensor:
        """What stands in the slots (S, ...) in the order of the particles (N, ...)."""
        return take_rows(slots, self.layout.position)

    def by_block(self, slots: Tensor) -> list[Tensor]:
        """Slots (S, ...) as (b, P, ...) for each block; no copies."""
        return [slots[r.slots].unflatten(0, (r.jets, r.length)) for r in self.rectangles]

    def pairs_by_block(self, pairs: Tensor) -> list[Tensor]:
        """Pairs (M, ...) as (b, P, P, ...) for each block; no copies."""
        return [pairs[r.pairs].unflatten(0, (r.jets, r.length, r.length)) for r in self.rectangles]


def _rectangles(shapes: Sequence[Sequence[int]]) -> Iterator[Rectangle]:
    slot = pair = 0
    for jets, length in shapes:
        slots, pairs = jets * length, jets * length**2
        yield Rectangle(jets, length, slice(slot, slot + slots), slice(pair, pair + pairs))
        slot, pair = slot + slots, pair + pairs


def _chunks(shapes: Sequence[Sequence[int]], limit: int) -> Iterator[Chunk]:
    """As many jets as fit; of a jet that does not fit, equal parts of its receivers."""
    parts: list[Part] = []
    slot = start = size = 0  # next receiver; first pair of the chunk, and its pairs

    def chunk() -> Chunk:
        receivers = slice(parts[0].receivers.start, parts[-1].receivers.stop)
        return Chunk(receivers, slice(start, start + size), tuple(parts))

    for jets, length in shapes:
        most = max(1, limit // length)
        rows = -(-length // -(-length // most))  # of a jet at a time, as equal as they can be
        first, end = slot, slot + jets * length
        while slot < end:
            jet = slot - (slot - first) % length
            if rows == length:  # whole jets, as many as there is room for
                count = max(1, min((end - slot) // length, (limit - size) // length**2))
                stop, senders = slot + count * length, slice(slot, slot + count * length)
            else:
                count, stop = 1, min(slot + rows, jet + length)
                senders = slice(jet, jet + length)
            pairs = slice(size, size + (stop - slot) * length)
            if parts and pairs.stop > limit:
                yield chunk()
                parts, start, size = [], start + size, 0
                continue
            parts.append(Part(count, length, slice(slot, stop), senders, pairs))
            slot, size = stop, pairs.stop
    if parts:
        yield chunk()
