"""Layout of a ragged batch: the jet of each particle, and its place in dense blocks.

Most layers work per particle on flat tensors. Only the neighbour search and attention, which relate
the particles of a jet to each other, need dense blocks ``(b, P, ...)``. For them, the jets of a
batch are grouped by length, so that there is little padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcloud.nn.numerics.derivatives import outside_transforms

_SHORT_JET = 16  # jets up to this length share a block: padding costs less than a kernel call
_LENGTH_RATIO = 1.25  # longest to shortest jet in a block: on average 1.2 times the pairs
_BLOCK_PAIRS = 2**22  # particle pairs per block, unless a single jet has more: 16 MiB of float32


class _Movable:
    """Base of frozen dataclasses whose tensors are moved to a device together."""

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
    """``x[index]`` for ``x (N, ...)``, on a CPU up to four times as fast, also in the backward pass."""
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])


@dataclass(frozen=True)
class DenseBlock(_Movable):
    """Jets of similar length in a rectangular array of slots.

    Attributes
    ----------
    jets : Tensor, shape (b,)
        Indices of the jets in the batch.
    index : Tensor, shape (b, P)
        Index of the particle in each slot; an empty slot has that of the first particle of its jet.
    mask : Tensor, shape (b, P)
        True where the slot contains a particle.
    full : bool
        True if no slot is empty.
    """

    jets: Tensor
    index: Tensor
    mask: Tensor
    full: bool

    def gather(self, x: Tensor) -> Tensor:
        """Values of the slots of this block, shape (b, P, ...), from flat ``x (N, ...)``."""
        return take_rows(x, self.index)


@dataclass(frozen=True)
class RaggedLayout(_Movable):
    """Arrangement of the particles of a batch; built once per batch and used by every layer.

    Attributes
    ----------
    batch : Tensor, shape (N,)
        Jet of each particle, sorted.
    ptr : Tensor, shape (B + 1,)
        Offsets: jet ``i`` consists of the particles ``ptr[i]:ptr[i + 1]``.
    counts : Tensor, shape (B,)
        Number of particles per jet; 0 is allowed.
    blocks : tuple of DenseBlock
        Dense blocks; every particle is in exactly one slot of one block.
    position : Tensor, shape (N,)
        Slot of each particle in the concatenation of all flattened blocks.
    num_pairs : int
        Number of unordered pairs of particles of the same jet, including a particle with itself.
    jet_p4 : Tensor, shape (B, 4), or None
        Stored momenta of the jets in GeV; None if the momentum of a jet is the sum of its particles.
    u : Tensor, shape (B, G), or None
        Features of the jets.
    pos : Tensor, shape (N, 2), or None
        Positions (eta, phi) of the rows relative to the jet, of rows without momentum.
    collection : Tensor, shape (N,), or None
        Collection of each row; None if there is one.
    row_length : int or None
        Number of rows of every jet in a padded batch, see :meth:`of_padded`; else None.
    spare_slots : int
        Slots without particles in which a neighbour search of a padded batch finds missing neighbours.
    slots : Tensor or None
        Index of the particle in each slot of all blocks, one block after the other; None where the
        indices of the blocks are to be concatenated.

    Examples
    --------
    >>> layout = RaggedLayout.from_batch(torch.tensor([0, 0, 1]))
    >>> layout.num_jets, layout.counts.tolist()
    (2, [2, 1])
    """

    batch: Tensor
    ptr: Tensor
    counts: Tensor
    blocks: tuple[DenseBlock, ...]
    position: Tensor
    num_pairs: int
    jet_p4: Tensor | None = None
    u: Tensor | None = None
    pos: Tensor | None = None
    collection: Tensor | None = None
    row_length: int | None = None
    spare_slots: int = 0
    slots: Tensor | None = None

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
        cls,
        ptr: Tensor,
        *,
        spread: float = _LENGTH_RATIO,
        pairs: int = _BLOCK_PAIRS,
        short: int = _SHORT_JET,
    ) -> RaggedLayout:
        """Layout of the jets ``ptr[i]:ptr[i + 1]``, on the device of `ptr`.

        The host reads `ptr`. On a GPU this is the only synchronisation of a batch; there is none if
        `ptr` is still on the CPU.

        Parameters
        ----------
        ptr : Tensor, shape (B + 1,)
            Offsets of the jets.
        spread : float
            Largest ratio of the longest to the shortest jet in a block.
        pairs : int
            Largest number of pairs of slots per block, unless a single jet has more.
        short : int
            Length up to which jets share a block regardless of `spread`. With ``short=1`` and
            ``spread=1.0`` no slot is empty.
        """
        bounds = ptr.cpu().numpy()
        counts = np.diff(bounds)
        order = np.argsort(-counts, kind="stable")
        groups = list(_similar(order, counts[order], spread, pairs, short))
        shapes = [(len(jets), int(counts[jets[0]])) for jets in groups]
        slots = np.empty(sum(b * size for b, size in shapes), dtype=np.int64)
        blocks = []
        position = np.empty(bounds[-1], dtype=np.int64)
        first = 0
        for jets, shape in zip(groups, shapes, strict=True):
            slot = np.arange(shape[1])
            mask = slot < counts[jets][:, None]
            index = slots[first : first + mask.size].reshape(shape)  # a view
            np.add(bounds[jets][:, None], np.where(mask, slot, 0), out=index)
            position[index[mask]] = first + np.flatnonzero(mask)
            first += mask.size
            blocks.append(
                DenseBlock(
                    torch.from_numpy(jets),
                    torch.from_numpy(index),
                    torch.from_numpy(mask),
                    bool(mask.all()),
                )
            )
        batch = np.repeat(np.arange(len(counts)), counts)
        host = cls(
            torch.from_numpy(batch),
            torch.from_numpy(bounds),
            torch.from_numpy(counts),
            tuple(blocks),
            torch.from_numpy(position),
            int((counts * (counts + 1)).sum() // 2),
            slots=torch.from_numpy(slots),
        )
        return host if ptr.device.type == "cpu" else host.to(ptr.device, non_blocking=True)

    @classmethod
    @torch.compiler.disable
    @outside_transforms
    def from_batch(cls, batch: Tensor, num_jets: int | None = None) -> RaggedLayout:
        """Layout of particles with sorted jet indices ``batch (N,)``.

        Parameters
        ----------
        batch : Tensor, shape (N,)
            Jet of each particle, sorted.
        num_jets : int, optional
            Number of jets, needed if the last ones can be empty; the default is ``batch[-1] + 1``.

        Raises
        ------
        ValueError
            If `batch` is not sorted or contains an index of `num_jets` or more.
        """
        host = batch.cpu().numpy()
        if (np.diff(host) < 0).any():
            raise ValueError("batch must be sorted: the particles of a jet must be consecutive")
        counts = np.bincount(host, minlength=num_jets or 0)
        if num_jets is not None and len(counts) > num_jets:
            raise ValueError(f"batch contains jet {len(counts) - 1}, but there are {num_jets} jets")
        ptr = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))
        layout = cls.from_ptr(ptr)
        return layout if batch.device.type == "cpu" else layout.to(batch.device, non_blocking=True)

    @classmethod
    def of_one_jet(
        cls, particles: int, empty: int = 0, device: torch.device | str = "cpu"
    ) -> RaggedLayout:
        """Layout of a single jet with `empty` slots after its particles; without synchronisation."""
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

    @classmethod
    def of_padded(cls, counts: Tensor, row_length: int, empty: int = 0) -> RaggedLayout:
        """Layout of padded jets, which are not compacted, by tensor operations only.

        The rows of a jet are its particles and then padding. Padding belongs to a further jet after
        the last, so that it has no effect on the others. That jet is in no block, and its rows have
        the places of empty slots.

        Parameters
        ----------
        counts : Tensor, shape (B,)
            Number of particles of each jet, less than `row_length`.
        row_length : int
            Number of rows of each jet R.
        empty : int
            Empty slots of each jet beyond its rows, for neighbour searches only.
        """
        num_jets = counts.shape[0]
        jet = torch.arange(num_jets, device=counts.device)
        row = torch.arange(row_length, device=counts.device)
        first = (row_length * jet).unsqueeze(1)  # (B, 1)
        mask = row < counts.unsqueeze(1)  # (B, R)
        batch = torch.where(mask, jet.unsqueeze(1), num_jets)
        position = first + row
        padding = (row_length - counts).sum().unsqueeze(0)
        total = first.new_zeros(1) + num_jets * row_length
        return cls(
            batch.flatten(),
            torch.cat([first.flatten(), total - 1, total]),  # the last row is padding
            torch.cat([counts, padding]),
            (DenseBlock(jet, first + torch.where(mask, row, 0), mask, False),),
            position.flatten(),
            num_jets * (row_length * (row_length + 1) // 2),
            row_length=row_length,
            spare_slots=empty,
        )

    def with_jet_p4(self, jet_p4: Tensor | None) -> RaggedLayout:
        """Layout of the same jets with stored momenta ``jet_p4 (B, 4)`` in GeV."""
        return replace(self, jet_p4=jet_p4)

    def with_u(self, u: Tensor | None) -> RaggedLayout:
        """Layout that carries the features ``u (B, G)`` of the jets; itself if there are none."""
        return self if u is None else replace(self, u=u)

    def with_rows(
        self,
        *,
        u: Tensor | None = None,
        pos: Tensor | None = None,
        collection: Tensor | None = None,
    ) -> RaggedLayout:
        """Layout of the same jets with features of jets, and positions and collections of rows."""
        return replace(self, u=u, pos=pos, collection=collection)

    def gather(self, x: Tensor) -> list[Tensor]:
        """Values of the slots of all blocks, one tensor (b, P, ...) each, from flat ``x (N, ...)``.

        All blocks are gathered in one operation: otherwise the gradient of each block would be a
        tensor of the size of `x`.
        """
        if not self.blocks:
            return []
        shapes = [block.index.shape for block in self.blocks]
        index = self.slots
        if index is None:
            index = torch.cat([block.index.flatten() for block in self.blocks])
        parts = x.index_select(0, index).split([shape.numel() for shape in shapes])
        return [p.view(*shape, *x.shape[1:]) for p, shape in zip(parts, shapes, strict=True)]

    def flatten(self, dense: Sequence[Tensor]) -> Tensor:
        """Flat tensor (N, ...) from one tensor (b, P, ...) per block; the inverse of :meth:`gather`."""
        slots = [block.flatten(0, 1) for block in dense]
        joined = slots[0] if len(slots) == 1 else torch.cat(slots)
        return joined.index_select(0, self.position)


def _similar(
    order: np.ndarray, counts: np.ndarray, spread: float, pairs: int, short: int
) -> Iterator[np.ndarray]:
    """Split jets, sorted by decreasing `counts`, into groups of similar length without empty jets."""
    start = 0
    stop = int(np.searchsorted(-counts, 0))
    while start < stop:
        longest = int(counts[start])
        shortest = 1 if longest <= short else max(longest / spread, short)
        similar = int(np.searchsorted(-counts, -shortest, side="right"))
        end = min(similar, start + max(1, pairs // longest**2), stop)
        yield order[start:end]
        start = end


def as_layout(batch: Tensor | None, layout: RaggedLayout | None, particles: Tensor) -> RaggedLayout:
    """`layout` if given, else the layout of ``batch (N,)``; None is one jet of all `particles`.

    Parameters
    ----------
    batch : Tensor, shape (N,), or None
        Jet of each particle, sorted. Without it and without `layout`, all particles are one jet.
    layout : RaggedLayout, optional
        Layout of the batch.
    particles : Tensor, shape (N, ...)
        Features or momenta of the particles.

    Examples
    --------
    >>> as_layout(torch.tensor([0, 0, 1]), None, torch.zeros(3, 4)).ptr
    tensor([0, 2, 3])
    """
    if layout is not None:
        return layout
    if batch is None:
        return RaggedLayout.from_ptr(torch.tensor([0, len(particles)])).to(particles.device)
    return RaggedLayout.from_batch(batch)
