"""Jets of a run: reading, splits, subsampling, and checks before any training starts."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from pcloud.datasets import dataset_files, dataset_info, list_datasets, load_dataset
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FeatureSet, feature_set
from pcloud.images.image_set import ImageDataset, ImageFormat, ImageSet
from pcloud.io import iter_jets, read_jets
from pcloud.models.registry import model_kind
from pcloud.training.config import DataConfig, TrainConfig
from pcloud.training.image_splits import load_image_splits, load_images
from pcloud.training.inputs import Dataset, Inputs, Sample, check_columns, make_dataset

__all__ = ["TrainingData", "load_jets", "load_splits", "load_training_data"]


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
    train, val = load_splits(config, "train", "val")
    features = (
        ImageFormat.fit(train.images) if isinstance(train, ImageSet) else _features(config.inputs)
    )
    inputs = config.inputs
    sources = {"training": inputs.data, "validation": inputs.val or inputs.data}
    with _named_source(sources["training"]):
        classes = _classes(train)
    for name, jets in (("training", train), ("validation", val)):
        with _named_source(sources[name]):
            _check_jets(name, jets, features, classes)
    if _named(val) not in (None, classes):
        raise InputError(
            f"the validation jets have the classes {', '.join(_named(val) or [])}, "
            f"the training jets {', '.join(classes)}"
        )
    train_data, val_data = make_dataset(train, features), make_dataset(val, features)
    return TrainingData(train_data, val_data, classes, train.fields)


def load_splits(config: TrainConfig, *splits: str) -> list[Sample]:
    """Jets or images of splits of a configuration: ``"train"``, ``"val"`` or ``"test"``.

    A split without a file is a part of the training jets, drawn with `split_seed`.

    Raises
    ------
    InputError
        If the configuration has no such split.
    """
    inputs = config.inputs
    if model_kind(config.network.model) == "image":
        return list(load_image_splits(inputs, *splits))
    whole = cache(lambda: load_jets(inputs.data, config))  # read once for all parts
    jets = []
    for split in splits:
        limit = {"train": inputs.max_jets, "val": inputs.max_val_jets}.get(split)
        source = inputs.data if split == "train" else getattr(inputs, split)
        fractions = _fractions(inputs)
        if source is None and _is_dataset(inputs.data):
            source = inputs.data
        if source is None and split not in fractions:
            raise InputError(f"the run has no {split} jets: name a file")
        if source is None or (split == "train" and len(fractions) > 1):
            part = _part(whole(), fractions, split, inputs.split_seed)
            jets.append(_draw([part], limit, inputs.split_seed))
        else:
            jets.append(load_jets(source, config, split, limit))
    return jets


def load_jets(
    source: str | Sequence[str],
    config: TrainConfig,
    split: str = "train",
    limit: int | None = None,
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

    Raises
    ------
    UnknownNameError
        If `source` is neither a data set nor a path.
    """
    if model_kind(config.network.model) == "image":
        return load_images(source, split)
    inputs = config.inputs
    schema = inputs.schema
    if isinstance(source, str) and _is_dataset(source):
        info = dataset_info(source)
        if info.load is not None:
            return _draw([load_dataset(source, split)], limit, inputs.split_seed)
        source = [str(file) for file in dataset_files(source, split, inputs.data_root)]
        schema = info.schema
    options: dict[str, Any] = {"on_bad_jet": inputs.on_bad_jet, "check_units": inputs.check_units}
    if limit is None:
        return read_jets(source, schema, **options)
    return _draw(iter_jets(source, schema, **options), limit, inputs.split_seed)


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


def _part(jets: ak.Array, fractions: dict[str, float], split: str, seed: int) -> ak.Array:
    order = np.random.default_rng(seed).permutation(len(jets))
    bounds = np.rint(np.cumsum([0.0, *fractions.values()]) * len(jets)).astype(int)
    i = list(fractions).index(split)
    chosen = order[bounds[i] : bounds[i + 1]]
    if len(chosen) == 0:
        raise InputError(f"{len(jets)} jets are too few to take {split} jets from them")
    return jets[np.sort(chosen)]


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


@contextlib.contextmanager
def _named_source(source: str | Sequence[str]) -> Iterator[None]:
    """Name the file, or the first of several, in the input errors inside."""
    try:
        yield
    except InputError as error:
        first = source if isinstance(source, str) else source[0]
        raise InputError(f"{first}: {error}") from error


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
