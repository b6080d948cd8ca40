"""Splits and draws by the keys of jets, from a stream of chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from pcloud.keys import Keys, in_split, shuffled, smallest
from pcloud.modality import Modality, Sample

__all__ = ["Collector", "HashCollector", "SampleCollector", "collect"]


class Collector(Protocol):
    """Consumer of the chunks of a source."""

    def add(self, chunk: Sample, keys: Keys) -> None:
        """Take what is needed of a chunk with the given keys (B,)."""


class SampleCollector:
    """Collects the entries of a split, or those of them that are drawn.

    An entry is drawn if the random number from its key is among the smallest of the split: the draw
    depends neither on the chunks nor on the order of files. At most the drawn entries and one chunk
    are held in memory.

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
    """

    def __init__(
        self,
        modality: Modality,
        split: str,
        fractions: Mapping[str, float],
        limit: int | None,
        seed: int,
    ) -> None:
        self._modality = modality
        self._split = split
        self._fractions = fractions
        self._limit = limit
        self._seed = seed
        self._parts: list[Sample] = []
        self._numbers = np.empty(0, dtype=np.uint64)
        self._bound = np.uint64(2**64 - 1)  # of the numbers of entries that can still be drawn
        self._num_pending = 0

    def add(self, chunk: Sample, keys: Keys) -> None:
        """Take the entries of the split from a chunk."""
        if not self._parts:
            self._parts = [chunk[:0]]  # has the types, if no entry is chosen
        chosen = _mask(keys, self._split, self._fractions, self._seed)
        if self._limit is None:
            self._append(chunk, chosen)
            return
        numbers = shuffled(keys, "draw", self._seed)
        chosen &= numbers <= self._bound
        self._append(chunk, chosen)
        self._numbers = np.concatenate([self._numbers, numbers[chosen]])
        self._num_pending += int(chosen.sum())
        if len(self._numbers) > self._limit and self._num_pending > self._limit // 2:
            self._draw()

    def sample(self) -> Sample:
        """Collected entries, in the order of the source."""
        if self._limit is not None and len(self._numbers) > self._limit:
            self._draw()
        return self._merged()

    def _append(self, chunk: Sample, chosen: np.ndarray) -> None:
        if chosen.all():
            self._parts.append(chunk)
        elif chosen.any():
            self._parts.append(self._packed(chunk[np.flatnonzero(chosen)]))

    def _draw(self) -> None:
        """Keep the entries with the smallest numbers."""
        assert self._limit is not None
        sample = self._merged()
        chosen = smallest(
            self._numbers, self._limit, lambda tied: self._modality.hashes(sample[tied])
        )
        self._parts = [self._packed(sample[chosen])]
        self._numbers = self._numbers[chosen]
        self._bound = self._numbers.max()
        self._num_pending = 0

    def _packed(self, sample: Sample) -> Sample:
        """Return the sample without the memory of entries that were left out."""
        return self._modality.concatenate([sample])

    def _merged(self) -> Sample:
        parts = [part for part in self._parts if len(part)] or self._parts[:1]
        return self._modality.concatenate(parts)


class HashCollector:
    """Collects the hashes of the entries of a split, for its fingerprint.

    Parameters
    ----------
    modality : Modality
        Kind of data.
    split, fractions, seed
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
    ) -> None:
        self._modality = modality
        self._split = split
        self._fractions = fractions
        self._seed = seed
        self._columns = columns
        self._hashes = [np.empty(0, dtype=np.uint64)]

    def add(self, chunk: Sample, keys: Keys) -> None:
        """Hash the entries of the split in a chunk."""
        chosen = np.flatnonzero(_mask(keys, self._split, self._fractions, self._seed))
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
    return number


def _mask(keys: Keys, split: str, fractions: Mapping[str, float], seed: int) -> np.ndarray:
    if len(fractions) == 1:
        return np.ones(len(keys), dtype=bool)
    return in_split(keys, split, fractions, seed)
