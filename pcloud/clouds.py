"""Jets, clouds of particles, as a kind of data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from pcloud.batch import JetDataset, JetLoader, batch_arguments
from pcloud.datasets import dataset_files, dataset_info, list_datasets, load_dataset
from pcloud.errors import UnknownNameError
from pcloud.features import FeatureSet, feature_set
from pcloud.io import count_jets, iter_jets, read_jets
from pcloud.keys import Keys, fingerprint_hashes, keys_of
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
        files, schema = self._files(source, split, options)
        if files is None:
            assert isinstance(source, str)
            return self.subsample(load_dataset(source, split), limit, options.split_seed)
        if limit is None:
            return read_jets(files, schema, **_reading(options))
        jets = iter_jets(files, schema, keys=False, **_reading(options))
        return _draw(jets, limit, options.split_seed)

    def _files(self, source: Source, split: str, options: DataOptions) -> tuple[Source | None, Any]:
        """Files of a source and their schema; None for a data set that is no file of jets."""
        if not isinstance(source, str) or not _is_dataset(source):
            return source, options.schema
        info = dataset_info(source)
        if info.load is not None:
            return None, None
        files = dataset_files(source, split, options.data_root)
        return [str(file) for file in files], info.schema

    def chunks(self, source: Source, split: str, options: DataOptions) -> Iterable[ak.Array]:
        """Read the jets of a data set or of files in chunks, with their keys."""
        files, schema = self._files(source, split, options)
        if files is None:
            return [self.load(source, split, options)]
        return iter_jets(files, schema, keys=True, **_reading(options))

    def concatenate(self, parts: Sequence[ak.Array]) -> ak.Array:
        """Concatenate jets, without the memory of jets that were left out of a part."""
        return ak.to_packed(parts[0] if len(parts) == 1 else ak.concatenate(parts))

    def keys(self, sample: ak.Array) -> Keys:
        """Keys from the momenta, or from the column ``split_key``."""
        return keys_of(sample)

    def hashes(self, sample: ak.Array, columns: Sequence[str] = ()) -> Keys:
        """Hashes of momenta, labels and columns."""
        return fingerprint_hashes(sample, columns)

    def used_columns(self, options: DataOptions) -> Sequence[str]:
        """Columns of the features, and the PDG codes where these may follow from them."""
        features = self._features(options)
        used = {*features.columns, *features.jet_columns}
        return sorted(used | {"pid"} if used & set(available_columns(["pid"])) else used)

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
        return self._features(options)

    def _features(self, options: DataOptions) -> FeatureSet:
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


def _reading(options: DataOptions) -> dict[str, Any]:
    return {"on_bad_jet": options.on_bad_jet, "check_units": options.check_units}


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
