"""The kinds of data, jets, images, tables and series, behind one protocol.

What comes after a model (training, run folder, studies, report) knows no kind of data: it asks the
:class:`Modality` of the model. A kind is a class with this contract, registered by
:func:`register_modality`.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.batch import JetLoader, StreamLoader
from pcloud.errors import InputError, UnknownNameError, nearest
from pcloud.io.read import COLUMNS
from pcloud.keys import Keys, labelled
from pcloud.models.registry import build_model, model_factory, model_info
from pcloud.plugins import load_plugins
from pcloud.words import number_of

__all__ = [
    "Accumulator",
    "DataOptions",
    "Dataset",
    "Indices",
    "Inputs",
    "Loader",
    "Modality",
    "Sample",
    "Source",
    "SourceSize",
    "find_modality",
    "first_of",
    "list_modalities",
    "modality_of_model",
    "named_source",
    "random_parts",
    "register_modality",
]

Indices = NDArray[np.integer]
Source = str | Sequence[str] | Mapping[str, str | Sequence[str]]
"""Name of a data set, files, or files of each class by its name."""


def first_of(source: Source) -> str:
    """First file of a source, or its name."""
    while not isinstance(source, str):
        source = next(iter(source.values() if isinstance(source, Mapping) else source))
    return source


@contextmanager
def named_source(source: Source) -> Iterator[None]:
    """Name the first file of a source in the input errors inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{first_of(source)}: {error}") from error


Loader: TypeAlias = JetLoader | StreamLoader
"""Loader of batches, which can be continued after any of them."""

Sample: TypeAlias = Any
"""Jets, images or other data as read from a file: see :class:`Modality`."""


class DataOptions(Protocol):
    """Options of reading and drawing data, see :class:`pcloud.training.config.DataConfig`."""

    @property
    def data(self) -> Any:
        """Training data."""

    @property
    def features(self) -> Any:
        """Name of a feature set, or names of features."""

    @property
    def jet_features(self) -> Any:
        """Features with one value per jet."""

    @property
    def collections(self) -> Any:
        """Further collections of the jets; None for all of them."""

    @property
    def standardise(self) -> str:
        """``"auto"`` if features without a standardisation get one from the training jets."""

    @property
    def schema(self) -> Any:
        """Schema of the files; None to detect it."""

    @property
    def data_root(self) -> str | None:
        """Folder of the public samples."""

    @property
    def on_bad_jet(self) -> str:
        """Treatment of entries that cannot be used: ``"error"`` or ``"drop"``."""

    @property
    def check_units(self) -> bool:
        """True to refuse files that are probably in another unit."""

    @property
    def split(self) -> str:
        """Method of splits and subsamples: ``"key"`` or ``"permutation"``."""

    @property
    def split_seed(self) -> int:
        """Seed of splits and subsamples."""

    @property
    def canvas(self) -> int | None:
        """Side in pixels of the image in which each image is placed at random; None to leave it."""

    @property
    def turned(self) -> Literal["any", "quarter"] | None:
        """Random rotation of each image; None for none."""


class Inputs(Protocol):
    """Inputs of a network with their standardisation, such as a feature set."""

    kind: ClassVar[str]
    """Name of the modality."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs; empty if they have none."""

    @property
    def standardisation(self) -> Any:
        """Standardisation of each input in the order of `names`; without names, of all inputs."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the data must have."""

    @property
    def jet_columns(self) -> tuple[str, ...]:
        """Columns with one row per entry that the data must have."""

    def __len__(self) -> int:
        """Number of input features of a network."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""


class Dataset(Protocol):
    """Entries in memory with the inputs of a network."""

    y: Tensor | None
    """Labels (B,)."""
    teacher: Tensor | None
    """Logits (B, C) of a teacher network for distillation."""
    targets: Tensor | None
    """Quantities (B, T) to learn, NaN where an entry has none."""

    @property
    def feature_set(self) -> Inputs:
        """Inputs of a network."""

    def __len__(self) -> int:
        """Number of entries B."""

    def set_targets(self, targets: Tensor) -> None:
        """Replace the targets (B, T)."""

    def to_bytes(self) -> bytes:
        """Content that identifies the data, for a checksum."""


@dataclass(frozen=True)
class SourceSize:
    """Size of the entries of a source in memory.

    Parameters
    ----------
    entries : int
        Number of entries.
    sample_bytes, dataset_bytes : float
        Memory of the entries as read, and of data sets of them, in bytes.
    can_stream : bool
        True if training can read them from their files in every epoch.
    """

    entries: int
    sample_bytes: float
    dataset_bytes: float
    can_stream: bool = False


S = TypeVar("S", bound=Sample)
I = TypeVar("I", bound=Inputs)  # noqa: E741
D = TypeVar("D", bound=Dataset)


class Accumulator(Generic[S]):
    """Sample to which parts can be appended; this one takes a single part with entries.

    Parameters
    ----------
    noun : str
        Plural noun for messages.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._sample: S | None = None

    def append(self, sample: S) -> None:
        """Append a sample. The first one has the types, even if it is empty.

        Raises
        ------
        InputError
            If there are several parts and the kind of data has no way to concatenate them.
        """
        if self._sample is None or len(self._sample) == 0:
            self._sample = sample
        elif len(sample):
            raise InputError(f"{self._noun} that are read in chunks cannot be concatenated")

    def finish(self) -> S:
        """Return the sample; nothing can be appended afterwards."""
        assert self._sample is not None
        return self._sample


class Modality(Protocol[S, I, D]):
    """A kind of data, from its files to the arguments of a network.

    A *sample* is what is read from a file: it has a length, `fields`, `label` and `attrs`, and can
    be indexed by slices and index arrays, as an array of jets. *Inputs* describe what a network
    takes, and a *data set* is a sample with its inputs.

    Attributes
    ----------
    kind : str
        Name, the `kind` of :func:`pcloud.register_model`.
    noun : str
        Plural noun for messages, such as ``"jets"``.
    first_argument : str
        Name of the first argument of a network, by which the kind of a ``file:Class`` is found.
    sample_type : type
        Class of the samples.
    has_momenta : bool
        True if an entry is a set of four-momenta, which physics studies change.
    detects_anomalies : bool
        True for networks that are trained by the objective ``anomaly``.
    gives_scores : bool
        False for a generator, whose objective is ``generate``.
    stores_in_files : bool
        True if :meth:`accumulator` and :meth:`dataset` take a `storage`, see :mod:`pcloud.storage`,
        and :meth:`size` is known.
    """

    kind: str
    noun: str
    first_argument: str
    sample_type: type
    has_momenta: bool = False
    detects_anomalies: bool = False
    gives_scores: bool = True
    stores_in_files: bool = False

    def number_of(self, number: int, which: str = "") -> str:
        """A number and the noun: ``"1,200 jets"``, ``"1 training jet"``."""
        return number_of(number, f"{which} {self.noun.removesuffix('s')}".lstrip())

    @abstractmethod
    def own_splits(self, source: Source) -> Sequence[str]:
        """Names of the splits that a source has itself; empty if they have to be drawn.

        Raises
        ------
        UnknownNameError, FileNotFoundError
            If there is no such source.
        """

    @abstractmethod
    def load(self, source: Source, split: str, options: DataOptions, limit: int | None = None) -> S:
        """Read a split of a source, or all of a source without splits.

        Parameters
        ----------
        source : str or sequence of str
            Name of a data set, or files.
        split : str
            Name of the split.
        options : DataOptions
            Options of reading.
        limit : int, optional
            Maximum number of entries, drawn by :meth:`subsample`.
        """

    @abstractmethod
    def stream(
        self, source: Source, *, chunk_size: int, inputs: I, **reading: Any
    ) -> tuple[int, Iterable[S]]:
        """Number of entries of files to predict, and the entries in chunks.

        Parameters
        ----------
        source : str or sequence of str
            Files.
        chunk_size : int
            Number of entries per chunk.
        inputs : Inputs
            Inputs of the network; columns that they do not need can be left out.
        **reading
            `schema`, `on_bad_jet` and `check_units`, as for :func:`pcloud.read_jets`.
        """

    def fits_schema(self, source: Source, schema: Any) -> bool:
        """Return whether files have the columns of a schema, apart from label and weight."""
        return False

    def chunks(
        self,
        source: Source,
        split: str,
        options: DataOptions,
        inputs: I | None = None,
        *,
        share: float = 0.0,
        as_dataset: bool = False,
    ) -> tuple[int, Iterable[S]]:
        """Approximate number of entries, and a split of a source (or all of it) in chunks.

        By default, the only chunk is what :meth:`load` returns.

        Parameters
        ----------
        source, split, options
            As for :meth:`load`.
        inputs : Inputs, optional
            Inputs of a network, if others than those that the options name are needed, too.
            Columns that neither needs can be left out.
        share : float
            Fraction of the entries that will be held in memory, which is checked to be free.
        as_dataset : bool
            If True, data sets of these entries will be held, too.

        Raises
        ------
        InputError
            If there is clearly too little memory.
        """
        sample = self.load(source, split, options)
        return len(sample), [sample]

    def size(self, source: Source, split: str, options: DataOptions) -> SourceSize:
        """Size of a source in memory, estimated from its first entries; 0 if it is there already."""
        return SourceSize(0, 0.0, 0.0)

    def accumulator(self, num_entries: int = 0) -> Accumulator[S]:
        """Sample to which parts of chunks are appended.

        A kind of data with several chunks needs an accumulator of its own.

        Parameters
        ----------
        num_entries : int
            Approximate number of entries, for which memory can be reserved.
        """
        return Accumulator(self.noun)

    @abstractmethod
    def keys(self, sample: S) -> Keys:
        """Key (B,) of each entry, a hash of its content that decides its split.

        :func:`pcloud.keys.row_keys` gives the keys of arrays.
        """

    def content_keys(self, sample: S) -> Keys:
        """Key (B,) of each entry from its content alone, which equal entries share."""
        return self.keys(sample)

    def hashes(self, sample: S, columns: Sequence[str] = ()) -> Keys:
        """Hash (B,) of each entry with its label and some columns, for a fingerprint."""
        keys = self.keys(sample)
        return labelled(keys, np.asarray(sample.label)) if "label" in sample.fields else keys

    def used_columns(self, options: DataOptions) -> Sequence[str]:
        """Names of the columns that the inputs use besides what the key is made of."""
        return ()

    def split(self, sample: S, fractions: Mapping[str, float], seed: int) -> dict[str, Indices]:
        """Indices of each part of a sample, sorted, in the runs before splits by keys.

        The fractions have the sum 1.
        """
        parts = random_parts(np.arange(len(sample)), fractions, np.random.default_rng(seed))
        return {name: np.sort(part) for name, part in parts}

    def subsample(self, sample: S, limit: int | None, seed: int) -> S:
        """Draw at most `limit` entries, in their order, in the runs before draws by keys."""
        if limit is None or len(sample) <= limit:
            return sample
        return sample[np.sort(np.random.default_rng(seed).permutation(len(sample))[:limit])]

    @abstractmethod
    def fit_inputs(self, sample: S, options: DataOptions) -> I:
        """Inputs that the options name, or that follow from the training sample."""

    def as_known(self, inputs: I, known: Any, options: DataOptions) -> I:
        """Inputs with the standardisation of `known` ones, where it would be fitted."""
        return inputs

    def inputs_for(self, model: str, inputs: I, options: DataOptions) -> I:
        """Inputs in the form that a model takes, by its name."""
        return inputs

    def check_options(self, options: DataOptions) -> None:
        """Refuse options of another kind of data, before data are read.

        Raises
        ------
        InputError
            If one is given.
        """
        for name in ("canvas", "turned"):
            if getattr(options, name) is not None:
                raise InputError(f"{name} is for images, and the network takes {self.noun}")

    def describe_inputs(self, inputs: I, options: DataOptions) -> list[str]:
        """Lines that tell what the options do not say of fitted inputs."""
        return []

    def check_inputs(self, data: D, whose: str, *, is_training: bool = True) -> None:
        """Check the inputs of a data set before a training.

        Parameters
        ----------
        data : data set
            Entries with their inputs.
        whose : str
            Name of the entries in messages, such as ``"the training jets"``.
        is_training : bool
            True for training entries, False for validation.

        Raises
        ------
        InputError
            If a network cannot learn from them.
        """
        return

    @abstractmethod
    def inputs_from_dict(self, values: dict[str, Any]) -> I:
        """Inverse of ``inputs.to_dict()``."""

    def computed_inputs(self) -> Sequence[str]:
        """Names of inputs that are computed, for the suggestions of error messages."""
        return ()

    def flatten(self, sample: Any) -> tuple[S, Callable[[Any], Any]]:
        """Entries to score, and the function that gives their scores the form of the sample.

        Parameters
        ----------
        sample : sample, or what users have in its place
            The entries as given to :meth:`pcloud.Run.predict`.
        """
        return sample, lambda scores: scores

    @abstractmethod
    def dataset(self, sample: S, inputs: I) -> D:
        """Data set of a sample.

        Raises
        ------
        InputError
            If the sample does not fit the inputs.
        """

    @abstractmethod
    def loader(self, data: D, batch_size: int = 512, **options: Any) -> Loader:
        """Loader of batches, with the options of :class:`pcloud.JetLoader`."""

    @abstractmethod
    def arguments(self, batch: Any) -> tuple[Any, ...]:
        """Arguments of a network for a batch of the loader."""

    def fields(self, sample: S) -> Sequence[str]:
        """Names of the columns of a sample."""
        return sample.fields

    def available_columns(self, fields: Iterable[str]) -> Sequence[str]:
        """Columns of data with these fields, including those that can be computed."""
        return list(fields)

    def model_options(self, name: str, inputs: I) -> dict[str, Any]:
        """Options of a model that follow from its inputs."""
        return {}

    def check_network(self, name: str, options: DataOptions) -> None:
        """Check before data are read that a model can take the inputs that the options name.

        Raises
        ------
        InputError
            If it cannot.
        """
        return

    def network(self, name: str, inputs: I, num_outputs: int, options: dict[str, Any]) -> nn.Module:
        """Build a network with random weights for some inputs."""
        return build_model(name, in_features=len(inputs), num_outputs=num_outputs, **options)

    def stored_network(self, network: nn.Module, inputs: I) -> nn.Module:
        """Network for entries as they are stored in files."""
        return network

    def pixels(self, sample: S, inputs: I) -> Tensor | None:
        """Inputs (B, C, H, W) of a network as pixels; None if they are none."""
        return None

    def rows(self, sample: S, inputs: I, missing: float = 0.0) -> Tensor | None:
        """Inputs (B, F) of a network, one per name, with `missing` for missing values.

        None if the inputs are not one row of numbers per entry.
        """
        return None

    def check(self, sample: Sample, inputs: I, whose: str) -> None:
        """Check that a network can take a sample.

        Parameters
        ----------
        sample : sample of any kind
            The sample.
        inputs : Inputs
            Inputs of the network.
        whose : str
            Name of the sample in messages, such as ``"these jets"``.

        Raises
        ------
        InputError
            If columns are missing, all of which the message names, or the sample is of another kind.
        """
        available = self.available_columns(self.fields(sample))
        needed = (*inputs.columns, *inputs.jet_columns)
        if missing := [column for column in needed if column not in available]:
            known = {*available, *self.computed_inputs()}
            near = [name for column in missing if (name := nearest(column, sorted(known)))]
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"the features need {', '.join(missing)}, which {whose} do not have; "
                f"they have {', '.join(sample.attrs.get(COLUMNS, self.fields(sample)))}{hint}"
            )
        if isinstance(sample, self.sample_type):
            return
        for other in _registry().values():
            if isinstance(sample, other.sample_type):
                raise InputError(f"this network takes {self.noun}, and these are {other.noun}")


_REGISTERED: dict[str, Modality] = {}
_HOMES = (  # modules that register a modality on import
    "pcloud.clouds",
    "pcloud.images.modality",
    "pcloud.tables.modality",
    "pcloud.series.modality",
    "pcloud.anomaly.modality",
    "pcloud.generative.modality",
)


def register_modality(modality: Modality) -> Modality:
    """Register a kind of data under its name.

    Raises
    ------
    ValueError
        If the name is taken.
    """
    if modality.kind in _REGISTERED:
        raise ValueError(f"a modality named {modality.kind!r} exists already")
    _REGISTERED[modality.kind] = modality
    return modality


def list_modalities() -> list[str]:
    """Names of the kinds of data."""
    return sorted(_registry())


def find_modality(kind: str) -> Modality:
    """Kind of data by its name.

    Raises
    ------
    UnknownNameError
        If there is none of this name.
    """
    if kind not in _registry():
        raise UnknownNameError("modality", kind, _registry())
    return _registry()[kind]


def modality_of_model(name: str) -> Modality:
    """Kind of data of a model; that of a class from a file follows from its first argument."""
    if ":" not in name:
        return find_modality(model_info(name).kind)
    factory = model_factory(name)
    arguments = list(inspect.signature(getattr(factory, "forward", factory)).parameters)
    for modality in _registry().values():
        if arguments[:2] == ["self", modality.first_argument]:
            return modality
    return find_modality("cloud")


def random_parts(
    indices: Indices, fractions: Mapping[str, float], rng: np.random.Generator
) -> Iterator[tuple[str, Indices]]:
    """Divide indices (n,) at random into parts of the given fractions, whose sum is 1."""
    bounds = np.rint(np.cumsum(list(fractions.values()))[:-1] * len(indices)).astype(int)
    return zip(fractions, np.split(rng.permutation(indices), bounds), strict=True)


def _registry() -> dict[str, Modality]:
    for home in _HOMES:
        import_module(home)
    load_plugins("pcloud.models")  # a kind of data comes with its models
    return _REGISTERED
