"""Ordered pairs of the particles of each jet in dense blocks, without an edge list."""

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

_CPU_CHUNK_PAIRS = 2**13  # some megabytes, which fit into the cache
_ACCELERATOR_CHUNK_PAIRS = 2**18  # enough work for all cores of an accelerator


class Part(NamedTuple):
    """Pairs of jets of equal length: all pairs of some jets, or some receivers of one jet."""

    jets: int  # number of jets
    length: int  # slots per jet
    receivers: int  # number in all jets; their slots follow those of the previous part
    senders: slice  # slots of the senders

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return self.receivers * self.length

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of jets, receivers per jet, and senders per jet."""
        return self.jets, self.receivers // self.jets, self.length


class Chunk(NamedTuple):
    """Pairs that are processed at a time: some receivers with all their senders."""

    parts: tuple[Part, ...]

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return sum(part.pairs for part in self.parts)


class PairRows:
    """Buffer for C values for each of the n pairs of a chunk, with several views of it.

    Views are cached: creating one costs as much as processing about 100 pairs.

    Attributes
    ----------
    all : Tensor, shape (n, C)
        Buffer.
    split : SplitRows
        View for products with a matrix.
    by_jet : list of Tensor, shape (jets, receivers, senders, C)
        View of each part.
    by_receiver : list of Tensor, shape (receivers, senders, C)
        View of each part, for the receivers of all its jets.
    """

    def __init__(self, memory: Tensor, chunk: Chunk, threads: int) -> None:
        self.all = memory
        self.split = split_rows(memory, threads)
        parts = memory.split([part.pairs for part in chunk.parts])
        self.by_jet = [m.unflatten(0, p.shape) for m, p in zip(parts, chunk.parts, strict=True)]
        self.by_receiver = [m.flatten(0, 1) for m in self.by_jet]


@dataclass(frozen=True)
class PairBlocks:
    """Pairs of particles of all jets of a batch, M in total.

    The particles are in S slots, those of the blocks of `layout`. The pairs are ordered by the slot
    of the receiver, then by the slot of the sender in the same jet.

    Attributes
    ----------
    layout : RaggedLayout
        Layout of the particles. On a CPU a block contains jets of the same length; jets of up to 16
        particles share a block.
    source : Tensor, shape (S,)
        Index of the particle in each slot; an empty slot has that of the first particle of its jet.
    mask : Tensor, shape (M,)
        True for two different particles, False for empty slots and for a slot with itself.
    chunks : tuple of Chunk
        Pairs that are processed at a time.
    threads : int
        Number of threads that share the work on a chunk.
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
        """Pairs of the jets of `layout`; made once per batch, without synchronisation.

        On a CPU, the jets are arranged in new blocks with minimal padding. On an accelerator, the
        lengths are not known on the host, and the blocks remain as they are.
        """
        on_cpu = layout.ptr.device.type == "cpu"
        exported = torch.compiler.is_compiling()
        limit = _CPU_CHUNK_PAIRS if on_cpu else _ACCELERATOR_CHUNK_PAIRS
        if on_cpu and layout.row_length is None and not exported:
            layout = RaggedLayout.from_ptr(layout.ptr, spread=1.0)
        shapes = [block.index.shape for block in layout.blocks]
        source = [block.index.flatten() for block in layout.blocks]
        masks = []
        for block in layout.blocks:
            mask = block.mask.unsqueeze(1) & block.mask.unsqueeze(2)
            slot = torch.arange(block.mask.shape[1], device=mask.device)
            masks.append((mask & (slot.unsqueeze(1) != slot)).flatten())
        empty = layout.position[:0]
        return cls(
            layout,
            torch.cat([empty, *source]),
            torch.cat([empty.bool(), *masks]),
            () if exported else tuple(_pair_chunks(shapes, limit)),
            threads_of(layout.ptr.device),
        )

    @property
    def num_pairs(self) -> int:
        """Number of pairs M."""
        return self.mask.shape[0]

    def scratch(self, name: str, channels: int, dtype: torch.dtype) -> list[PairRows]:
        """Scratch buffer for each chunk, shared by all chunks. Contents are not cleared.

        Parameters
        ----------
        name : str
            Name of the buffer.
        channels : int
            Values per pair C.
        dtype : torch.dtype
            Type of the values.
        """
        key = name, channels, dtype
        if key not in self._scratch:
            sizes = [chunk.pairs for chunk in self.chunks]
            memory = self.source.new_empty(max(sizes, default=0), channels, dtype=dtype)
            self._scratch[key] = [
                PairRows(memory[:size], chunk, self.threads)
                for size, chunk in zip(sizes, self.chunks, strict=True)
            ]
        return self._scratch[key]

    def gather(self, x: Tensor) -> Tensor:
        """Values of the slots (S, ...) from those of the particles ``x (N, ...)``."""
        return take_rows(x, self.source)

    def flatten(self, slots: Tensor) -> Tensor:
        """Values of the particles (N, ...) from those of the slots (S, ...)."""
        return take_rows(slots, self.layout.position)

    def by_chunk(self, pairs: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
        """Split `pairs` (M, ...), or the axis `dim`, into chunks (n, ...), without a copy."""
        return pairs.split([chunk.pairs for chunk in self.chunks], dim)

    def by_part(self, pairs: Tensor) -> list[list[Tensor]]:
        """Views (receivers, F, senders) of `pairs` (F, M) for each part of each chunk."""
        features = len(pairs)
        parts = [part for chunk in self.chunks for part in chunk.parts]
        split = pairs.split([part.pairs for part in parts], dim=1)
        views = iter(
            [
                values.view(features, -1, part.length).transpose(0, 1)
                for values, part in zip(split, parts, strict=True)
            ]
        )
        return [[next(views) for _ in chunk.parts] for chunk in self.chunks]

    def by_receivers(self, slots: Tensor) -> list[list[Tensor]]:
        """Views (receivers, ...) of `slots` (S, ...) for each part of each chunk."""
        views = iter(slots.split([part.receivers for c in self.chunks for part in c.parts]))
        return [[next(views) for _ in chunk.parts] for chunk in self.chunks]

    def by_block(self, slots: Tensor) -> list[Tensor]:
        """Views (b, P, ...) of `slots` (S, ...) for each block."""
        shapes = [block.index.shape for block in self.layout.blocks]
        blocks = slots.split([jets * length for jets, length in shapes])
        return [x.view(*p, *x.shape[1:]) for x, p in zip(blocks, shapes, strict=True)]

    def pairs_by_block(self, pairs: Tensor) -> list[Tensor]:
        """Views (b, P, P, ...) of `pairs` (M, ...) for each block."""
        shapes = [(*block.index.shape, block.index.shape[1]) for block in self.layout.blocks]
        blocks = pairs.split([math.prod(shape) for shape in shapes])
        return [x.view(*p, *x.shape[1:]) for x, p in zip(blocks, shapes, strict=True)]


def _pair_chunks(shapes: Sequence[Sequence[int]], limit: int) -> Iterator[Chunk]:
    """Divide the pairs of blocks of `shapes` (b, P) into chunks of at most `limit` pairs.

    A chunk contains as many jets as fit. The receivers of a jet that does not fit are divided
    equally among several chunks.
    """
    parts: list[Part] = []
    slot = 0  # next receiver
    size = 0  # pairs of the current chunk
    for jets, length in shapes:
        max_rows = max(1, limit // length)
        num_divisions = math.ceil(length / max_rows)
        rows = math.ceil(length / num_divisions)  # receivers of a jet per part
        first = slot
        end = slot + jets * length
        while slot < end:
            jet = slot - (slot - first) % length
            if rows == length:  # whole jets
                count = max(1, min((end - slot) // length, (limit - size) // length**2))
                receivers = count * length
                senders = slice(slot, slot + receivers)
            else:
                count = 1
                receivers = min(rows, jet + length - slot)
                senders = slice(jet, jet + length)
            part = Part(count, length, receivers, senders)
            if parts and size + part.pairs > limit:
                yield Chunk(tuple(parts))
                parts = []
                size = 0
                continue
            parts.append(part)
            slot += receivers
            size += part.pairs
    if parts:
        yield Chunk(tuple(parts))
