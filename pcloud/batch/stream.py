"""Jets that are read from the row groups of their files in every epoch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from pcloud.batch.dataset import JetDataset
from pcloud.errors import InputError
from pcloud.features import FeatureSet
from pcloud.io.jets import FlatJets
from pcloud.io.load import JetReader
from pcloud.io.read import JetFiles
from pcloud.keys import SPLIT_KEY, Keys, in_split, shuffled

__all__ = ["JetStream", "Membership", "RowGroup", "RowGroupReader", "key_sum"]

_MAX_OPEN_FILES = 32


@dataclass(frozen=True)
class RowGroup:
    """Jets of a row group of a file.

    Parameters
    ----------
    file : int
        Index of the file.
    start, stop : int
        Rows in the file.
    jets : int
        Number of jets of the split.
    keys : int
        Sum of the keys of all jets modulo 2^64, by which changes are noticed.
    """

    file: int
    start: int
    stop: int
    jets: int
    keys: int


@dataclass(frozen=True)
class Membership:
    """Condition on the key of a jet for being in a split and in its subsample.

    Parameters
    ----------
    split, fractions, seed, test
        As for :func:`pcloud.keys.in_split`.
    bound : int
        Largest random number of a jet that is drawn.
    """

    split: str
    fractions: Mapping[str, float]
    seed: int
    test: tuple[int, int] | None = None
    bound: int = 2**64 - 1

    def __call__(self, keys: Keys) -> np.ndarray:
        """Mask (B,) of the jets with these keys."""
        mask = np.ones(len(keys), dtype=bool)
        if len(self.fractions) > 1:
            mask = in_split(keys, self.split, self.fractions, self.seed, self.test)
        if self.bound < 2**64 - 1:
            mask &= shuffled(keys, "draw", self.seed) <= np.uint64(self.bound)
        return mask


class RowGroupReader:
    """Reader of row groups of many files, in any process.

    Parameters
    ----------
    files : callable
        Function without arguments that opens the files, which can be pickled.
    """

    def __init__(self, files: Callable[[], JetFiles]) -> None:
        self._make = files
        self._files: JetFiles | None = None
        self._readers: OrderedDict[int, JetReader] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_files": None, "_readers": OrderedDict()}

    @property
    def files(self) -> JetFiles:
        """The files; their first one is opened when they are asked for."""
        if self._files is None:
            self._files = self._make()
        return self._files

    def read(self, file: int, start: int, stop: int) -> tuple[FlatJets, dict[str, int]]:
        """Good jets of a range of rows, with their keys, and the numbers of bad jets by reason."""
        if file not in self._readers:
            if len(self._readers) >= _MAX_OPEN_FILES:
                self._readers.popitem(last=False)[1].close()
            self._readers[file] = self.files.reader(file)
        self._readers.move_to_end(file)
        return self.files.read_group(self._readers[file], file, start, stop)


@dataclass
class JetStream:
    """Jets in the row groups of files, of which only some are in memory at a time.

    The tensors with one row per jet are those of all jets, in the order of the files; particles and
    features are read by :class:`~pcloud.batch.stream_loader.StreamLoader`.

    Parameters
    ----------
    reader : RowGroupReader
        Reader of the files.
    groups : list of RowGroup
        Row groups with jets of the split.
    member : Membership
        Condition for the jets of the split.
    feature_set : FeatureSet
        Features of the jets.
    y, weight, targets, teacher : Tensor or None
        As of :class:`~pcloud.JetDataset`.
    classes : list of str or None
        Names of the classes, if known.
    """

    reader: RowGroupReader
    groups: Sequence[RowGroup]
    member: Membership
    feature_set: FeatureSet
    y: Tensor | None = None
    weight: Tensor | None = None
    targets: Tensor | None = None
    classes: list[str] | None = None
    teacher: Tensor | None = None
    starts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        jets = [group.jets for group in self.groups]
        self.starts = np.concatenate([[0], np.cumsum(jets)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __repr__(self) -> str:
        files = len({group.file for group in self.groups})
        return (
            f"JetStream({len(self):,} jets in {len(self.groups):,} row groups of {files:,} files)"
        )

    def set_weights(self, weights: Tensor) -> None:
        """Replace the weights (B,) of the jets."""
        self.weight = weights

    def set_targets(self, targets: Tensor) -> None:
        """Replace the targets (B, T) of the jets."""
        self.targets = targets

    def to_bytes(self) -> bytes:
        """Labels of the jets as bytes, for a checksum."""
        return b"" if self.y is None else self.y.numpy().tobytes()

    def load(self, group: int, start: int = 0, stop: int | None = None) -> JetDataset:
        """Jets `start` to `stop` of a row group, with their features.

        Raises
        ------
        InputError
            If the file has changed since the start, or a feature is not finite.
        """
        about = self.groups[group]
        stop = about.jets if stop is None else stop
        jets, _ = self.reader.read(about.file, about.start, about.stop)
        keys = jets.jet[SPLIT_KEY]
        mask = self.member(keys)
        path = self.reader.files.paths[about.file]
        if mask.sum() != about.jets or key_sum(keys) != about.keys:
            raise InputError(
                f"{path}: rows {about.start} to {about.stop} have changed since the start"
            )
        jets = (jets if mask.all() else jets.select(mask)).slice(start, stop)
        records = self.reader.files.to_awkward(jets)
        data = JetDataset(records, self.feature_set, is_checked=True)
        # a finite sum takes a tenth of the time to find
        if not bool(data.x.sum().isfinite() or data.x.isfinite().all()):
            raise InputError(
                f"{path}: features of rows {about.start} to {about.stop} are NaN or infinite; take "
                "where(isfinite(...), ..., 0)"
            )
        data.order = None
        own = slice(int(self.starts[group]) + start, int(self.starts[group]) + stop)
        for name in ("weight", "targets", "teacher"):
            values = getattr(self, name)
            setattr(data, name, None if values is None else values[own])
        return data

    def without_labels(self) -> JetStream:
        """Copy for a process that reads: labels are in the files, too."""
        return replace(self, y=None)


def key_sum(keys: Keys) -> int:
    """Sum of keys modulo 2^64."""
    return int(keys.sum(dtype=np.uint64))
