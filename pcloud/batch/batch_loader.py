"""Position of a loader of batches, from which another process can continue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sized
from typing import Any

from torch_geometric.data import Batch

from pcloud.errors import InputError
from pcloud.memory import reuse_memory

__all__ = ["BatchLoader"]


class BatchLoader(ABC):
    """Iterable over the batches of an epoch, which continues where another one was stopped.

    Parameters
    ----------
    data : Sized
        Jets.
    batch_size : int
        Jets per batch, of all processes together.
    shuffle : bool
        If True, the order of the jets is another one in every epoch.
    seed : int
        Seed of the order.
    drop_last : bool
        If True, the number of batches is rounded down.
    pin_memory : bool
        If True, batches are in page-locked memory, for asynchronous copies to a GPU.
    rank, world : int
        Number of this process, and of all processes that train together.

    Raises
    ------
    InputError
        If `batch_size` is not positive.
    """

    data: Sized

    def __init__(
        self,
        data: Sized,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        pin_memory: bool,
        rank: int,
        world: int,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        self.data = data
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.pin_memory = pin_memory
        self.rank = rank
        self.world = world
        self.epoch = 0
        self._first = 0  # first batch of the next iteration: 0 unless continued
        self._next = 0  # next batch

    @abstractmethod
    def batches(self, first: int) -> Iterator[Batch]:
        """Batches of this process in the present epoch, from the number `first` on."""

    def __len__(self) -> int:
        num_jets = len(self.data)
        return num_jets // self.batch_size if self.drop_last else -(-num_jets // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        reuse_memory()
        first = self._first
        self._first = 0
        for number, batch in enumerate(self.batches(first), first):
            self._next = number + 1
            yield batch.pin_memory() if self.pin_memory else batch
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Start with the first batch of `epoch`."""
        self.epoch = epoch
        self._first = 0
        self._next = 0

    def state_dict(self) -> dict[str, Any]:
        """Position of the loader: the epoch and the next batch."""
        return {"epoch": self.epoch, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the position `state`, which can be in the middle of an epoch."""
        self.epoch = state["epoch"]
        self._first = state["next"]
        self._next = state["next"]
