"""Jets of a run: reading, splits, subsampling, and checks before any training starts."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import awkward as ak
import numpy as np

from pcloud.datasets import dataset_files, dataset_info, list_datasets, load_dataset
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FeatureSet, feature_set
from pcloud.images.image_set import ImageDataset, ImageFormat, ImageSet
from pcloud.io import BadJetWarning, FlatJets
from pcloud.io.jets import GrowingJets
from pcloud.io.read import COLUMNS, JetStream, rechunk
from pcloud.models.registry import model_kind
from pcloud.training.config import DataConfig, TrainConfig
from pcloud.training.image_splits import load_image_splits, load_images
from pcloud.training.inputs import (
    Dataset,
    Inputs,
    Sample,
    check_columns,
    columns_to_read,
    make_dataset,
)

__all__ = [
    "TrainingData",
    "iter_source",
    "iter_split",
    "load_jets",
    "load_splits",
    "load_training_data",
]

_PARTICLE_BYTES = 24  # of a data set per particle in addition to the features: momentum, order


@dataclass(frozen=True)
class TrainingData:
    """Jets of a training as PyG data sets.

    Attributes
    ----------
    train, val : JetDataset or ImageDataset
        The jets or images.
    classes : list of str
        Names of the classes.
    columns : list of str
        Columns of the training jets in their file, used or not.
    """

    train: Dataset
    val: Dataset
    classes: list[str]
    columns: list[str]

    @property
    def fingerprint(self) -> dict[str, int]:
        """Numbers that identify the jets: a continued run must have the same ones."""
        return {
            "train_jets": len(self.train),
            "val_jets": len(self.val),
            "checksum": zlib.crc32(_bytes(self.val), zlib.crc32(_bytes(self.train))),
        }


def load_training_data(config: TrainConfig) -> TrainingData:
    """Read and check the training and validation jets of a configuration.

    Raises
    ------
    InputError
        If the jets have no labels, only one class, or labels outside their classes, or lack a
        column that the features need, or are too few to split.
    FileNotFoundError
        If a file does not exist.
    """
    particle_bytes = _PARTICLE_BYTES + 4 * len(_features(config.inputs))
    train, val = load_splits(config, "train", "val", bytes_per_particle=particle_bytes)
    features = (
        ImageFormat.fit(train.images) if isinstance(train, ImageSet) else _features(config.inputs)
    )
    classes = _classes(train)
    for name, jets in (("training", train), ("validation", val)):
        _check_jets(name, jets, features, classes)
    if _named(val) not in (None, classes):
        raise InputError(
            f"the validation jets have the classes {', '.join(_named(val) or [])}, "
            f"the training jets {', '.join(classes)}"
        )
    train_data, val_data = make_dataset(train, features), make_dataset(val, features)
    columns = train.attrs.get(COLUMNS, train.fields)
    return TrainingData(train_data, val_data, classes, columns)


def load_splits(
    config: TrainConfig,
    *splits: str,
    features: Inputs | None = None,
    bytes_per_particle: float = 0.0,
) -> list[Sample]:
    """Jets or images of splits of a configuration: ``"train"``, ``"val"`` or ``"test"``.

    A split without a file is a part of the training jets, drawn with `split_seed`. Files of jets are
    read piece by piece, and only jets of the splits are held.

    Parameters
    ----------
    config : TrainConfig
        Configuration.
    *splits : str
        Names of the splits.
    features : FeatureSet, optional
        Features whose columns are read from files; by default those of the configuration.
    bytes_per_particle : float
        Memory that each particle will need in addition, for the check of the free memory.

    Raises
    ------
    InputError
        If the configuration has no such split.
    """
    inputs = config.inputs
    if model_kind(config.network.model) == "image":
        return list(load_image_splits(inputs, *splits))
    sources = {split: _source(inputs, split) for split in splits}
    parts = [split for split, source in sources.items() if source is None]
    jets = _load_parts(config, parts, features, bytes_per_particle) if parts else {}
    for split, source in sources.items():
        if source is not None:
            jets[split] = load_jets(
                source,
                config,
                split,
                _limit(inputs, split),
                features=features,
                bytes_per_particle=bytes_per_particle,
            )
    return [jets[split] for split in splits]


def iter_split(
    config: TrainConfig, split: str, chunk_size: int, features: Inputs | None = None
) -> Iterator[Sample]:
    """Jets or images of one split in chunks of `chunk_size`.

    They are those of :func:`load_splits`, in the same order; fewer of them are in memory.

    Raises
    ------
    InputError
        If the configuration has no such split.
    """
    inputs = config.inputs
    if model_kind(config.network.model) == "image" or _limit(inputs, split) is not None:
        return _slices(load_splits(config, split, features=features)[0], chunk_size)
    source = _source(inputs, split)
    if source is not None:
        return iter_source(source, config, split, chunk_size, features)
    stream = _stream(inputs.data, config, features=features)
    parts = _iter_parts(stream, stream.pieces(), inputs, [split])
    return stream.awkward_chunks(rechunk((part for (part,) in parts), chunk_size))


def iter_source(
    source: str | Sequence[str],
    config: TrainConfig,
    split: str,
    chunk_size: int,
    features: Inputs | None = None,
) -> Iterator[Sample]:
    """Jets or images of :func:`load_jets` in chunks of `chunk_size`."""
    if model_kind(config.network.model) == "image" or _is_function(source):
        return _slices(load_jets(source, config, split), chunk_size)
    stream = _stream(source, config, split, features)
    return stream.awkward_chunks(stream.chunks(chunk_size))


def load_jets(
    source: str | Sequence[str],
    config: TrainConfig,
    split: str = "train",
    limit: int | None = None,
    *,
    features: Inputs | None = None,
    bytes_per_particle: float = 0.0,
) -> Sample:
    """Jets of a data set by name, or of files, read with the options of a configuration.

    Parameters
    ----------
    source : str or sequence of str
        Name of a data set, or files.
    config : TrainConfig
        Configuration. For a network on images, images are read.
    split : str
        Split of the data set.
    limit : int, optional
        Maximum number of jets, drawn at random.
    features, bytes_per_particle
        As for :func:`load_splits`.

    Raises
    ------
    UnknownNameError
        If `source` is neither a data set nor a path.
    """
    if model_kind(config.network.model) == "image":
        return load_images(source, split)
    seed = config.inputs.split_seed
    if _is_function(source):
        jets = load_dataset(source, split)
        if limit is None or len(jets) <= limit:
            return jets
        return ak.to_packed(jets[_smallest(np.random.default_rng(seed).random(len(jets)), limit)])
    stream = _stream(source, config, split, features)
    draw = _Draw(stream, limit, seed)
    share = 1.0 if limit is None else 0.0
    for piece in stream.affordable_pieces(share, bytes_per_particle):
        draw.add(piece)
        del piece
    return draw.jets()


def _stream(
    source: str | Sequence[str],
    config: TrainConfig,
    split: str = "train",
    features: Inputs | None = None,
) -> JetStream:
    """Jets of files, or of a data set of files, with the columns that the features need."""
    inputs = config.inputs
    schema = inputs.schema
    if isinstance(source, str) and _is_dataset(source):
        schema = dataset_info(source).schema
        source = [str(file) for file in dataset_files(source, split, inputs.data_root)]
    return JetStream(
        source,
        schema,
        on_bad_jet=inputs.on_bad_jet,
        check_units=inputs.check_units,
        columns=columns_to_read(features or _features(inputs), source, schema),
    )


def _source(config: DataConfig, split: str) -> str | list[str] | None:
    """Files or data set of a split; None if it is a part of the training jets."""
    source = config.data if split == "train" else getattr(config, split)
    if source is None and _is_dataset(config.data):
        return config.data
    fractions = _fractions(config)
    if source is None and split not in fractions:
        raise InputError(f"the run has no {split} jets: name a file")
    return None if split == "train" and len(fractions) > 1 else source


def _limit(config: DataConfig, split: str) -> int | None:
    return {"train": config.max_jets, "val": config.max_val_jets}.get(split)


def _fractions(config: DataConfig) -> dict[str, float]:
    """Fractions of the training jets used for each split; only "train" where all are used."""
    if _is_dataset(config.data):
        return {"train": 1.0}
    parts = {"train": 1.0}
    if config.val is None:
        parts["val"] = config.val_fraction
    if config.val is None and config.test is None:
        parts["test"] = config.test_fraction
    parts["train"] -= sum(parts.values()) - 1.0
    return parts


def _load_parts(
    config: TrainConfig,
    splits: Sequence[str],
    features: Inputs | None,
    bytes_per_particle: float,
) -> dict[str, Sample]:
    """Jets of splits that are parts of the training jets, which are read once for all of them."""
    inputs = config.inputs
    stream = _stream(inputs.data, config, features=features)
    draws = {
        split: _Draw(stream, _limit(inputs, split), inputs.split_seed, _fractions(inputs)[split])
        for split in splits
    }
    share = sum(draw.share for draw in draws.values() if draw.number is None)
    pieces = stream.affordable_pieces(share, bytes_per_particle)
    for parts in _iter_parts(stream, pieces, inputs, splits):
        for draw, part in zip(draws.values(), parts, strict=True):
            draw.add(part)
        del parts, part
    return {split: draw.jets() for split, draw in draws.items()}


def _iter_parts(
    stream: JetStream, pieces: Iterable[FlatJets], config: DataConfig, splits: Sequence[str]
) -> Iterator[list[FlatJets]]:
    """Jets of each of some splits in each piece of the training jets."""
    split_of_jet = _split_of_jet(_count_good(stream, config), config, splits)
    first = 0
    for piece in pieces:
        number = split_of_jet[first : first + len(piece)]
        yield [piece.select(number == i) for i in range(len(splits))]
        first += len(piece)
        del piece


def _split_of_jet(num_jets: int, config: DataConfig, splits: Sequence[str]) -> np.ndarray:
    """Index in `splits` of the split of each jet (B,), -1 for the other jets."""
    fractions = _fractions(config)
    order = np.random.default_rng(config.split_seed).permutation(num_jets)
    bounds = np.rint(np.cumsum([0.0, *fractions.values()]) * num_jets).astype(int)
    result = np.full(num_jets, -1, dtype=np.int8)
    for i, split in enumerate(splits):
        part = list(fractions).index(split)
        chosen = order[bounds[part] : bounds[part + 1]]
        if len(chosen) == 0:
            raise InputError(f"{num_jets} jets are too few to take {split} jets from them")
        result[chosen] = i
    return result


def _count_good(stream: JetStream, config: DataConfig) -> int:
    """Number of jets that are not bad; if bad ones are dropped, the files are read for it."""
    if config.on_bad_jet == "error":
        return stream.num_jets
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadJetWarning)  # the second reading warns
        return sum(len(piece) for piece in stream.pieces())


class _Draw:
    """Random sample of at most `number` jets of a stream, of equal probabilities and in their order.

    Each jet gets a random number, and the jets with the smallest numbers are kept: the sample does
    not depend on the pieces, and at most twice `number` jets and one piece are held in memory.

    Parameters
    ----------
    stream : JetStream
        Stream from which the jets come.
    number : int or None
        Maximum number of jets; None for all.
    seed : int
        Seed of the random numbers.
    share : float
        Expected fraction of the jets of the stream, for which memory is reserved.
    """

    def __init__(
        self, stream: JetStream, number: int | None, seed: int, share: float = 1.0
    ) -> None:
        self.number = number
        self.share = share
        self._stream = stream
        self._rng = np.random.default_rng(seed)
        self._keys = np.empty(0)
        self._reserve = round(share * stream.num_jets) if number is None else 2 * number
        self._clear()

    def _clear(self) -> None:
        self._kept = GrowingJets(self._reserve)
        self._kept.append(self._stream.empty)

    def add(self, jets: FlatJets) -> None:
        """Offer more jets."""
        self._kept.append(jets)
        if self.number is None:
            return
        self._keys = np.concatenate([self._keys, self._rng.random(len(jets))])
        if len(self._keys) > 2 * self.number:
            self._reduce()

    def _reduce(self) -> None:
        assert self.number is not None
        chosen = _smallest(self._keys, self.number)
        keep = np.zeros(len(self._keys), dtype=bool)
        keep[chosen] = True
        jets = self._kept.finish().select(keep)
        self._clear()
        self._kept.append(jets)
        self._keys = self._keys[chosen]

    def jets(self) -> ak.Array:
        """Jets of the sample."""
        if self.number is not None and len(self._keys) > self.number:
            self._reduce()
        return self._stream.to_awkward(self._kept.finish())


def _smallest(keys: np.ndarray, number: int) -> np.ndarray:
    """Sorted positions of the `number` smallest of the `keys`."""
    return np.sort(np.argpartition(keys, number)[:number])


def _slices(sample: Sample, size: int) -> Iterator[Sample]:
    return (sample[start : start + size] for start in range(0, len(sample), size))


def _is_dataset(source: str | Sequence[str]) -> bool:
    """Return whether a source is the name of a data set; other names that are no paths raise."""
    if not isinstance(source, str):
        return False
    names = list_datasets()
    if source in names:
        return True
    if any(c in source for c in "/\\.*?[") or Path(source).exists():
        return False
    raise UnknownNameError("data set or file", source, names)


def _is_function(source: str | Sequence[str]) -> TypeGuard[str]:
    """Return whether a source is a data set that is made by a function, not read from files."""
    return isinstance(source, str) and _is_dataset(source) and dataset_info(source).load is not None


def _features(config: DataConfig) -> FeatureSet:
    names = config.features
    return feature_set(names[0] if isinstance(names, list) and len(names) == 1 else names)


def _named(jets: Sample) -> list[str] | None:
    """Names of the classes, or None where they are not known."""
    names = jets.attrs.get("classes")
    return list(names) if names else None


def _classes(jets: Sample) -> list[str]:
    if "label" not in jets.fields:
        raise InputError("the training jets have no labels")
    return _named(jets) or [str(i) for i in range(int(np.max(jets.label, initial=0)) + 1)]


def _check_jets(name: str, jets: Sample, features: Inputs, classes: list[str]) -> None:
    if len(jets) == 0:
        raise InputError(f"there are no {name} jets")
    check_columns(jets, features, f"the {name} jets")
    if "label" not in jets.fields:
        raise InputError(f"the {name} jets have no labels")
    labels = np.asarray(jets.label)
    outside = (labels < 0) | (labels >= len(classes))
    if outside.any():
        raise InputError(
            f"{outside.sum()} of the {name} jets have labels outside 0 to {len(classes) - 1}, "
            f"the classes {', '.join(classes)}; the first is {labels[outside.argmax()]}"
        )
    if labels.min() == labels.max():
        raise InputError(
            f"all {len(labels)} {name} jets are {classes[labels[0]]!r}: "
            "learning to tell classes apart needs at least two"
        )


def _bytes(data: Dataset) -> bytes:
    if isinstance(data, ImageDataset):
        return data.to_bytes()
    return data.ptr.numpy().tobytes() + data.y.numpy().tobytes()  # type: ignore[union-attr]
