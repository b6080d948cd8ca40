"""Training jets that stay in their files: read once for what is known of all of them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from pcloud.batch.stream import JetStream, Membership, RowGroup, RowGroupReader, key_sum
from pcloud.errors import InputError
from pcloud.features import FeatureSet
from pcloud.io.check import BadJetWarning
from pcloud.keys import SPLIT_KEY, Keys, fingerprint_hashes, shuffled
from pcloud.modality import Sample, find_modality
from pcloud.training.config import TrainConfig
from pcloud.training.splits import Collector, HashCollector, SampleCollector

__all__ = ["StreamedJets", "index_stream"]

_FITTED_JETS = 10_000  # from all row groups, by which features are standardised and checked


@dataclass(frozen=True)
class StreamedJets:
    """Training jets in row groups of files, and those of their columns that are in memory.

    Attributes
    ----------
    reader : RowGroupReader
        Reader of the files.
    groups : list of RowGroup
        Row groups with training jets.
    member : Membership
        Condition for training jets.
    train : awkward.Array
        Columns per jet of all training jets, without particles.
    few : awkward.Array
        About 10 000 training jets from all row groups, whole.
    hashes : array, shape (B,), uint64
        Hashes of the training jets, for their fingerprint.
    val : awkward.Array or None
        Validation jets, if they are drawn from the same files.
    test : HashCollector or None
        Hashes of the test jets, if they are drawn from the same files.
    """

    reader: RowGroupReader
    groups: Sequence[RowGroup]
    member: Membership
    train: ak.Array
    few: ak.Array
    hashes: Keys
    val: Sample | None = None
    test: HashCollector | None = None

    def numbers(self, collectors: Mapping[str, Any]) -> dict[str, int]:
        """Number of jets of the other splits that are drawn from the same files."""
        found = {"val": len(self.val) if self.val is not None else 0}
        found["test"] = len(self.test.hashes) if self.test is not None else 0
        return {name: found[name] for name in collectors}

    def dataset(self, inputs: FeatureSet) -> JetStream:
        """Stream of the training jets."""
        jets = self.train
        return JetStream(
            self.reader,
            self.groups,
            self.member,
            inputs.for_jets(stored="jet_p4" in jets.fields),
            y=_column(jets, "label", np.int64),
            weight=_column(jets, "weight", np.float32),
            classes=jets.attrs.get("classes"),
        )


def _column(jets: ak.Array, name: str, dtype: Any) -> Tensor | None:
    if name not in jets.fields:
        return None
    return torch.from_numpy(np.array(jets[name], dtype=dtype))


def index_stream(
    config: TrainConfig,
    fractions: Mapping[str, float],
    columns: Sequence[str],
    collectors: Mapping[str, Collector],
) -> StreamedJets:
    """Read the files of the training jets once, one row group at a time.

    Parameters
    ----------
    config : TrainConfig
        Configuration.
    fractions : mapping of str to float
        Fractions of the splits that are drawn from these files.
    columns : sequence of str
        Columns of the fingerprint.
    collectors : mapping of str to Collector
        Collectors of the other splits, ``"val"`` and ``"test"``, for every row group.
    """
    clouds: Any = find_modality("cloud")
    options = config.inputs
    reader: RowGroupReader = clouds.row_groups(options.data, "train", options)
    member = Membership("train", fractions, options.split_seed, options.test_numbers)
    found = _Index(member, columns, reader.files.groups())
    for file, start, stop in found.ranges:
        flat, dropped = reader.read(file, start, stop)
        keys = flat.jet[SPLIT_KEY]
        jets = reader.files.to_awkward(flat)
        found.add(RowGroup(file, start, stop, 0, key_sum(keys)), jets, keys, dropped)
        for collector in collectors.values():
            collector.add(jets, keys)
        del jets
    found.draw(options.max_jets)
    found.warn(str(reader.files.paths[0]))
    val, test = collectors.get("val"), collectors.get("test")
    return StreamedJets(
        reader,
        found.groups,
        found.member,
        found.train(),
        ak.concatenate(found.few) if len(found.few) > 1 else found.few[0],
        found.all_hashes(),
        val.sample() if isinstance(val, SampleCollector) else None,
        test if isinstance(test, HashCollector) else None,
    )


class _Index:
    """Columns, hashes and keys of the training jets, held while their row groups are read."""

    def __init__(
        self, member: Membership, columns: Sequence[str], ranges: Sequence[tuple[int, int, int]]
    ) -> None:
        self.member = member
        self.columns = columns
        self.ranges = ranges
        self.groups: list[RowGroup] = []
        self.few: list[ak.Array] = []
        self._light: list[ak.Array] = []
        self._hashes: list[Keys] = []
        self._keys: list[Keys] = []
        self._dropped = Counter[str]()

    def add(self, group: RowGroup, jets: ak.Array, keys: Keys, dropped: Mapping[str, int]) -> None:
        rows = np.flatnonzero(self.member(keys))
        self._dropped.update(dropped)
        self.groups.append(RowGroup(group.file, group.start, group.stop, len(rows), group.keys))
        chosen = jets[rows]
        self._light.append(_without_particles(chosen))
        self._hashes.append(fingerprint_hashes(chosen, self.columns))
        self._keys.append(keys[rows])
        number = -(-_FITTED_JETS // len(self.ranges))
        few = ak.to_packed(chosen[:: max(1, len(rows) // number)][:number])
        if len(few) or not self.few:
            self.few.append(few)

    def draw(self, limit: int | None) -> None:
        """Leave at most `limit` training jets: those with the smallest random numbers."""
        numbers = [shuffled(keys, "draw", self.member.seed) for keys in self._keys]
        total = sum(map(len, numbers))
        if limit is None or total <= limit:
            return
        bound = int(np.partition(np.concatenate(numbers), limit - 1)[limit - 1])
        member = self.member
        self.member = Membership(member.split, member.fractions, member.seed, member.test, bound)
        kept = [np.flatnonzero(n <= np.uint64(bound)) for n in numbers]
        self._light = [part[rows] for part, rows in zip(self._light, kept, strict=True)]
        self._hashes = [part[rows] for part, rows in zip(self._hashes, kept, strict=True)]
        self.groups = [
            RowGroup(g.file, g.start, g.stop, len(rows), g.keys)
            for g, rows in zip(self.groups, kept, strict=True)
        ]

    def train(self) -> ak.Array:
        """Columns per jet of all training jets; row groups without any are left out."""
        if not self._light:
            raise InputError("the files have no row groups: there are no training jets")
        attrs = dict(self._light[0].attrs)
        jets = ak.concatenate(self._light) if len(self._light) > 1 else self._light[0]
        jets.attrs = attrs
        for few in self.few:
            few.attrs = attrs
        self.groups = [group for group in self.groups if group.jets]
        return jets

    def all_hashes(self) -> Keys:
        return np.concatenate(self._hashes)

    def warn(self, path: str) -> None:
        """Warn of the bad jets that are left out."""
        if self._dropped:
            reasons = "; ".join(f"{reason} ({n} jets)" for reason, n in self._dropped.items())
            warnings.warn(f"{path}: dropped bad jets: {reasons}", BadJetWarning, stacklevel=2)


def _without_particles(jets: ak.Array) -> ak.Array:
    """The columns per jet, and empty lists in the place of the others."""
    empty = np.zeros(len(jets), dtype=np.int64)
    fields = {
        # a copy: a view of no particles holds the memory of all of them
        name: ak.unflatten(ak.copy(ak.flatten(jets[name][:0], axis=1)), empty)
        if jets[name].ndim == 2
        else ak.to_packed(jets[name])
        for name in jets.fields
    }
    return ak.Array(ak.zip(fields, depth_limit=1), attrs=dict(jets.attrs))
