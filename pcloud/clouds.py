"""Jets, clouds of particles, as a kind of data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from torch import nn

from pcloud.batch import JetDataset, JetLoader, JetStream, StreamLoader, batch_arguments
from pcloud.batch.stream import RowGroupReader
from pcloud.collection_features import ALL, NONE, CollectionFeatures, collections_in
from pcloud.datasets import dataset_files, dataset_info, is_dataset, load_dataset
from pcloud.errors import InputError
from pcloud.feature import Feature
from pcloud.features import FeatureSet, feature_set, features_of_collections, list_features
from pcloud.given_jets import given_jets, is_given
from pcloud.io import FlatJets, column_names, count_jets, iter_jets, read_jets
from pcloud.io.files import expand_paths
from pcloud.io.jets import LABELS, TARGETS, GrowingJets
from pcloud.io.jets import column_names as columns_of_jets
from pcloud.io.read import JetFiles
from pcloud.keys import COLLECTIONS, Keys, fingerprint_hashes, keys_of, momentum_keys
from pcloud.modality import (
    Accumulator,
    DataOptions,
    Loader,
    Modality,
    Source,
    SourceSize,
    first_of,
    named_source,
    register_modality,
)
from pcloud.models.embedded import Inputs, build_embedded
from pcloud.models.registry import (
    list_models,
    reads_features,
    takes_jet_features,
    takes_positions,
)
from pcloud.particle_types import available_columns
from pcloud.python_jets import flatten
from pcloud.standardisation import (
    check_features,
    describe,
    fit_categories,
    fit_standardisation,
    needs_standardisation,
    standardised_as,
)
from pcloud.storage import MEMORY, Storage

__all__ = ["Clouds"]

_TEXT = (".csv", ".tsv")
_PARTICLE_BYTES = 24  # of a data set per particle in addition to the features: momentum, order


class Clouds(Modality[ak.Array, FeatureSet, JetDataset]):
    """Jets from data sets by name, or from files."""

    kind = "cloud"
    noun = "jets"
    first_argument = "x"
    sample_type = ak.Array
    has_momenta = True
    stores_in_files = True

    def own_splits(self, source: Source) -> tuple[str, ...]:
        """Splits of a data set; none of files and of jets given in Python."""
        if is_given(source):
            return ()
        return ("train", "val", "test") if _is_dataset(source) else ()

    def load(
        self, source: Source, split: str, options: DataOptions, limit: int | None = None
    ) -> ak.Array:
        """Read the jets of a data set by name, or of files."""
        files, schema = self._files(source, split, options)
        if files is None:
            assert isinstance(source, str)
            jets = given_jets(source) if is_given(source) else load_dataset(source, split)
            return self.subsample(jets, limit, options.split_seed)
        if limit is None:
            return read_jets(files, schema, **_reading(options))
        jets = iter_jets(files, schema, keys=False, **_reading(options))
        return _draw(jets, limit, options.split_seed)

    def _files(self, source: Source, split: str, options: DataOptions) -> tuple[Source | None, Any]:
        """Files of a source and their schema; None for jets that are in no file."""
        if is_given(source):
            return None, None
        if not isinstance(source, str) or not _is_dataset(source):
            _refuse_tables(first_of(source))
            return source, options.schema
        info = dataset_info(source)
        if info.load is not None:
            return None, None
        files = dataset_files(source, split, options.data_root)
        return [str(file) for file in files], info.schema

    def chunks(
        self,
        source: Source,
        split: str,
        options: DataOptions,
        inputs: FeatureSet | None = None,
        *,
        share: float = 0.0,
        as_dataset: bool = False,
    ) -> tuple[int, Iterable[ak.Array]]:
        """Read the jets of a data set or of files in chunks, with their keys.

        Only columns that the features use are read.
        """
        found = self._opened(source, split, options, inputs)
        if found is None:
            jets = self.load(source, split, options)
            return len(jets), [jets]
        stream, features = found
        particle_bytes = _particle_bytes(features) if as_dataset else 0
        pieces = itertools.chain([stream.empty], stream.affordable_pieces(share, particle_bytes))
        return stream.num_jets, stream.awkward_chunks(pieces)

    def size(self, source: Source, split: str, options: DataOptions) -> SourceSize:
        """Size of the jets of files in memory, by the first of them."""
        found = self._opened(source, split, options)
        if found is None:
            return super().size(source, split, options)
        stream, features = found
        jets = next((jets for jets in stream.pieces() if len(jets)), stream.empty)
        scale = stream.num_jets / max(1, len(jets))
        of_dataset = scale * _particle_bytes(features) * int(jets.offsets[-1])
        return SourceSize(
            stream.num_jets, scale * jets.nbytes, of_dataset, can_stream=bool(stream.groups())
        )

    def row_groups(
        self, source: Source, split: str, options: DataOptions, inputs: FeatureSet | None = None
    ) -> RowGroupReader:
        """Reader of the row groups of files, of the columns that :meth:`chunks` reads."""
        files, schema = self._files(source, split, options)
        found = self._opened(source, split, options, inputs)
        assert found is not None
        stream, _ = found
        if isinstance(files, Mapping):
            files = {name: [str(path) for path in expand_paths(files[name])] for name in files}
        else:
            files = [str(path) for path in stream.paths]
        return RowGroupReader(
            partial(
                JetFiles,
                files,
                schema,
                keys=True,
                columns=stream.columns,
                on_bad_jet=options.on_bad_jet,
            )
        )

    def _opened(
        self, source: Source, split: str, options: DataOptions, inputs: FeatureSet | None = None
    ) -> tuple[JetFiles, FeatureSet] | None:
        """Stream of the jets of files, and their features; None for jets that are in no file."""
        files, schema = self._files(source, split, options)
        if files is None:
            return None
        available = column_names(files, schema)
        with named_source(files):
            features = self._features(options, available)
        columns = _columns_of(features) | (set() if inputs is None else _columns_of(inputs))
        stream = JetFiles(
            files,
            schema,
            keys=True,
            columns=_needed(available, columns),
            entries=True,
            **_reading(options),
        )
        return stream, features

    def accumulator(self, num_entries: int = 0, storage: Storage = MEMORY) -> Accumulator[ak.Array]:
        """Jets in flat columns that grow."""
        return _JetAccumulator(num_entries, storage)

    def keys(self, sample: ak.Array) -> Keys:
        """Keys from the momenta, or from the column ``split_key``."""
        return keys_of(sample)

    def content_keys(self, sample: ak.Array) -> Keys:
        """Keys from the momenta."""
        return momentum_keys(sample)

    def hashes(self, sample: ak.Array, columns: Sequence[str] = ()) -> Keys:
        """Hashes of momenta, labels and columns."""
        return fingerprint_hashes(sample, columns)

    def used_columns(self, options: DataOptions) -> Sequence[str]:
        """Columns of the features, and the PDG codes where these may follow from them."""
        further = [COLLECTIONS] if options.collections != NONE else []
        return sorted([*_used_columns(self._features(options)), *further])

    def fits_schema(self, source: Source, schema: Any) -> bool:
        """Return whether files have the columns of a schema, apart from label and weight."""
        if is_given(source) or _is_dataset(source):
            return False
        try:
            column_names(source, schema)
        except InputError:
            return False
        return True

    def stream(
        self, source: Source, *, chunk_size: int, inputs: FeatureSet, **reading: Any
    ) -> tuple[int, Iterable[ak.Array]]:
        """Number of jets of files, and the jets in chunks, with the columns of the features."""
        number = count_jets(source, reading.get("schema"))
        columns = _columns_to_read(_columns_of(inputs), source, reading.get("schema"))
        reading |= {"entries": True, "needs_truth": False}
        return number, iter_jets(source, chunk_size=chunk_size, columns=columns, **reading)

    def subsample(self, sample: ak.Array, limit: int | None, seed: int) -> ak.Array:
        """Draw at most `limit` jets, as from their files in chunks."""
        return _draw([sample], limit, seed)

    def fit_inputs(self, sample: ak.Array, options: DataOptions) -> FeatureSet:
        """Feature set that the options name, with the standardisation of the sample if wanted."""
        features = self._features(options, self.fields(sample))
        if set(features.columns) - set(self.available_columns(self.fields(sample))):
            return features  # `check` says what is missing
        features = fit_categories(features, sample)
        return features if options.standardise == "none" else fit_standardisation(features, sample)

    def _features(self, options: DataOptions, available: Sequence[str] = ()) -> FeatureSet:
        """Features that the options name, of jets with the columns `available`."""
        features = feature_set(options.features, options.jet_features or ())
        wanted = ALL if options.collections is None else options.collections
        if not available:
            return features
        return replace(
            features, collections=features_of_collections(wanted, collections_in(available))
        )

    def fields(self, sample: ak.Array) -> list[str]:
        """Names of the columns of jets, with those of collections, such as ``sv.mass``."""
        return columns_of_jets(sample) if isinstance(sample, ak.Array) else sample.fields

    def as_known(self, inputs: FeatureSet, known: Any, options: DataOptions) -> FeatureSet:
        """Features with the standardisation of the same `known` ones, where it would be fitted."""
        if options.standardise == "none" or not isinstance(known, FeatureSet):
            return inputs
        features = feature_set(options.features, options.jet_features or ())
        return standardised_as(features, inputs, known)

    def inputs_for(self, model: str, inputs: FeatureSet, options: DataOptions) -> FeatureSet:
        """Feature set in which features of jets are those of particles if the model has no ``u``.

        A model that reads only momenta has no further collections unless they are asked for.
        """
        if options.collections is None and not reads_features(model):
            inputs = replace(inputs, collections=())
        return inputs.for_network(not inputs.jet_features or takes_jet_features(model))

    def model_options(self, name: str, inputs: FeatureSet) -> dict[str, Any]:
        """Number of features of jets, if there are any."""
        number = len(inputs.jet_features)
        return {"num_jet_features": number} if number else {}

    def network(
        self, name: str, inputs: FeatureSet, num_outputs: int, options: dict[str, Any]
    ) -> nn.Module:
        """Network with random weights; categories and several collections are embedded."""
        parts = [
            Inputs(
                len(part),
                {i: (len(f.categories), f.embed) for i, f in enumerate(part) if f.embed},
            )
            for part in inputs.parts
        ]
        return build_embedded(name, parts, num_outputs, options)

    def check_network(self, name: str, options: DataOptions) -> None:
        """Refuse collections without momenta for a network that needs them."""
        source = options.data
        if options.collections == NONE or takes_positions(name):
            return
        if options.collections is None and not reads_features(name):
            return
        if is_given(source):
            available: Sequence[str] = columns_of_jets(given_jets(source))
        elif _is_dataset(source):
            return
        else:
            available = column_names(source, options.schema)
        with named_source(source):
            for part in self._features(options, available).collections:
                _check_momenta(name, part)

    def describe_inputs(self, inputs: FeatureSet, options: DataOptions) -> list[str]:
        """Line with the features that are standardised by the training jets."""
        plain = {feature.name for feature in needs_standardisation(self._features(options))}
        every = (*inputs.features, *inputs.jet_features)
        fitted = [f for f in every if f.name in plain and f != Feature(f.name)]
        lines = [describe(fitted)] if fitted else []
        lines += [
            f"categories of {f.name}: {', '.join(f'{value:g}' for value in f.categories)}"
            for part in inputs.parts
            for f in part
            if f.is_category
        ]
        return lines + [
            f"collection {part.name}: {', '.join(part.names)}" for part in inputs.collections
        ]

    def check_inputs(self, data: JetDataset, whose: str, *, is_training: bool = True) -> None:
        """Refuse features that are NaN or constant, and warn of outliers."""
        check_features(data, whose, is_training=is_training)

    def inputs_from_dict(self, values: dict[str, Any]) -> FeatureSet:
        """Inverse of ``feature_set.to_dict()``."""
        return FeatureSet.from_dict(values)

    def computed_inputs(self) -> Sequence[str]:
        """Names of features and of the quantities in their expressions."""
        return list_features()

    def flatten(self, sample: Any) -> tuple[ak.Array, Callable[[Any], Any]]:
        """Jets in the form of the readers; missing ones get NaN as scores, lists of jets lists."""
        if not isinstance(sample, ak.Array) and hasattr(sample, "fields"):
            return super().flatten(sample)  # of another kind, which `check` says
        jets, nesting = flatten(sample)
        return jets, nesting.nest

    def dataset(
        self, sample: ak.Array, inputs: FeatureSet, storage: Storage = MEMORY
    ) -> JetDataset:
        """Jets with their features."""
        return JetDataset(sample, inputs, storage=storage)

    def loader(self, data: JetDataset | JetStream, batch_size: int = 512, **options: Any) -> Loader:
        """Loader of PyG batches."""
        if isinstance(data, JetStream):
            return StreamLoader(data, batch_size, **options)
        return JetLoader(data, batch_size, **options)

    def arguments(self, batch: Any) -> tuple[Any, ...]:
        """Arguments ``(x, p4, batch)``, and a layout if the jets have stored momenta."""
        return batch_arguments(batch)

    def available_columns(self, fields: Iterable[str]) -> list[str]:
        """Columns of jets, including particle types from PDG codes."""
        fields = list(fields)
        further = [
            f"{name}.{column}"
            for name, columns in collections_in(fields).items()
            for column in available_columns(columns)
        ]
        return list(dict.fromkeys([*available_columns(fields), *further]))


class _JetAccumulator(Accumulator[ak.Array]):
    """Jets that are appended to flat columns; a single part is not copied.

    Parameters
    ----------
    num_jets : int
        Approximate number of jets, for which memory is reserved.
    storage : Storage
        Place of the columns. In files there is always a copy.
    """

    def __init__(self, num_jets: int, storage: Storage = MEMORY) -> None:
        super().__init__(Clouds.noun)
        self._num_jets = num_jets
        self._storage = storage
        self._jets: GrowingJets | None = None
        self._attrs: dict[str, Any] = {}

    def append(self, sample: ak.Array) -> None:
        """Append a copy of jets."""
        first = self._sample
        if self._jets is None:
            if first is None or (len(first) == 0 and self._storage is MEMORY):
                self._sample = ak.to_packed(sample)  # without the memory of jets left out
                return
            self._jets = GrowingJets(self._num_jets, self._storage)
            self._jets.append(FlatJets.from_awkward(first))
            self._attrs = dict(first.attrs)
            self._sample = None
        self._jets.append(FlatJets.from_awkward(sample))

    def finish(self) -> ak.Array:
        """All jets."""
        if self._jets is None:
            return super().finish()
        jets = self._jets.finish().to_awkward()
        jets.attrs = self._attrs
        return jets


def _check_momenta(model: str, part: CollectionFeatures) -> None:
    """Refuse a collection without momenta for a model that needs them."""
    if part.entries == "momenta":
        return
    others = ", ".join(name for name in list_models() if takes_positions(name))
    raise InputError(
        f"model {model!r} needs momenta, and collection {part.name!r} has none: name p4 of the "
        f"collection in the schema, or take other collections (--collections), or one of {others}"
    )


def _particle_bytes(features: FeatureSet) -> int:
    """Memory of a data set per particle."""
    return _PARTICLE_BYTES + 4 * len(features)


def _used_columns(features: FeatureSet) -> set[str]:
    """Columns of features, and the PDG codes where these may follow from them."""
    used = {*features.particle_columns, *features.jet_columns, "weight"}
    return used | {"pid"} if used & set(available_columns(["pid"])) else used


def _columns_of(features: FeatureSet) -> set[str]:
    """Columns that a data set with these features uses, some of which files need not have."""
    further = {column for part in features.collections for column in part.columns_to_read}
    return _used_columns(features) | set(features.optional_columns) | further


def _columns_to_read(used: set[str], files: Source, schema: Any) -> list[str]:
    """Columns of files that are used, and the targets of files that pcloud wrote."""
    return _needed(column_names(files, schema), used)


def _needed(names: Iterable[str], used: set[str]) -> list[str]:
    """Names of columns that are used, or targets or labels of particles."""
    return [n for n in names if n in used or n.startswith((TARGETS, LABELS)) or f".{LABELS}" in n]


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


def _refuse_tables(file: str) -> None:
    """Check that a file is no table in text, which other networks take."""
    if Path(file.removesuffix(".gz")).suffix.lower() in _TEXT:
        networks = ", ".join(list_models("table"))
        raise InputError(f"{file}: a table of events, for networks on tables: --model {networks}")


def _is_dataset(source: Source) -> bool:
    """Return whether a source is the name of a data set; other names that are no paths raise."""
    return is_dataset(source, Clouds.kind)


register_modality(Clouds())
