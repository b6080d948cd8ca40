"""Jets of a run: splits, and checks before any training starts."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from pcloud.errors import InputError
from pcloud.modality import Dataset, Inputs, Modality, Sample, Source, modality_of_model
from pcloud.training.config import DataConfig, TrainConfig

__all__ = ["TrainingData", "load_jets", "load_splits", "load_training_data"]


@dataclass(frozen=True)
class TrainingData:
    """Jets of a training, or other data, as data sets.

    Attributes
    ----------
    modality : Modality
        Kind of data.
    train, val : JetDataset or ImageDataset
        The jets or images.
    classes : list of str
        Names of the classes.
    columns : list of str
        Columns of the training jets in their file, used or not.
    """

    modality: Modality
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
            "checksum": zlib.crc32(self.val.to_bytes(), zlib.crc32(self.train.to_bytes())),
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
    modality = modality_of_model(config.model)
    train, val = load_splits(config, "train", "val")
    inputs = modality.fit_inputs(train, config.inputs)
    classes = _classes(train)
    for name, jets in (("training", train), ("validation", val)):
        _check_jets(name, jets, modality, inputs, classes)
    if _named(val) not in (None, classes):
        raise InputError(
            f"the validation jets have the classes {', '.join(_named(val) or [])}, "
            f"the training jets {', '.join(classes)}"
        )
    train_data, val_data = (modality.dataset(jets, inputs) for jets in (train, val))
    return TrainingData(modality, train_data, val_data, classes, train.fields)


def load_splits(config: TrainConfig, *splits: str) -> list[Sample]:
    """Jets or images of splits of a configuration: ``"train"``, ``"val"`` or ``"test"``.

    A split is what the configuration names for it, else the split of this name of the source of
    the training jets, else a part of the training jets, drawn with `split_seed`.

    Raises
    ------
    InputError
        If the configuration has no such split, or there are too few jets to be split.
    """
    inputs, modality = config.inputs, modality_of_model(config.model)
    own = modality.own_splits(inputs.data)
    named = {"train": inputs.data, "val": inputs.val, "test": inputs.test}
    limits = {"train": inputs.max_jets, "val": inputs.max_val_jets}
    fractions = _fractions(inputs, own)
    whole = cache(lambda: load_jets(inputs.data, config))  # read once for all parts
    found = []
    for split in splits:
        limit = limits.get(split)
        source = named.get(split)
        if source is None and split in own:
            source = inputs.data
        if len(fractions) > 1 and split in fractions:
            part = _part(whole(), modality, fractions, split, inputs.split_seed)
            found.append(modality.subsample(part, limit, inputs.split_seed))
        elif source is not None:
            found.append(load_jets(source, config, split, limit))
        else:
            raise InputError(f"the run has no {split} {modality.noun}: name a file")
    return found


def load_jets(
    source: Source,
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
    return modality_of_model(config.model).load(source, split, config.inputs, limit)


def _fractions(config: DataConfig, own: Sequence[str]) -> dict[str, float]:
    """Fractions of the training jets used for each split; only "train" where all are used."""
    parts = {"train": 1.0}
    if config.val is None and "val" not in own:
        parts["val"] = config.val_fraction
        if config.test is None and "test" not in own:
            parts["test"] = config.test_fraction
    parts["train"] -= sum(parts.values()) - 1.0
    return parts


def _part(
    jets: Sample, modality: Modality, fractions: dict[str, float], split: str, seed: int
) -> Sample:
    chosen = modality.split(jets, fractions, seed)[split]
    if len(chosen) == 0:
        noun = modality.noun
        raise InputError(f"{len(jets)} {noun} are too few to take {split} {noun} from them")
    return jets[chosen]


def _named(jets: Sample) -> list[str] | None:
    """Names of the classes, or None where they are not known."""
    names = jets.attrs.get("classes")
    return list(names) if names else None


def _classes(jets: Sample) -> list[str]:
    if "label" not in jets.fields:
        raise InputError("the training jets have no labels")
    return _named(jets) or [str(i) for i in range(int(np.max(jets.label, initial=0)) + 1)]


def _check_jets(
    name: str, jets: Sample, modality: Modality, inputs: Inputs, classes: list[str]
) -> None:
    if len(jets) == 0:
        raise InputError(f"there are no {name} jets")
    modality.check(jets, inputs, f"the {name} jets")
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
