"""Jets of a run: splits, and checks before any training starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from pcloud.batch import JetDataset
from pcloud.errors import InputError
from pcloud.io.read import COLUMNS, TRANSFORMS
from pcloud.keys import SPLIT_KEY, Keys
from pcloud.modality import (
    Dataset,
    Inputs,
    Modality,
    Sample,
    Source,
    first_of,
    modality_of_model,
    named_source,
)
from pcloud.models.registry import list_models, offers_particles
from pcloud.objectives.build import make_objective
from pcloud.objectives.several import Several
from pcloud.storage import MEMORY, Storage
from pcloud.training.config import DataConfig, TrainConfig
from pcloud.training.doubts import warn_of_classes, warn_of_repeated_files, warn_of_repetitions
from pcloud.training.fingerprint import JetsOfRun
from pcloud.training.jet_targets import check_targets, targets_of
from pcloud.training.one_sample import first_class, mix_classes
from pcloud.training.particle_labels import check_labels, classes_of_labels, labels_of
from pcloud.training.splits import (
    HashCollector,
    SampleCollector,
    collect,
    rechunk,
    select_split,
)
from pcloud.training.streamed import StreamedJets, index_stream

__all__ = [
    "TrainingData",
    "collections_of",
    "iter_source",
    "iter_split",
    "load_jets",
    "load_splits",
    "load_training_data",
    "slices",
    "used_columns",
]

_MAX_UNNAMED_CLASSES = 200  # more are the numbers of something else
_NUM_SHOWN_VALUES = 8  # in an error message
_NUM_SHOWN_COLUMNS = 12


@dataclass(frozen=True)
class TrainingData:
    """Jets of a training, or other data, as data sets.

    Attributes
    ----------
    modality : Modality
        Kind of data.
    train, val : JetDataset or ImageDataset
        The jets or images.
    objective : Several
        Objective of the network; it has to be fitted to the training jets, with their weights.
    columns : list of str
        Columns of the training jets in their file, used or not.
    identity : JetsOfRun
        Fingerprints of the jets, which a continued run must find again.
    """

    modality: Modality
    train: Dataset
    val: Dataset
    objective: Several
    columns: list[str]
    identity: JetsOfRun

    @property
    def classes(self) -> list[str]:
        """Names of the classes; none without an objective of classes."""
        return self.objective.classes


def load_training_data(
    config: TrainConfig,
    storage: Storage = MEMORY,
    *,
    stream: bool = False,
    known: Inputs | None = None,
) -> TrainingData:
    """Read and check the training and validation jets of a configuration.

    Parameters
    ----------
    config : TrainConfig
        Configuration.
    storage : Storage
        Place of the jets and of their data sets.
    stream : bool
        If True, the training jets are read from their files in every epoch. They are read once
        before, for their labels, weights and fingerprint.
    known : Inputs, optional
        Inputs of the weights with which the training begins. Features of the same name have their
        standardisation, if none is given.

    Raises
    ------
    InputError
        If the jets lack what the objective needs (labels, at least two classes, labels inside
        their classes, usable targets) or a column that the features need, or are too few to split.
    FileNotFoundError
        If a file does not exist.
    """
    modality = _modality(config)
    warn_of_repeated_files(config.inputs)
    with config.code_names():
        modality.check_options(config.inputs)
        modality.check_network(config.model, config.inputs)
        _check_particles(config)
        _check_detector(config, modality)
        _check_generator(config, modality)
    one_sample = config.objectives.detects_anomalies or config.objectives.mix is not None
    if stream and one_sample:
        raise InputError(
            f"{'mix' if config.objectives.mix else 'objective anomaly'} chooses jets, which a stream "
            "cannot: use --storage map, or fewer jets (--max-jets N)"
        )
    streamed = _streamed(config, modality, storage) if stream else None
    if streamed is None:
        train, val, test = _training_samples(config, modality, storage)
        if config.overfit is not None:
            train = val = modality.subsample(train, config.overfit, config.split_seed)
        few = train
    else:
        train, val, test, few = streamed.train, streamed.val, streamed.test, streamed.few
    with config.code_names():
        with named_source(config.data):
            inputs = modality.fit_inputs(few, config.inputs)
        inputs = modality.as_known(inputs, known, config.inputs)
        inputs = modality.inputs_for(config.model, inputs, config.inputs)
    sources = {"training": config.data, "validation": config.val or config.data}
    objective = _objective(config, train, sources["training"], inputs)
    classes = objective.classes
    whole = train, val
    if config.objectives.detects_anomalies:
        train, val = (first_class(s, classes, modality.noun) for s in whole)
    elif config.objectives.mix is not None:
        with named_source(config.data):
            mixed = [mix_classes(s, classes, config.objectives.mix, config.seed) for s in whole]
        train, val = mixed
    for name, jets in (("training", train), ("validation", val)):
        with named_source(sources[name]):
            whose = f"{name} {modality.noun}"
            _check_jets(name, jets, modality, inputs)
            if classes and not objective.detects_anomalies:
                _check_labels(whose, jets, classes)
            check_targets(jets, objective, whose, units=jets is train)
            check_labels(jets, objective, whose)
    if classes and not objective.detects_anomalies and _named(val) not in (None, classes):
        raise InputError(
            f"the validation {modality.noun} have the classes {', '.join(_named(val) or [])}, "
            f"the training {modality.noun} {', '.join(classes)}"
        )
    keys = [modality.keys(jets) for jets in (train, val)]
    has_labels = bool(classes) and not objective.detects_anomalies
    labels = [_labels_of(jets, has_labels) for jets in (train, val)]
    for name, values in zip(("training", "validation"), labels, strict=True):
        if has_labels:
            warn_of_classes(values, classes, f"{name} {modality.noun}")
    columns = used_columns(config, modality)
    hashes = {
        "train": streamed.hashes if streamed else modality.hashes(train, columns),
        "val": modality.hashes(val, columns),
    }
    stored = hashes
    if one_sample:  # the fingerprint is that of all jets of a split, which studies read again
        stored = {n: modality.hashes(s, columns) for n, s in zip(hashes, whole, strict=True)}
    if config.overfit is None:
        # the momenta of a stream are in its files
        content = [*hashes.values()] if streamed else _content_keys(modality, [train, val], keys)
        warn_of_repetitions(content, labels, modality.noun)
    if test is not None:
        stored["test"] = test.hashes
    place = {} if storage is MEMORY else {"storage": storage}
    val_data = modality.dataset(val, inputs, **place)
    train_data = streamed.dataset(inputs) if streamed else modality.dataset(train, inputs, **place)
    parts = (("training", train, train_data), ("validation", val, val_data))
    for name, jets, data in parts:
        whose = f"the {name} {modality.noun}"
        if objective.targets:
            data.set_targets(targets_of(jets, objective))
        if objective.of_labels:
            labels_of_rows = labels_of(jets, objective, collections_of(inputs))
            cast(JetDataset, data).set_particle_labels(labels_of_rows)
        with named_source(sources[name]):
            checked = modality.dataset(few, inputs) if streamed and jets is train else data
            modality.check_inputs(checked, whose, is_training=name == "training")
            objective.check(data, f"{name} {modality.noun}")
    identity = JetsOfRun.of(stored, keys[0], train_data, val_data)
    every = train.attrs.get(COLUMNS, modality.fields(train))
    fields = [name for name in every if name != SPLIT_KEY]
    return TrainingData(modality, train_data, val_data, objective, fields, identity)


def _streamed(config: TrainConfig, modality: Modality, storage: Storage) -> StreamedJets:
    """Training jets that stay in their files, and the splits that are drawn from them."""
    options = config.inputs
    fractions = _fractions(options, modality.own_splits(options.data))
    columns = used_columns(config, modality)
    collectors: dict[str, Any] = {}
    drawing = (fractions, options.split_seed)
    if "val" in fractions:
        collectors["val"] = SampleCollector(
            modality,
            "val",
            fractions,
            options.max_val_jets,
            options.split_seed,
            test=options.test_numbers,
            storage=storage,
        )
    if "test" in fractions:
        collectors["test"] = HashCollector(
            modality, "test", *drawing, columns, options.test_numbers
        )
    streamed = index_stream(config, fractions, columns, collectors)
    noun = modality.noun
    for name, number in {"train": len(streamed.train), **streamed.numbers(collectors)}.items():
        if number == 0:
            raise InputError(f"too few {noun} to take {name} {noun} from them")
    if "val" not in fractions:
        (val,) = load_splits(config, "val", as_datasets=True, storage=storage)
        streamed = replace(streamed, val=val)
    return streamed


def _check_detector(config: TrainConfig, modality: Modality) -> None:
    """Refuse an anomaly detector with another objective than ``anomaly``, and this for taggers."""
    detects = config.objectives.detects_anomalies
    if detects and not modality.detects_anomalies:
        names = [*list_models("anomalous_cloud"), *list_models("anomalous_image")]
        raise InputError(
            f"objective anomaly needs an anomaly detector, not model {config.model!r}: take one of "
            f"{', '.join(names)}"
        )
    if not detects and modality.detects_anomalies:
        raise InputError(
            f"model {config.model!r} is an anomaly detector: it needs --objective anomaly"
        )


def _check_generator(config: TrainConfig, modality: Modality) -> None:
    """Refuse a generator with another objective than ``generate``, and this for other networks."""
    generates = config.objectives.generates
    if generates and modality.gives_scores:
        raise InputError(
            f"objective generate needs a generator, not model {config.model!r}: take one of "
            f"{', '.join(list_models('generator'))}"
        )
    if not generates and not modality.gives_scores:
        raise InputError(f"model {config.model!r} is a generator: it needs --objective generate")


def _check_particles(config: TrainConfig) -> None:
    """Refuse objectives of particles for a network without a representation of each."""
    parts = [part for part in config.objectives.specifications if part.learns_particles]
    if not parts or offers_particles(config.model):
        return
    others = ", ".join(name for name in list_models() if offers_particles(name))
    raise InputError(
        f"objective {parts[0].target}:{parts[0].kind} needs a representation of each particle, and "
        f"model {config.model!r} has none: take one of {others}"
    )


def collections_of(inputs: Inputs) -> list[str]:
    """Names of the further collections of some inputs, in the order of their rows."""
    return [part.name for part in getattr(inputs, "collections", ())]


def _objective(config: TrainConfig, train: Sample, source: Source, inputs: Inputs) -> Several:
    """Objective of a configuration, not yet fitted to the training jets."""
    wanted = config.objectives
    with named_source(source):
        classes = _classes(train, _modality(config).noun) if wanted.has_classes else []
        if wanted.mix is not None and len(classes) != 2:
            raise InputError(f"mix is for two classes, and these are {', '.join(classes)}")
        of_labels = classes_of_labels(train, wanted.specifications, "training jets")
    weights = wanted.objective_weights
    return make_objective(
        wanted.specifications,
        classes=classes,
        class_weights=config.class_weights,
        class_loss=config.objectives.loss,
        transforms=train.attrs.get(TRANSFORMS),
        weights=weights if isinstance(weights, list) else None,
        learned=weights == "learned",
        particle_classes=of_labels,
        collections=collections_of(inputs),
    )


def used_columns(config: TrainConfig, modality: Modality) -> Sequence[str]:
    """Names of the columns that inputs and targets of a run use."""
    columns = modality.used_columns(config.inputs)
    wanted = config.objectives.specifications
    truth = [
        f"{'particle_labels' if part.learns_particles else 'targets'}.{part.target}"
        for part in wanted
        if not (part.learns_classes or part.learns_masked or part.generates)
    ]
    return [*columns, *truth]


def _labels_of(jets: Sample, is_learned: bool) -> np.ndarray:
    """Labels (B,), 0 where they are not learned."""
    return np.asarray(jets.label) if is_learned else np.zeros(len(jets), dtype=np.int64)


def _content_keys(
    modality: Modality, samples: Sequence[Sample], keys: Sequence[Keys]
) -> Sequence[Keys]:
    """Keys (B,) by which equal entries are found; jets of one event have the same key, too."""
    all_keys = np.concatenate(keys)
    if len(np.unique(all_keys)) == len(all_keys):
        return keys
    return [modality.content_keys(sample) for sample in samples]


def _training_samples(
    config: TrainConfig, modality: Modality, storage: Storage
) -> tuple[Sample, Sample, HashCollector | None]:
    """Training and validation jets, and hashes of the test jets if these are drawn from them."""
    fractions = _fractions(config.inputs, modality.own_splits(config.data))
    if config.inputs.split != "key" or "test" not in fractions:
        train, val = load_splits(config, "train", "val", as_datasets=True, storage=storage)
        return train, val, None
    columns = used_columns(config, modality)
    test = HashCollector(
        modality, "test", fractions, config.split_seed, columns, config.inputs.test_numbers
    )
    options: dict[str, Any] = {"as_datasets": True, "storage": storage}
    train, val = _drawn(config, fractions, ("train", "val"), test, **options)
    return train, val, test


def load_splits(
    config: TrainConfig,
    *splits: str,
    inputs: Inputs | None = None,
    as_datasets: bool = False,
    storage: Storage = MEMORY,
) -> list[Sample]:
    """Jets or images of splits of a configuration: ``"train"``, ``"val"`` or ``"test"``.

    A split is what the configuration names for it, else the split of this name of the source of
    the training jets, else a part of the training jets, drawn with `split_seed`. Files of jets are
    read in chunks, and only the jets of the splits are held.

    Parameters
    ----------
    config : TrainConfig
        Configuration.
    *splits : str
        Names of the splits.
    inputs : Inputs, optional
        Inputs of a network for which the jets are read, if they are others than those that the
        configuration names.
    as_datasets : bool
        If True, the check of the free memory includes that of data sets of these jets.
    storage : Storage
        Place of the jets. Only those in memory are checked to fit into it.

    Raises
    ------
    InputError
        If the configuration has no such split, or there are too few jets to be split.
    """
    options = config.inputs
    fractions = _fractions(options, _modality(config).own_splits(options.data))
    sources = {split: _source(config, split, fractions) for split in splits}
    drawn = [split for split, source in sources.items() if source is None]
    reading: dict[str, Any] = {"inputs": inputs, "as_datasets": as_datasets, "storage": storage}
    found = dict(zip(drawn, _drawn(config, fractions, drawn, **reading), strict=True))
    for split, source in sources.items():
        if source is not None:
            limit = _limits(options).get(split)
            found[split] = load_jets(source, config, split, limit, **reading)
    return [found[split] for split in splits]


def iter_split(
    config: TrainConfig, split: str, chunk_size: int, inputs: Inputs | None = None
) -> Iterator[Sample]:
    """Jets or images of one split in chunks of `chunk_size`.

    They are those of :func:`load_splits`, in the same order; fewer of them are in memory.

    Raises
    ------
    InputError
        As from :func:`load_splits`.
    """
    modality, options = _modality(config), config.inputs
    fractions = _fractions(options, modality.own_splits(options.data))
    source = _source(config, split, fractions)
    is_permuted = source is None and options.split != "key"
    if is_permuted or _limits(options).get(split) is not None:
        return slices(load_splits(config, split, inputs=inputs)[0], chunk_size)
    if source is not None:
        return iter_source(source, config, split, chunk_size, inputs)
    return _iter_drawn(config, fractions, split, chunk_size, inputs)


def _iter_drawn(
    config: TrainConfig,
    fractions: dict[str, float],
    split: str,
    chunk_size: int,
    inputs: Inputs | None,
) -> Iterator[Sample]:
    """Jets of a split that is drawn from the training jets, in chunks."""
    modality, options = _modality(config), config.inputs
    number, chunks = modality.chunks(options.data, "train", options, inputs)
    parts = select_split(
        modality, chunks, split, fractions, options.split_seed, options.test_numbers
    )
    for part in rechunk(modality, parts, chunk_size):
        if len(part) == 0:
            raise _too_few(number, split, modality)
        yield part
        del part


def iter_source(
    source: Source,
    config: TrainConfig,
    split: str,
    chunk_size: int,
    inputs: Inputs | None = None,
) -> Iterator[Sample]:
    """Jets or images of :func:`load_jets` in chunks of `chunk_size`, at least one."""
    modality = _modality(config)
    _, chunks = modality.chunks(source, split, config.inputs, inputs)
    return rechunk(modality, chunks, chunk_size)


def slices(sample: Sample, size: int) -> Iterator[Sample]:
    """Slices of `size` entries of a sample, at least one."""
    return (sample[start : start + size] for start in range(0, max(1, len(sample)), size))


def load_jets(
    source: Source,
    config: TrainConfig,
    split: str = "train",
    limit: int | None = None,
    *,
    inputs: Inputs | None = None,
    as_datasets: bool = False,
    storage: Storage = MEMORY,
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
    inputs, as_datasets, storage
        As for :func:`load_splits`.

    Raises
    ------
    UnknownNameError
        If `source` is neither a data set nor a path.
    """
    modality, options = _modality(config), config.inputs
    if limit is not None and options.split != "key":
        return modality.load(source, split, options, limit)
    share = 1.0 if limit is None and storage is MEMORY else 0.0
    number, chunks = modality.chunks(
        source, split, options, inputs, share=share, as_dataset=as_datasets
    )
    sample = SampleCollector(
        modality, split, {"train": 1.0}, limit, options.split_seed, number, storage=storage
    )
    collect(modality, chunks, [sample])
    return sample.sample()


def _source(config: TrainConfig, split: str, fractions: dict[str, float]) -> Source | None:
    """Source of a split; None if it is drawn from the training jets."""
    modality, options = _modality(config), config.inputs
    if len(fractions) > 1 and split in fractions:
        return None
    named = {"train": options.data, "val": options.val, "test": options.test}
    if (source := named.get(split)) is not None:
        return source
    if split in modality.own_splits(options.data):
        return options.data
    raise InputError(f"the run has no {split} {modality.noun}: name a file")


def _modality(config: TrainConfig) -> Modality:
    with config.code_names():
        return modality_of_model(config.model)


def _limits(config: DataConfig) -> dict[str, int | None]:
    """Maximum number of jets of each split."""
    return {"train": config.max_jets, "val": config.max_val_jets}


def _fractions(config: DataConfig, own: Sequence[str]) -> dict[str, float]:
    """Fractions of the training jets used for each split; only "train" where all are used."""
    parts = {"train": 1.0}
    part = config.part
    if part is not None and own:
        raise InputError(
            f"fold {part} draws the test jets from all jets, but {first_of(config.data)} has the splits "
            f"{', '.join(own)}: give its files"
        )
    if config.val is None and "val" not in own:
        parts["val"] = config.val_fraction
        if config.test is None and "test" not in own:
            parts["test"] = config.test_fraction if part is None else 1 / part.number
    parts["train"] -= sum(parts.values()) - 1.0
    return parts


def _drawn(
    config: TrainConfig,
    fractions: dict[str, float],
    splits: Sequence[str],
    *others: HashCollector,
    inputs: Inputs | None = None,
    as_datasets: bool = False,
    storage: Storage = MEMORY,
) -> list[Sample]:
    """Jets of splits that are drawn from the training jets, which are read once."""
    options, modality = config.inputs, _modality(config)
    if not splits:
        return []
    if options.split != "key":
        reading: dict[str, Any] = {"inputs": inputs, "as_datasets": as_datasets}
        return _permuted(config, fractions, splits, **reading, storage=storage)
    limits = _limits(options)
    share = sum(fractions[split] for split in splits if limits.get(split) is None)
    share *= storage is MEMORY
    expected, chunks = modality.chunks(
        options.data, "train", options, inputs, share=share, as_dataset=as_datasets
    )
    parts = [
        SampleCollector(
            modality,
            split,
            fractions,
            limits.get(split),
            options.split_seed,
            expected,
            options.test_numbers,
            storage,
        )
        for split in splits
    ]
    number = collect(modality, chunks, [*parts, *others])
    samples = [part.sample() for part in parts]
    for split, sample in zip(splits, samples, strict=True):
        if len(sample) == 0:
            raise _too_few(number, split, modality)
    for other in others:
        if len(other.hashes) == 0:
            raise _too_few(number, other.split, modality)
    return samples


def _permuted(
    config: TrainConfig, fractions: dict[str, float], splits: Sequence[str], **reading: Any
) -> list[Sample]:
    """Parts of a permutation of the training jets, as in runs before splits by keys."""
    options, modality = config.inputs, _modality(config)
    seed = options.split_seed
    whole = load_jets(options.data, config, **reading)
    parts = modality.split(whole, fractions, seed)
    for split in splits:
        if len(parts[split]) == 0:
            raise _too_few(len(whole), split, modality)
    limits = _limits(options)
    return [modality.subsample(whole[parts[s]], limits.get(s), seed) for s in splits]


def _too_few(number: int, split: str, modality: Modality) -> InputError:
    noun = modality.noun
    return InputError(
        f"{number} {noun} are too few to take {split} {noun} from them: name files for them "
        f"({'data' if split == 'train' else split}), or another split_seed"
    )


def _named(jets: Sample) -> list[str] | None:
    """Names of the classes, or None where they are not known."""
    names = jets.attrs.get("classes")
    return list(names) if names else None


def _classes(jets: Sample, noun: str) -> list[str]:
    if "label" not in jets.fields:
        columns = jets.attrs.get(COLUMNS, ())
        known = f"; their columns are {', '.join(columns[:_NUM_SHOWN_COLUMNS])}" if columns else ""
        raise InputError(f"the training {noun} have no labels{known}")
    return _named(jets) or _unnamed_classes(np.asarray(jets.label))


def _unnamed_classes(labels: np.ndarray) -> list[str]:
    """Names "0", "1", ... of classes that have no names.

    Raises
    ------
    InputError
        If most of the classes have no jets, or there are too many.
    """
    values = np.unique(labels)
    number = int(values.max(initial=0)) + 1
    num_empty = number - len(values)
    remedy = "name the classes with their values in the schema, such as classes="
    if len(values) > _MAX_UNNAMED_CLASSES:
        raise InputError(
            f"the label has {len(values):,} different values from {values[0]} to {values[-1]} in "
            f"{len(labels):,} jets: is it a class, or the number of an event? Otherwise {remedy}"
            f"{{'first': {values[0]}, 'second': {values[1]}}}"
        )
    if len(values) > 1 and 2 * num_empty >= number:
        shown = ", ".join(map(str, values[:_NUM_SHOWN_VALUES]))
        more = ", ..." if len(values) > _NUM_SHOWN_VALUES else ""
        named = ", ".join(f"'class{value}': {value}" for value in values[:_NUM_SHOWN_VALUES])
        raise InputError(
            f"the label has the values {shown}{more}: {num_empty:,} of {number:,} classes have no "
            f"jets; {remedy}{{{named}{more}}}"
        )
    return [str(i) for i in range(number)]


def _check_jets(name: str, jets: Sample, modality: Modality, inputs: Inputs) -> None:
    if len(jets) == 0:
        raise InputError(f"there are no {name} {modality.noun}")
    modality.check(jets, inputs, f"the {name} {modality.noun}")


def _check_labels(whose: str, jets: Sample, classes: list[str]) -> None:
    if "label" not in jets.fields:
        raise InputError(f"the {whose} have no labels")
    labels = np.asarray(jets.label)
    outside = (labels < 0) | (labels >= len(classes))
    if outside.any():
        raise InputError(
            f"{outside.sum()} of the {whose} have labels outside 0 to {len(classes) - 1}, "
            f"the classes {', '.join(classes)}; the first is {labels[outside.argmax()]}"
        )
    if labels.min() == labels.max():
        raise InputError(
            f"all {len(labels)} {whose} are {classes[labels[0]]!r}: "
            "learning to tell classes apart needs at least two"
        )
