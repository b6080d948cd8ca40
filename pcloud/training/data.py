"""Jets of a run: splits, and checks before any training starts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pcloud.errors import InputError
from pcloud.keys import SPLIT_KEY
from pcloud.modality import Dataset, Inputs, Modality, Sample, Source, modality_of_model
from pcloud.training.config import DataConfig, TrainConfig
from pcloud.training.doubts import warn_of_classes, warn_of_repeated_files, warn_of_repetitions
from pcloud.training.fingerprint import JetsOfRun
from pcloud.training.splits import HashCollector, SampleCollector, collect

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
    identity : JetsOfRun
        Fingerprints of the jets, which a continued run must find again.
    """

    modality: Modality
    train: Dataset
    val: Dataset
    classes: list[str]
    columns: list[str]
    identity: JetsOfRun


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
    modality = _modality(config)
    warn_of_repeated_files(config.inputs)
    train, val, test = _training_samples(config, modality)
    inputs = modality.fit_inputs(train, config.inputs)
    sources = {"training": config.data, "validation": config.val or config.data}
    with _named_source(sources["training"]):
        classes = _classes(train)
    for name, jets in (("training", train), ("validation", val)):
        with _named_source(sources[name]):
            _check_jets(name, jets, modality, inputs, classes)
    if _named(val) not in (None, classes):
        raise InputError(
            f"the validation jets have the classes {', '.join(_named(val) or [])}, "
            f"the training jets {', '.join(classes)}"
        )
    keys = [modality.keys(jets) for jets in (train, val)]
    labels = [np.asarray(jets.label) for jets in (train, val)]
    for name, values in zip(("training", "validation"), labels, strict=True):
        warn_of_classes(values, classes, f"{name} {modality.noun}")
    warn_of_repetitions(keys, labels, modality.noun)
    columns = modality.used_columns(config.inputs)
    hashes = {"train": modality.hashes(train, columns), "val": modality.hashes(val, columns)}
    if test is not None:
        hashes["test"] = test.hashes
    train_data, val_data = (modality.dataset(jets, inputs) for jets in (train, val))
    identity = JetsOfRun.of(hashes, keys[0], train_data, val_data)
    fields = [name for name in train.fields if name != SPLIT_KEY]
    return TrainingData(modality, train_data, val_data, classes, fields, identity)


def _training_samples(
    config: TrainConfig, modality: Modality
) -> tuple[Sample, Sample, HashCollector | None]:
    """Training and validation jets, and hashes of the test jets if these are drawn from them."""
    fractions = _fractions(config.inputs, modality.own_splits(config.data))
    if config.inputs.split != "key" or "test" not in fractions:
        train, val = load_splits(config, "train", "val")
        return train, val, None
    columns = modality.used_columns(config.inputs)
    test = HashCollector(modality, "test", fractions, config.split_seed, columns)
    train, val = _drawn(config, modality, fractions, ("train", "val"), test)
    return train, val, test


def load_splits(config: TrainConfig, *splits: str) -> list[Sample]:
    """Jets or images of splits of a configuration: ``"train"``, ``"val"`` or ``"test"``.

    A split is what the configuration names for it, else the split of this name of the source of
    the training jets, else a part of the training jets, drawn with `split_seed`.

    Raises
    ------
    InputError
        If the configuration has no such split, or there are too few jets to be split.
    """
    inputs, modality = config.inputs, _modality(config)
    own = modality.own_splits(inputs.data)
    named = {"train": inputs.data, "val": inputs.val, "test": inputs.test}
    fractions = _fractions(inputs, own)
    drawn = [name for name in splits if len(fractions) > 1 and name in fractions]
    parts = dict(zip(drawn, _drawn(config, modality, fractions, drawn), strict=True))
    found = []
    for split in splits:
        source = named.get(split)
        if source is None and split in own:
            source = inputs.data
        if split in parts:
            found.append(parts[split])
        elif source is not None:
            found.append(load_jets(source, config, split, _limits(inputs).get(split)))
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
    modality, inputs = _modality(config), config.inputs
    if limit is None or inputs.split != "key":
        return modality.load(source, split, inputs, limit)
    sample = SampleCollector(modality, split, {"train": 1.0}, limit, inputs.split_seed)
    collect(modality, modality.chunks(source, split, inputs), [sample])
    return sample.sample()


def _modality(config: TrainConfig) -> Modality:
    with config.code_names():
        return modality_of_model(config.model)


def _limits(config: DataConfig) -> dict[str, int | None]:
    """Maximum number of jets of each split."""
    return {"train": config.max_jets, "val": config.max_val_jets}


def _fractions(config: DataConfig, own: Sequence[str]) -> dict[str, float]:
    """Fractions of the training jets used for each split; only "train" where all are used."""
    parts = {"train": 1.0}
    if config.val is None and "val" not in own:
        parts["val"] = config.val_fraction
        if config.test is None and "test" not in own:
            parts["test"] = config.test_fraction
    parts["train"] -= sum(parts.values()) - 1.0
    return parts


def _drawn(
    config: TrainConfig,
    modality: Modality,
    fractions: dict[str, float],
    splits: Sequence[str],
    *others: HashCollector,
) -> list[Sample]:
    """Jets of splits that are drawn from the training jets, which are read once."""
    inputs = config.inputs
    if not splits:
        return []
    if inputs.split != "key":
        return _permuted(config, modality, fractions, splits)
    limits = _limits(inputs)
    parts = [
        SampleCollector(modality, split, fractions, limits.get(split), inputs.split_seed)
        for split in splits
    ]
    chunks = modality.chunks(inputs.data, "train", inputs)
    number = collect(modality, chunks, [*parts, *others])
    samples = [part.sample() for part in parts]
    for split, sample in zip(splits, samples, strict=True):
        if len(sample) == 0:
            noun = modality.noun
            raise InputError(f"{number} {noun} are too few to take {split} {noun} from them")
    return samples


def _permuted(
    config: TrainConfig, modality: Modality, fractions: dict[str, float], splits: Sequence[str]
) -> list[Sample]:
    """Parts of a permutation of the training jets, as in runs before splits by keys."""
    seed = config.inputs.split_seed
    whole = modality.load(config.inputs.data, "train", config.inputs)
    parts = modality.split(whole, fractions, seed)
    for split in splits:
        if len(parts[split]) == 0:
            noun = modality.noun
            raise InputError(f"{len(whole)} {noun} are too few to take {split} {noun} from them")
    limits = _limits(config.inputs)
    return [modality.subsample(whole[parts[s]], limits.get(s), seed) for s in splits]


def _named(jets: Sample) -> list[str] | None:
    """Names of the classes, or None where they are not known."""
    names = jets.attrs.get("classes")
    return list(names) if names else None


def _classes(jets: Sample) -> list[str]:
    if "label" not in jets.fields:
        raise InputError("the training jets have no labels")
    return _named(jets) or [str(i) for i in range(int(np.max(jets.label, initial=0)) + 1)]


@contextlib.contextmanager
def _named_source(source: Source) -> Iterator[None]:
    """Name the file, or the first of several, in the input errors inside."""
    try:
        yield
    except InputError as error:
        first = source if isinstance(source, str) else source[0]
        raise InputError(f"{first}: {error}") from error


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
