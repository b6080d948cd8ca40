"""Splits and draws by the keys of jets, from a stream of chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from pcloud.keys import Keys, in_split, shuffled, smallest
from pcloud.modality import Accumulator, Modality, Sample
from pcloud.storage import MEMORY, Storage

__all__ = [
    "Collector",
    "HashCollector",
    "SampleCollector",
    "collect",
    "rechunk",
    "select_split",
]

_COPIED_ENTRIES = 20_000  # in memory at a time when entries in files are drawn


class Collector(Protocol):
    """Consumer of the chunks of a source."""

    def add(self, chunk: Sample, keys: Keys) -> None:
        """Take what is needed of a chunk with the given keys (B,)."""


class SampleCollector:
    """Collects the entries of a split, or those of them that are drawn.

    An entry is drawn if the random number from its key is among the smallest of the split: the draw
    depends neither on the chunks nor on the order of files. At most twice `limit` entries and one
    chunk are held in memory.

    Parameters
    ----------
    modality : Modality
        Kind of data.
    split : str
        Name of the split.
    fractions : mapping of str to float
        Fractions of the splits of the source; ``{"train": 1.0}`` takes all entries.
    limit : int, optional
        Maximum number of entries.
    seed : int
        Seed of the split and of the draw.
    num_entries : int
        Approximate number of entries of the source, for which memory can be reserved.
    test : tuple of int, optional
        Range of the random numbers of the test split, see :func:`pcloud.keys.in_split`.
    storage : Storage
        Place of the entries.
    """

    def __init__(
        self,
        modality: Modality,
        split: str,
        fractions: Mapping[str, float],
        limit: int | None,
        seed: int,
        num_entries: int = 0,
        test: tuple[int, int] | None = None,
        storage: Storage = MEMORY,
    ) -> None:
        self._modality = modality
        self._split = split
        self._fractions = fractions
        self._limit = limit
        self._seed = seed
        self._test = test
        reserved = round(fractions.get(split, 1.0) * num_entries)
        self._num_reserved = reserved if limit is None else min(reserved, 2 * limit)
        self._storage = storage
        self._entries = self._accumulator()
        self._numbers = np.empty(0, dtype=np.uint64)
        self._bound = np.uint64(2**64 - 1)  # of the numbers of entries that can still be drawn
        self._num_pending = 0

    def add(self, chunk: Sample, keys: Keys) -> None:
        """Take the entries of the split from a chunk."""
        chosen = _mask(keys, self._split, self._fractions, self._seed, self._test)
        if self._limit is None:
            self._entries.append(_chosen(chunk, chosen))
            return
        numbers = shuffled(keys, "draw", self._seed)
        chosen &= numbers <= self._bound
        self._entries.append(_chosen(chunk, chosen))
        self._numbers = np.concatenate([self._numbers, numbers[chosen]])
        self._num_pending += int(chosen.sum())
        if len(self._numbers) > self._limit and self._num_pending > self._limit // 2:
            self._draw()

    def sample(self) -> Sample:
        """Collected entries, in the order of the source."""
        if self._limit is not None and len(self._numbers) > self._limit:
            self._draw()
        return self._entries.finish()

    def _accumulator(self) -> Accumulator:
        if self._storage is MEMORY:
            return self._modality.accumulator(self._num_reserved)
        return self._modality.accumulator(self._num_reserved, storage=self._storage)  # type: ignore[call-arg]

    def _draw(self) -> None:
        """Keep the entries with the smallest numbers."""
        assert self._limit is not None
        sample = self._entries.finish()
        chosen = smallest(
            self._numbers, self._limit, lambda tied: self._modality.hashes(sample[tied])
        )
        self._entries = self._accumulator()
        step = len(chosen) if self._storage is MEMORY else _COPIED_ENTRIES
        for start in range(0, len(chosen), step):
            self._entries.append(sample[chosen[start : start + step]])
        self._numbers = self._numbers[chosen]
        self._bound = self._numbers.max()
        self._num_pending = 0


class HashCollector:
    """Collects the hashes of the entries of a split, for its fingerprint.

    Parameters
    ----------
    modality : Modality
        Kind of data.
    split, fractions, seed, test
        As for `SampleCollector`.
    columns : sequence of str
        Columns that are used, see :meth:`~pcloud.modality.Modality.hashes`.
    """

    def __init__(
        self,
        modality: Modality,
        split: str,
        fractions: Mapping[str, float],
        seed: int,
        columns: Sequence[str],
        test: tuple[int, int] | None = None,
    ) -> None:
        self._modality = modality
        self.split = split
        self._fractions = fractions
        self._seed = seed
        self._test = test
        self._columns = columns
        self._hashes = [np.empty(0, dtype=np.uint64)]

    def add(self, chunk: Sample, keys: Keys) -> None:
        """Hash the entries of the split in a chunk."""
        mask = _mask(keys, self.split, self._fractions, self._seed, self._test)
        chosen = np.flatnonzero(mask)
        self._hashes.append(self._modality.hashes(chunk[chosen], self._columns))

    @property
    def hashes(self) -> Keys:
        """Hashes (B,) in the order of the source."""
        return np.concatenate(self._hashes)


def collect(modality: Modality, chunks: Iterable[Sample], collectors: Iterable[Collector]) -> int:
    """Read a source once for several collectors; return the number of entries."""
    collectors = list(collectors)
    number = 0
    for chunk in chunks:
        keys = modality.keys(chunk)
        for collector in collectors:
            collector.add(chunk, keys)
        number += len(chunk)
        del chunk  # before the next one is read
    return number


def select_split(
    modality: Modality,
    chunks: Iterable[Sample],
    split: str,
    fractions: Mapping[str, float],
    seed: int,
    test: tuple[int, int] | None = None,
) -> Iterator[Sample]:
    """Entries of a split in each chunk."""
    for chunk in chunks:
        yield _chosen(chunk, _mask(modality.keys(chunk), split, fractions, seed, test))
        del chunk


def rechunk(modality: Modality, chunks: Iterable[Sample], size: int) -> Iterator[Sample]:
    """Chunks of `size` entries from chunks of any size; the last can be smaller.

    There is at least one, which is empty if all others are.
    """
    entries = modality.accumulator(size)
    number = 0
    is_first = True
    for chunk in chunks:
        start = 0
        while start < len(chunk) or start == 0:  # an empty chunk has the types
            part = chunk[start : start + size - number]
            entries.append(part)
            start += max(1, len(part))
            number += len(part)
            if number == size:
                yield entries.finish()
                entries = modality.accumulator(size)
                number = 0
                is_first = False
        del chunk, part
    if number or is_first:
        yield entries.finish()


def _chosen(chunk: Sample, chosen: np.ndarray) -> Sample:
    return chunk if chosen.all() else chunk[np.flatnonzero(chosen)]


def _mask(
    keys: Keys, split: str, fractions: Mapping[str, float], seed: int, test: tuple[int, int] | None
) -> np.ndarray:
    if len(fractions) == 1:
        return np.ones(len(keys), dtype=bool)
    return in_split(keys, split, fractions, seed, test)
