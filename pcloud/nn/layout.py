"""The layout of a ragged batch: which particle belongs to which jet, and to which dense block.

Most work is done per particle on flat tensors. Only what relates the particles of a jet to each
other, the neighbour search and attention, needs a dense block ``(b, P, ...)``. The jets of a batch
are grouped by length for this, so that little is computed on padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcloud.nn.numerics.derivatives import outside_transforms

_SHORT = 16  # jets up to this length share a block: their padding costs less than a kernel call
_SPREAD = 1.25  # longest over shortest jet in a block: at most 1.6 times the pairs, 1.2 on average
_PAIRS = 2**22  # particle pairs per block, unless one jet alone has more: 16 MiB of float32


class _Movable:
    """Moves all tensors of a frozen dataclass together, as a tensor would be moved."""

    def _apply(self, change: Any) -> Any:
        def moved(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, _Movable):
                return value._apply(change)
            if isinstance(value, tuple):
                return tuple(moved(v) for v in value)
            return value

        return type(self)(**{f.name: moved(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Any:
        return self._apply(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Any:
        return self._apply(lambda t: t.pin_memory())


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """``x[index]`` for ``x (N, ...)``: on a CPU up to four times as fast, backwards too."""
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])


@dataclass(frozen=True)
class DenseBlock(_Movable):
    """Jets of similar length as a rectangle of slots.

    Attributes
    ----------
    jets : Tensor, shape (b,)
        Which jets of the batch.
    index : Tensor, shape (b, P)
        Particle in each slot; an empty slot repeats the first particle of its jet.
    mask : Tensor, shape (b, P)
        True where the slot holds a particle.
    full : bool
        Whether no slot is empty.
    """

    jets: Tensor
    index: Tensor
    mask: Tensor
    full: bool

    def gather(self, x: Tensor) -> Tensor:
        """Flat ``x (N, ...)`` to the slots of this block, shape (b, P, ...)."""
        return take_rows(x, self.index)


@dataclass(frozen=True)
class RaggedLayout(_Movable):
    """How the particles of a batch are arranged; built once per batch, used by every layer.

    Attributes
    ----------
    batch : Tensor, shape (N,)
        Jet of each particle, sorted.
    ptr : Tensor, shape (B + 1,)
        Jet ``i`` is particles ``ptr[i]:ptr[i + 1]``.
    counts : Tensor, shape (B,)
        Particles per jet; 0 is allowed.
    blocks : tuple of DenseBlock
        Every particle stands in exactly one slot of one block.
    position : Tensor, shape (N,)
        Slot of each particle in the concatenation of all flattened blocks.
    num_pairs : int
        Unordered pairs of particles of the same jet, a particle with itself included.
    jet_p4 : Tensor, shape (B, 4), or None
        Momenta of the jets in GeV as they are stored; None where a jet is the sum of its particles.
    """

    batch: Tensor
    ptr: Tensor
    counts: Tensor
    blocks: tuple[DenseBlock, ...]
    position: Tensor
    num_pairs: int
    jet_p4: Tensor | None = None

    @property
    def num_jets(self) -> int:
        """Number of jets B."""
        return self.counts.shape[0]

    @property
    def num_particles(self) -> int:
        """Number of particles N."""
        return self.batch.shape[0]

    @classmethod
    @torch.compiler.disable
    @outside_transforms
    def from_ptr(
        cls, ptr: Tensor, *, spread: float = _SPREAD, pairs: int = _PAIRS, short: int = _SHORT
    ) -> RaggedLayout:
        """Layout of the jets ``ptr[i]:ptr[i + 1]``, on the device of `ptr`.

        Reads `ptr` on the host: the one synchronisation of a batch on a GPU, and none where `ptr`
        is still on the CPU.

        Parameters
        ----------
        ptr : Tensor, shape (B + 1,)
            Offsets of the jets.
        spread : float
            Longest over shortest jet in a block.
        pairs : int
            Pairs of slots per block, unless one jet alone has more.
        short : int
            Length up to which jets share a block whatever the spread. With ``short=1`` and
            ``spread=1.0`` no slot is empty.
        """
        bounds = ptr.cpu().numpy()
        counts = np.diff(bounds)
        order = np.argsort(-counts, kind="stable")
        blocks, position, slots = [], np.empty(bounds[-1], dtype=np.int64), 0
        for jets in _similar(order, counts[order], spread, pairs, short):
            length = counts[jets]
            slot = np.arange(length[0])
            mask = slot < length[:, None]
            index = bounds[jets][:, None] + np.where(mask, slot, 0)
            position[index[mask]] = slots + np.flatnonzero(mask)
            slots += mask.size
            blocks.append(
                DenseBlock(
                    torch.from_numpy(jets),
                    torch.from_numpy(index),
                    torch.from_numpy(mask),
                    bool(mask.all()),
                )
            )
        of_jet = np.repeat(np.arange(len(counts)), counts)
        host = cls(
            torch.from_numpy(of_jet),
            torch.from_numpy(bounds),
            torch.from_numpy(counts),
            tuple(blocks),
            torch.from_numpy(position),
            int((counts * (counts + 1)).sum() // 2),
        )
        return host if ptr.device.type == "cpu" else host.to(ptr.device, non_blocking=True)

    @classmethod
    @torch.compiler.disable
    @outside_transforms
    def from_batch(cls, batch: Tensor, num_jets: int | None = None) -> RaggedLayout:
        """Layout of the particles with sorted jet indices `batch (N,)`.

        Parameters
        ----------
        batch : Tensor, shape (N,)
            Jet of each particle, sorted.
        num_jets : int, optional
            Number of jets, where the last ones may be empty; otherwise ``batch[-1] + 1``.

        Raises
        ------
        ValueError
            If `batch` is not sorted, or names a jet beyond `num_jets`.
        """
        host = batch.cpu().numpy()
        if (np.diff(host) < 0).any():
            raise ValueError("batch must be sorted: the particles of a jet stand together")
        counts = np.bincount(host, minlength=num_jets or 0)
        if num_jets is not None and len(counts) > num_jets:
            raise ValueError(f"batch names jet {len(counts) - 1}, but there are {num_jets} jets")
        ptr = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))
        layout = cls.from_ptr(ptr)
        return layout if batch.device.type == "cpu" else layout.to(batch.device, non_blocking=True)

    @classmethod
    def of_one_jet(
        cls, particles: int, empty: int = 0, device: torch.device | str = "cpu"
    ) -> RaggedLayout:
        """Layout of one jet, with `empty` slots behind its particles; without a synchronisation."""
        slot = torch.arange(particles + empty, device=device)
        mask = slot < particles
        jet = slot.new_zeros(1)
        block = DenseBlock(
            jet, torch.where(mask, slot, 0).unsqueeze(0), mask.unsqueeze(0), not empty
        )
        return cls(
            slot.new_zeros(particles),
            torch.cat([jet, jet + particles]),
            jet + particles,
            (block,),
            slot[:particles],
            particles * (particles + 1) // 2,
        )

    def with_jet_p4(self, jet_p4: Tensor | None) -> RaggedLayout:
        """The same jets with their stored momenta ``jet_p4 (B, 4)`` in GeV."""
        return replace(self, jet_p4=jet_p4)

    def gather(self, x: Tensor) -> list[Tensor]:
        """Flat ``x (N, ...)`` as one tensor (b, P, ...) per block.

        All at once: for each block alone, its gradient would be a tensor of all particles.
        """
        if not self.blocks:
            return []
        shapes = [block.index.shape for block in self.blocks]
        slots = x.index_select(0, torch.cat([block.index.flatten() for block in self.blocks]))
        parts = slots.split([shape.numel() for shape in shapes])
        return [p.view(*shape, *x.shape[1:]) for p, shape in zip(parts, shapes, strict=True)]

    def flatten(self, dense: Sequence[Tensor]) -> Tensor:
        """Tensors (b, P, ...), one per block, back to flat order (N, ...)."""
        slots = [block.flatten(0, 1) for block in dense]
        return take_rows(slots[0] if len(slots) == 1 else torch.cat(slots), self.position)


def _similar(
    order: np.ndarray, counts: np.ndarray, spread: float, pairs: int, short: int
) -> Iterator[np.ndarray]:
    """Runs of jets of similar length, from jets in order of falling `counts`; no empty jets."""
    start, stop = 0, int(np.searchsorted(-counts, 0))
    while start < stop:
        longest = int(counts[start])
        shortest = 1 if longest <= short else max(longest / spread, short)
        similar = int(np.searchsorted(-counts, -shortest, side="right"))
        end = min(similar, start + max(1, pairs // longest**2), stop)
        yield order[start:end]
        start = end


def as_layout(batch: Tensor, layout: RaggedLayout | None) -> RaggedLayout:
    """`layout` where the caller has one already, else that of `batch`."""
    return RaggedLayout.from_batch(batch) if layout is None else layout
