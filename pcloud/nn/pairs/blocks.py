"""All ordered pairs of particles of a jet, without an edge list."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pcloud.nn.layout import RaggedLayout, take_rows
from pcloud.nn.numerics.derivatives import outside_transforms
from pcloud.nn.numerics.threaded_matmul import split_rows, threads_of

__all__ = ["Chunk", "PairBlocks", "PairRows", "Part"]

_PAIRS_CPU = 2**13  # pairs worked on at a time: megabytes, which stay in the cache
_PAIRS = 2**18  # elsewhere, where a chunk should be large enough to fill an accelerator


class Part(NamedTuple):
    """Pairs of some jets of one length: all of them, or those of some receivers of one jet."""

    jets: int
    length: int  # of each jet
    receivers: int  # of all jets, in the slots after those of the part before
    senders: slice  # slots

    @property
    def pairs(self) -> int:
        """How many there are."""
        return self.receivers * self.length

    @property
    def shape(self) -> tuple[int, int, int]:
        """Jets, receivers of each, senders of each."""
        return self.jets, self.receivers // self.jets, self.length


class Chunk(NamedTuple):
    """Pairs that are worked on at a time: all those of some receivers."""

    parts: tuple[Part, ...]

    @property
    def pairs(self) -> int:
        """How many there are."""
        return sum(part.pairs for part in self.parts)


class PairRows:
    """Memory for C numbers for each of the n pairs of a chunk, and how it is looked at.

    To make a view takes as long as to work on some hundred pairs, so they are kept.

    Attributes
    ----------
    all : Tensor, shape (n, C)
    split : SplitRows
        For products with a matrix.
    by_jet, by_receiver : list of Tensor
        Of each part, of shape (jets, receivers, senders, C) and (receivers, senders, C).
    """

    def __init__(self, memory: Tensor, chunk: Chunk, threads: int) -> None:
        self.all = memory
        self.split = split_rows(memory, threads)
        of_parts = memory.split([part.pairs for part in chunk.parts])
        self.by_jet = [m.unflatten(0, p.shape) for m, p in zip(of_parts, chunk.parts, strict=True)]
        self.by_receiver = [m.flatten(0, 1) for m in self.by_jet]


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
    chunks : tuple of Chunk
        The pieces in which to work on the pairs.
    threads : int
        Among how many threads to share the work on a chunk.
    """

    layout: RaggedLayout
    source: Tensor
    mask: Tensor
    chunks: tuple[Chunk, ...]
    threads: int
    _scratch: dict[tuple[str, int, torch.dtype], list[PairRows]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    @torch.compiler.disable
    @outside_transforms
    def of(cls, layout: RaggedLayout) -> PairBlocks:
        """The pairs of the jets of `layout`; made once per batch, without a synchronisation.

        On a CPU with as little padding as there can be. Elsewhere, where lengths are not known,
        the blocks stay as they are.
        """
        on_cpu, exported = layout.ptr.device.type == "cpu", torch.compiler.is_compiling()
        if on_cpu and not exported:
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
            () if exported else tuple(_chunks(shapes, _PAIRS_CPU if on_cpu else _PAIRS)),
            threads_of(layout.ptr.device),
        )

    @property
    def num_pairs(self) -> int:
        """Number of pairs M."""
        return self.mask.shape[0]

    def scratch(self, name: str, channels: int, dtype: torch.dtype) -> list[PairRows]:
        """Memory for every chunk, the same for all of them, with what was last written to it."""
        key = name, channels, dtype
        if key not in self._scratch:
            sizes = [chunk.pairs for chunk in self.chunks]
            memory = self.source.new_empty(max(sizes, default=0), channels, dtype=dtype)
            of_chunks = zip(sizes, self.chunks, strict=True)
            self._scratch[key] = [
                PairRows(memory[:n], chunk, self.threads) for n, chunk in of_chunks
            ]
        return self._scratch[key]

    def gather(self, x: Tensor) -> Tensor:
        """Particles ``x (N, ...)`` in their slots (S, ...)."""
        return take_rows(x, self.source)

    def flatten(self, slots: Tensor) -> Tensor:
        """What stands in the slots (S, ...) in the order of the particles (N, ...)."""
        return take_rows(slots, self.layout.position)

    def by_chunk(self, pairs: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
        """Pairs (M, ...) as (n, ...) for each chunk, or those along `dim`; no copies."""
        return pairs.split([chunk.pairs for chunk in self.chunks], dim)

    def by_part(self, pairs: Tensor) -> list[list[Tensor]]:
        """Pairs (F, M) as (receivers, F, senders) for each part of each chunk; no copies."""
        features, parts = len(pairs), [part for chunk in self.chunks for part in chunk.parts]
        of_parts = zip(pairs.split([part.pairs for part in parts], dim=1), parts, strict=True)
        views = iter([x.view(features, -1, p.length).transpose(0, 1) for x, p in of_parts])
        return [[next(views) for _ in chunk.parts] for chunk in self.chunks]

    def by_receivers(self, slots: Tensor) -> list[list[Tensor]]:
        """Slots (S, ...) as (receivers, ...) for each part of each chunk; no copies."""
        of_parts = iter(slots.split([part.receivers for c in self.chunks for part in c.parts]))
        return [[next(of_parts) for _ in c.parts] for c in self.chunks]

    def by_block(self, slots: Tensor) -> list[Tensor]:
        """Slots (S, ...) as (b, P, ...) for each block; no copies."""
        shapes = [block.index.shape for block in self.layout.blocks]
        blocks = slots.split([jets * length for jets, length in shapes])
        return [x.view(*p, *x.shape[1:]) for x, p in zip(blocks, shapes, strict=True)]

    def pairs_by_block(self, pairs: Tensor) -> list[Tensor]:
        """Pairs (M, ...) as (b, P, P, ...) for each block; no copies."""
        shapes = [(*block.index.shape, block.index.shape[1]) for block in self.layout.blocks]
        blocks = pairs.split([math.prod(shape) for shape in shapes])
        return [x.view(*p, *x.shape[1:]) for x, p in zip(blocks, shapes, strict=True)]


def _chunks(shapes: Sequence[Sequence[int]], limit: int) -> Iterator[Chunk]:
    """As many jets as fit; of a jet that does not fit, equal parts of its receivers."""
    parts: list[Part] = []
    slot = size = 0  # next receiver; pairs of the chunk
    for jets, length in shapes:
        most = max(1, limit // length)
        rows = -(-length // -(-length // most))  # of a jet at a time, as equal as they can be
        first, end = slot, slot + jets * length
        while slot < end:
            jet = slot - (slot - first) % length
            if rows == length:  # whole jets, as many as there is room for
                count = max(1, min((end - slot) // length, (limit - size) // length**2))
                receivers, senders = count * length, slice(slot, slot + count * length)
            else:
                count, receivers = 1, min(rows, jet + length - slot)
                senders = slice(jet, jet + length)
            part = Part(count, length, receivers, senders)
            if parts and size + part.pairs > limit:
                yield Chunk(tuple(parts))
                parts, size = [], 0
                continue
            parts.append(part)
            slot, size = slot + receivers, size + part.pairs
    if parts:
        yield Chunk(tuple(parts))
