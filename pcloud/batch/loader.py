"""Loader of batches of jets, without a Python loop over jets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset
from torch_geometric.data import Batch

from pcloud.batch.batch_loader import BatchLoader
from pcloud.batch.collate import collate
from pcloud.batch.dataset import JetDataset
from pcloud.errors import InputError
from pcloud.text_tables import html_table
from pcloud.words import number_of

__all__ = ["JetLoader"]


class JetLoader(BatchLoader):
    """Loader of batches of a :class:`JetDataset`, without a Python loop over jets.

    The batches are PyG ``Batch`` objects with ``x``, ``p4``, ``y``, ``batch`` and ``ptr``. With
    `shuffle`, every epoch is an exact permutation of all jets, which depends only on `seed` and on
    the epoch. The loader can be stopped after any batch and continued in another process with
    :meth:`state_dict` and :meth:`load_state_dict`.

    Parameters
    ----------
    data : JetDataset
        Jets; also the result of `random_split`, `Subset` or `ConcatDataset` of
        ``torch.utils.data`` for such data sets.
    batch_size : int
        Jets per batch.
    shuffle : bool
        If True, the jets are permuted in every epoch.
    seed : int
        Seed of the permutations.
    drop_last : bool
        If True, an incomplete last batch is omitted.
    pin_memory : bool
        If True, batches are in page-locked memory, for asynchronous copies to a GPU.
    rank, world : int
        Number of this process, and of all processes that train together: each takes its part of
        every batch, every `world`-th jet.
    batch_particles : int, optional
        Largest number of particles in a batch, of all processes together, for clouds of very
        different or large sizes. An epoch is then divided into equally many batches every time, all
        with about as many particles; `batch_size` is the mean number of jets at most.

    Raises
    ------
    InputError
        If `batch_size` is not positive, `data` are not jets, or a jet has more than
        `batch_particles`.

    Examples
    --------
    >>> data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:5])
    >>> [batch.num_graphs for batch in JetLoader(data, batch_size=2)]
    [2, 2, 1]
    """

    data: JetDataset

    def __init__(
        self,
        data: JetDataset | Subset | ConcatDataset,
        batch_size: int = 512,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        pin_memory: bool = False,
        rank: int = 0,
        world: int = 1,
        batch_particles: int | None = None,
    ) -> None:
        jets = self.as_dataset(data)
        super().__init__(jets, batch_size, shuffle, seed, drop_last, pin_memory, rank, world)
        self.batch_particles = batch_particles
        if batch_particles is not None:
            self._num_batches = _batches_of_particles(jets.ptr, batch_size, batch_particles)

    def __len__(self) -> int:
        return super().__len__() if self.batch_particles is None else self._num_batches

    def as_dataset(self, data: Any) -> JetDataset:
        """Convert a `Subset` or `ConcatDataset` of jets to a :class:`JetDataset`."""
        if isinstance(data, Subset):
            return self.as_dataset(data.dataset)[list(data.indices)]
        if isinstance(data, ConcatDataset):
            return JetDataset.concatenate([self.as_dataset(part) for part in data.datasets])
        if not isinstance(data, JetDataset):
            raise InputError(
                f"JetLoader takes a JetDataset, or a Subset or ConcatDataset of some, not "
                f"{type(data).__name__}; torch_geometric.loader.DataLoader takes any list of Data"
            )
        return data

    @property
    def dataset(self) -> JetDataset:
        """Data set, under the name that the loaders of PyTorch use."""
        return self.data

    def __repr__(self) -> str:
        batches, order, position = (value for _, value in self._summary())
        return f"JetLoader({batches}, {order}; at {position})"

    def _repr_html_(self) -> str:
        return html_table([["JetLoader", ""], *map(list, self._summary())])

    def _summary(self) -> list[tuple[str, str]]:
        """Names and values that describe the loader."""
        jets = number_of(self.batch_size, "jet")
        order = f"shuffled with seed {self.seed}" if self.shuffle else "in the order of the data"
        return [
            ("batches", f"{len(self):,} batches of {jets} out of {len(self.data):,}"),
            ("order", order),
            ("position", f"epoch {self.epoch}, batch {self._next}"),
        ]

    def batches(self, first: int) -> Iterator[Batch]:
        """Batches of this process in the present epoch, from the number `first` on."""
        order = self._order()
        cuts = self._cuts(order)
        for start, stop in itertools.pairwise(cuts[first:]):
            jet_indices = order[start:stop][self.rank :: self.world]
            if len(jet_indices):  # the last batch can have fewer jets than there are processes
                yield self.collate(jet_indices)

    def collate(self, jets: Tensor) -> Batch:
        """Batch of the jets with the given indices (B,)."""
        return collate(self.data, jets)

    def _cuts(self, order: Tensor) -> list[int]:
        """Places in the `order` of the jets at which a batch begins, and where the last one ends."""
        number = len(self)
        if self.batch_particles is None:
            return [self.batch_size * i for i in range(number + 1)]
        ends = self.data.ptr.diff()[order].cumsum(0)
        wanted = ends[-1] * torch.arange(1, number) // number
        cuts = [0]
        for i, cut in enumerate(torch.searchsorted(ends, wanted).tolist(), 1):
            # no batch is empty, and enough jets are left for the batches that follow
            cuts.append(min(max(cut, cuts[-1] + 1), len(order) - number + i))
        return [*cuts, len(order)]

    def _order(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(len(self.data))
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)) % 2**63)
        return torch.randperm(len(self.data), generator=generator)


def _batches_of_particles(ptr: Tensor, batch_size: int, batch_particles: int) -> int:
    """Number of batches, so many that none has more than `batch_particles` in any order of the jets."""
    counts = ptr.diff()
    longest, jets, total = int(counts.max()), len(counts), int(ptr[-1])
    if longest > batch_particles:
        raise InputError(
            f"batch_particles is {batch_particles:,}, and a jet has {longest:,} particles: it must be "
            "at least that"
        )
    # A batch has less than one jet more than its share of the particles.
    share = batch_particles - longest + 1
    return min(jets, max(-(-jets // batch_size), -(-total // share)))
