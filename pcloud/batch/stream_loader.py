"""Loader of batches of a stream of jets, shuffled as far as the classes of a batch can tell.

The jets of a file are taken in the order of its row groups, which are permuted in every epoch, and
those of a *window* of row groups are permuted among themselves. The file of each jet is drawn from
an *urn*: a permutation of the names of the files, each as often as the file has jets. If every file
is of one class, or well mixed, the fractions of the classes in a batch fluctuate exactly as in a
permutation of all jets, whatever the sizes of the files.
"""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch_geometric.data import Batch

from pcloud.batch.batch_loader import BatchLoader
from pcloud.batch.collate import collate
from pcloud.batch.dataset import JetDataset
from pcloud.batch.stream import JetStream
from pcloud.errors import InputError

__all__ = ["StreamLoader"]

_WINDOW_JETS = 50_000  # of all sources: some 100 MB
_MAX_HELD_JETS = 200_000  # of the row groups of all sources that are in memory at a time
_MAX_SOURCES = 64
_BLOCK_JETS = 8_192  # gathered at a time and divided into batches
_CONTEXT = "spawn" if sys.platform == "win32" else "forkserver"


class StreamLoader(BatchLoader):
    """Loader of batches of a :class:`~pcloud.batch.stream.JetStream`.

    Every jet is in one batch of an epoch. The jets are divided into as many batches as there are
    full ones, which are larger by less than one jet in `batch_size`, so that no last batch is small.
    The order depends on the seed, the epoch, and the number of shards: processes (`world`) times
    `workers`. The position is (epoch, batch).

    Parameters
    ----------
    data : JetStream
        Jets.
    batch_size : int
        Jets per batch, of all processes together.
    shuffle : bool
        If False, the jets come in the order of the files.
    seed : int
        Seed of the order.
    drop_last : bool
        If True, the number of batches is rounded down.
    pin_memory : bool
        If True, batches are in page-locked memory.
    workers : int
        Number of processes that read, beside this one. With 0, this one reads.
    rank, world : int
        Number of this process, and of all processes that train together.
    """

    data: JetStream

    def __init__(
        self,
        data: JetStream,
        batch_size: int = 512,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        pin_memory: bool = False,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(data, batch_size, shuffle, seed, drop_last, pin_memory, rank, world)
        self.workers = workers
        self._sources = _sources(data)

    @property
    def dataset(self) -> JetStream:
        """Data set, under the name that the loaders of PyTorch use."""
        return self.data

    def batches(self, first: int) -> Iterator[Batch]:
        """Batches of this process in the present epoch, from the number `first` on."""
        workers = min(self.workers, len(self))
        if workers == 0:
            yield from self.shard(0, 1, first)
            return
        context = multiprocessing.get_context(_CONTEXT)
        if _CONTEXT == "forkserver":
            context.set_forkserver_preload([__name__])
        loader = DataLoader(
            _Worker(self, first),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=context,
            worker_init_fn=_ignore_interrupts,
        )
        for batch in loader:
            if isinstance(batch, str):
                raise InputError(batch)
            yield batch

    def shard(self, worker: int, workers: int, first: int) -> Iterator[Batch]:
        """Batches of one of the `workers` of this process, whose numbers are at least `first`."""
        numbers = range(worker, len(self), workers)
        shard, shards = self.rank * workers + worker, self.world * workers
        window = max(1, _WINDOW_JETS // len(self._sources))
        parts = [
            _Part(
                self.data, source, (shard, shards), self._rng(f"source {i}"), self.shuffle, window
            )
            for i, source in enumerate(self._sources)
        ]
        urn = np.repeat(np.arange(len(parts), dtype=np.uint16), [len(part) for part in parts])
        if self.shuffle:
            self._rng(f"urn {shard} of {shards}").shuffle(urn)
        cuts = len(urn) * np.arange(len(numbers) + 1) // max(1, len(numbers))
        batch = next((j for j, number in enumerate(numbers) if number >= first), len(numbers))
        taken = np.bincount(urn[: cuts[batch]], minlength=len(parts))
        for part, number in zip(parts, taken, strict=True):
            part.skip(int(number))
        while batch < len(numbers):
            last = int(np.searchsorted(cuts, cuts[batch] + _BLOCK_JETS, side="right")) - 1
            last = min(max(last, batch + 1), len(numbers))
            yield from _divided(parts, urn, cuts[batch : last + 1])
            batch = last

    def _rng(self, purpose: str) -> np.random.Generator:
        words = [self.seed, self.epoch, *purpose.encode()]
        return np.random.default_rng(words)


def _divided(parts: list[_Part], urn: np.ndarray, cuts: np.ndarray) -> Iterator[Batch]:
    """Batches between `cuts` of the urn, whose jets are gathered at once."""
    labels = urn[cuts[0] : cuts[-1]]
    numbers = np.bincount(labels, minlength=len(parts))
    taken = [
        data
        for part, number in zip(parts, numbers, strict=True)
        if number
        for data in part.take(int(number))
    ]
    block = taken[0] if len(taken) == 1 else JetDataset.concatenate(taken)
    place = np.empty(len(labels), dtype=np.int64)
    place[np.argsort(labels, kind="stable")] = np.arange(len(labels))
    order = torch.from_numpy(place)
    for start, stop in itertools.pairwise((cuts - cuts[0]).tolist()):
        yield collate(block, order[start:stop])


@dataclass(frozen=True)
class _Window:
    """Jets of several row groups that are permuted among themselves.

    Parameters
    ----------
    pieces : list of (int, int, int)
        Row group, first and last of its jets.
    """

    pieces: list[tuple[int, int, int]]

    def __len__(self) -> int:
        return sum(stop - start for _, start, stop in self.pieces)


class _Part:
    """The jets of one shard in one source: some files, whose row groups are read in turn.

    The row groups of the source are permuted, and each shard has a part of their sequence of jets:
    a row group at the border of two shards is read by both.
    """

    def __init__(
        self,
        data: JetStream,
        source: list[int],
        shard: tuple[int, int],
        rng: np.random.Generator,
        shuffle: bool,
        window: int,
    ) -> None:
        self._data = data
        self._shuffle = shuffle
        groups = rng.permutation(source) if shuffle else np.asarray(source)
        jets = np.array([data.groups[g].jets for g in groups])
        total = int(jets.sum())
        own, shards = shard
        first, last = (total * (own + i) // shards for i in (0, 1))
        self._num_jets = last - first
        self._windows = list(_windows(groups, jets, first, last, window))
        self._seeds = rng.integers(2**63, size=(shards, max(1, len(jets) + 1)))[own]
        self._next = 0  # window
        self._current: JetDataset | None = None
        self._order = torch.empty(0, dtype=torch.long)
        self._position = 0

    def __len__(self) -> int:
        return self._num_jets

    def skip(self, number: int) -> None:
        """Continue after `number` jets; windows before are not read."""
        while self._next < len(self._windows) and number >= len(self._windows[self._next]):
            number -= len(self._windows[self._next])
            self._next += 1
        if number:
            self._open()
            self._position = number

    def take(self, number: int) -> Iterator[JetDataset]:
        """The next `number` jets."""
        while number:
            if self._current is None or self._position == len(self._order):
                self._open()
            stop = min(self._position + number, len(self._order))
            assert self._current is not None
            chosen = self._order[self._position : stop]
            yield self._current[chosen]
            number -= len(chosen)
            self._position = stop

    def _open(self) -> None:
        self._current = None  # before the next window is read
        window = self._windows[self._next]
        parts = [self._data.load(*piece) for piece in window.pieces]
        self._current = parts[0] if len(parts) == 1 else JetDataset.concatenate(parts)
        self._order = torch.arange(len(self._current))
        if self._shuffle:
            rng = np.random.default_rng(int(self._seeds[self._next]))
            self._order = torch.from_numpy(rng.permutation(len(self._current)))
        self._position = 0
        self._next += 1


def _windows(
    groups: np.ndarray, jets: np.ndarray, first: int, last: int, size: int
) -> Iterator[_Window]:
    """Windows of at least `size` jets of the jets `first` to `last` of a sequence of row groups."""
    pieces: list[tuple[int, int, int]] = []
    number = 0
    begin = 0
    for group, count in zip(groups.tolist(), jets.tolist(), strict=True):
        start, stop = max(first - begin, 0), min(last - begin, count)
        begin += count
        if start >= stop:
            continue
        pieces.append((group, start, stop))
        number += stop - start
        if number >= size:
            yield _Window(pieces)
            pieces, number = [], 0
    if pieces:
        yield _Window(pieces)


def _sources(data: JetStream) -> list[list[int]]:
    """Row groups of each source: a file, or some files with the same classes if there are many."""
    of_file: dict[int, list[int]] = {}
    for i, group in enumerate(data.groups):
        of_file.setdefault(group.file, []).append(i)
    largest = max(group.stop - group.start for group in data.groups)
    limit = max(1, min(_MAX_SOURCES, _MAX_HELD_JETS // largest))
    if len(of_file) <= limit:
        return list(of_file.values())
    kinds: dict[Any, list[list[int]]] = {}
    for groups in of_file.values():
        kinds.setdefault(_kind(data, groups), []).append(groups)
    sources = []
    for files in kinds.values():
        number = max(1, min(len(files), limit * len(files) // len(of_file)))
        sources += [list(itertools.chain(*files[i::number])) for i in range(number)]
    return sources


def _kind(data: JetStream, groups: list[int]) -> int | None:
    """Class of all jets of some row groups; None if there are several, or none is known."""
    if data.y is None:
        return None
    labels = data.y[int(data.starts[groups[0]]) : int(data.starts[groups[-1] + 1])]
    return int(labels[0]) if bool((labels == labels[0]).all()) else None


class _Worker(IterableDataset):
    """Batches of a shard in a worker process; an input error is the last one, as text."""

    def __init__(self, loader: StreamLoader, first: int) -> None:
        self._loader = copy.copy(loader)
        self._loader.data = loader.data.without_labels()
        self._first = first

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        assert info is not None
        try:
            # the worker of the first batch is asked first
            worker = (self._first + info.id) % info.num_workers
            yield from self._loader.shard(worker, info.num_workers, self._first)
        except InputError as error:
            yield str(error)


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
