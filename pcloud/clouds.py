"""Jets, clouds of particles, as a kind of data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from pcloud.batch import JetDataset, JetLoader, batch_arguments
from pcloud.datasets import dataset_files, dataset_info, list_datasets, load_dataset
from pcloud.errors import UnknownNameError
from pcloud.features import FeatureSet, feature_set
from pcloud.io import count_jets, iter_jets, read_jets
from pcloud.modality import DataOptions, Modality, Source, register_modality
from pcloud.particle_types import available_columns

__all__ = ["Clouds"]


class Clouds(Modality[ak.Array, FeatureSet, JetDataset]):
    """Jets from data sets by name, or from files."""

    kind = "cloud"
    noun = "jets"
    first_argument = "x"
    sample_type = ak.Array
    has_momenta = True

    def own_splits(self, source: Source) -> tuple[str, ...]:
        """Splits of a data set; none of files."""
        return ("train", "val", "test") if _is_dataset(source) else ()

    def load(
        self, source: Source, split: str, options: DataOptions, limit: int | None = None
    ) -> ak.Array:
        """Read the jets of a data set by name, or of files."""
        schema = options.schema
        if isinstance(source, str) and _is_dataset(source):
            info = dataset_info(source)
            if info.load is not None:
                return self.subsample(load_dataset(source, split), limit, options.split_seed)
            source = [str(file) for file in dataset_files(source, split, options.data_root)]
            schema = info.schema
        reading: dict[str, Any] = {
            "on_bad_jet": options.on_bad_jet,
            "check_units": options.check_units,
        }
        if limit is None:
            return read_jets(source, schema, **reading)
        return _draw(iter_jets(source, schema, **reading), limit, options.split_seed)

    def stream(
        self, source: Source, *, chunk_size: int, **reading: Any
    ) -> tuple[int, Iterable[ak.Array]]:
        """Number of jets of files, and the jets in chunks."""
        number = count_jets(source, reading.get("schema"))
        return number, iter_jets(source, chunk_size=chunk_size, **reading)

    def subsample(self, sample: ak.Array, limit: int | None, seed: int) -> ak.Array:
        """Draw at most `limit` jets, as from their files in chunks."""
        return _draw([sample], limit, seed)

    def fit_inputs(self, sample: ak.Array, options: DataOptions) -> FeatureSet:
        """Feature set that the options name."""
        names = options.features
        return feature_set(names[0] if isinstance(names, list) and len(names) == 1 else names)

    def inputs_from_dict(self, values: dict[str, Any]) -> FeatureSet:
        """Inverse of ``feature_set.to_dict()``."""
        return FeatureSet.from_dict(values)

    def dataset(self, sample: ak.Array, inputs: FeatureSet) -> JetDataset:
        """Jets with their features."""
        return JetDataset(sample, inputs)

    def loader(self, data: JetDataset, batch_size: int = 512, **options: Any) -> JetLoader:
        """Loader of PyG batches."""
        return JetLoader(data, batch_size, **options)

    def arguments(self, batch: Any) -> tuple[Any, ...]:
        """Arguments ``(x, p4, batch)``, and a layout if the jets have stored momenta."""
        return batch_arguments(batch)

    def available_columns(self, fields: Iterable[str]) -> list[str]:
        """Columns of jets, including particle types from PDG codes."""
        return available_columns(fields)


def _draw(chunks: Iterable[ak.Array], number: int | None, seed: int) -> ak.Array:
    """Draw at most `number` jets of a stream with equal probabilities, in their order.

    Each jet gets a random number, and the jets with the smallest numbers are kept: the sample does
    not depend on the chunks, and at most twice `number` jets and one chunk are held in memory.
    """
    rng = np.random.default_rng(seed)
    kept: list[ak.Array] = []
    keys = np.empty(0)
    for jets in chunks:
        kept.append(jets)
        keys = np.concatenate([keys, rng.random(len(jets))])
        if number is not None and len(keys) > 2 * number:
            kept, keys = _smallest(kept, keys, number)
    if number is not None and len(keys) > number:
        kept, keys = _smallest(kept, keys, number)
    return kept[0] if len(kept) == 1 else ak.concatenate(kept)


def _smallest(
    parts: list[ak.Array], keys: np.ndarray, number: int
) -> tuple[list[ak.Array], np.ndarray]:
    chosen = np.sort(np.argpartition(keys, number)[:number])
    jets = parts[0] if len(parts) == 1 else ak.concatenate(parts)
    return [ak.to_packed(jets[chosen])], keys[chosen]


def _is_dataset(source: Source) -> bool:
    """Return whether a source is the name of a data set; other names that are no paths raise."""
    if not isinstance(source, str):
        return False
    names = list_datasets()
    if source in names:
        return True
    if any(c in source for c in "/\\.*?[") or Path(source).exists():
        return False
    raise UnknownNameError("data set or file", source, names)


register_modality(Clouds())
