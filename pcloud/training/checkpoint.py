"""Checkpoints: whole or absent on disk, read without running code, and self-describing.

A checkpoint holds plain values and tensors: name and options of the model, its weights, the
feature set with its standardisation and the classes, and in ``last.ckpt`` the state of the run.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Len
from torch import Tensor, nn
from typing_extensions import NotRequired, TypedDict

from pcloud.errors import InputError, UnknownNameError, UnreadableFileWarning
from pcloud.modality import Inputs, Modality, find_modality, modality_of_model
from pcloud.models.old_names import current_options
from pcloud.models.registry import check_code
from pcloud.models.size import limited_size
from pcloud.models.trust import stored_names
from pcloud.objectives.build import objective_from_dict
from pcloud.objectives.classes import Classes
from pcloud.objectives.several import Several
from pcloud.run_files import CHECKPOINT_FOLDER, make_folder, write_atomic
from pcloud.stored_values import KEEP_UNKNOWN, Count, Name, Names, PlainOptions, tensor
from pcloud.training.state import RandomState, RunState
from pcloud.training.tensor_file import read_tensors
from pcloud.validation import Checked, checked

__all__ = [
    "PREVIOUS",
    "Tagger",
    "checkpoint_errors",
    "checkpoint_path",
    "keep_previous",
    "read_checkpoint",
    "read_last_checkpoint",
    "read_tagger",
    "size_of",
    "write_checkpoint",
]

PREVIOUS = "previous"
"""Name of the checkpoint before the last one, which an unfinished run keeps."""

_FORMAT = 1
_MAX_CACHE = 5 * 10**7  # numbers in buffers that are not stored, 200 MB
_MAX_REASON = 300  # characters


def _can_be_weights(weight: Tensor) -> None:
    if weight.is_complex() or weight.layout != torch.strided or weight.is_quantized:
        raise InputError(f"weights of type {weight.dtype} and layout {weight.layout}")
    if weight.is_floating_point() and weight.isnan().any():
        raise InputError("weights with NaN")


class StoredTagger(TypedDict):
    """Part ``tagger`` of a checkpoint."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    format: Literal[1]
    name: Name
    options: PlainOptions
    features: dict[str, Any]
    classes: Names | Annotated[list[Name], Len(0, 0)]
    objective: NotRequired[dict[str, Any]]
    weights: dict[Name, Annotated[Tensor, tensor(_can_be_weights)]]


class _Metrics(TypedDict):
    """Sums of the metrics of an epoch that is not finished."""

    jets: Count
    loss: float
    correct: float
    weight: NotRequired[float]
    parts: NotRequired[dict[Name, float]]


class _Training(TypedDict):
    """Part ``run`` of a checkpoint: the state of a training."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    state: Annotated[dict[str, Any], Checked(lambda state: checked(RunState, state).to_dict())]
    optimizer: dict[Any, Any]
    scheduler: dict[str, Any]
    train_metrics: _Metrics
    random: RandomState
    shards: NotRequired[Count]
    random_of_ranks: NotRequired[list[RandomState]]
    fingerprint: dict[str, Any]


class _Checkpoint(TypedDict):
    """Content of a checkpoint."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    tagger: StoredTagger
    run: NotRequired[_Training]


class _Resumable(TypedDict):
    """Content of a checkpoint from which a training continues."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    tagger: StoredTagger
    run: _Training


@dataclass
class Tagger:
    """A network and all one must know to use it.

    Attributes
    ----------
    model : torch.nn.Module
        ``model(x, p4, batch) -> outputs (B, num_outputs)``, or ``model(images)``.
    name : str
        Its name in `pcloud.build_model`.
    options : dict
        Its options there.
    feature_set : FeatureSet or ImageFormat
        Inputs of the network: features of particles, or the format of images.
    objective : Several
        Meaning of the outputs.
    """

    model: nn.Module
    name: str
    options: dict[str, Any]
    feature_set: Inputs
    objective: Several

    @classmethod
    def build(
        cls,
        name: str,
        options: dict[str, Any],
        feature_set: Inputs,
        objective: Several | Sequence[str],
    ) -> Tagger:
        """A tagger with random weights; names of classes are an objective of these."""
        if not isinstance(objective, Several):
            objective = Several([Classes(objective)])
        modality = find_modality(feature_set.kind)
        options = modality.model_options(name, feature_set) | options
        number = max(objective.num_outputs, 1)
        model: Any = modality.network(name, feature_set, number, options)
        if objective.of_particles:
            objective.attach(getattr(model, "particle_width", None), name)
            if objective.num_outputs == 0:  # nothing is learned from the jets as a whole
                model.head.requires_grad_(False)
        return cls(model, name, options, feature_set, objective)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their logits; none without such an objective."""
        return self.objective.classes

    @property
    def modality(self) -> Modality:
        """Kind of data that the network takes."""
        return find_modality(self.feature_set.kind)

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, as in a checkpoint."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "options": self.options,
            "features": self.feature_set.to_dict(),
            "classes": self.classes,
            **({} if self.objective.only_classes else {"objective": self.objective.to_dict()}),
            "weights": self.model.state_dict(),
        }

    @classmethod
    def from_dict(
        cls, values: dict[str, Any], place: str | Path = "a checkpoint", *, trust_code: bool = False
    ) -> Tagger:
        """The tagger that :meth:`to_dict` described.

        Parameters
        ----------
        values : dict
            Values and tensors.
        place : str or path
            Origin of the values, for messages.
        trust_code : bool
            Run Python code that the values name, even if it is not code of the user.

        Raises
        ------
        InputError
            If the weights do not fit the model, as when its code has changed since, or are not
            finite.
        """
        values = checked(StoredTagger, values)
        name, weights = values["name"], values["weights"]
        with stored_names(place, trust=trust_code), size_of(weights):
            check_code(name, values["options"])
            features = modality_of_model(name).inputs_from_dict(values["features"])
            tagger = cls.build(name, values["options"], features, _stored_objective(values))
        tagger.load_weights(weights)
        return tagger

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set the weights of the network.

        Raises
        ------
        InputError
            If they do not fit the network, or are not finite.
        """
        try:
            self.model.load_state_dict(weights)
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"the weights do not fit the model {self.name!r}: {' '.join(str(error).split())}"
            ) from error


def _stored_objective(values: Mapping[str, Any]) -> Several | list[str]:
    """Objective of a checkpoint, or its classes if they are all that it learned."""
    if "objective" not in values:
        return checked(Names, values["classes"], "classes")
    objective = objective_from_dict(values["objective"])
    if objective.classes != values["classes"]:
        raise InputError(f"objective: its classes are not {', '.join(values['classes'])}")
    return objective


def checkpoint_path(folder: Path, name: str) -> Path:
    """Path of the checkpoint ``"best"`` or ``"last"`` of a run."""
    return folder / CHECKPOINT_FOLDER / f"{name}.ckpt"


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a dictionary of plain values and tensors atomically."""
    make_folder(path.parent)
    write_atomic(path, lambda file: torch.save(content, file))


def keep_previous(folder: Path) -> None:
    """Keep the last checkpoint of a run under the name `PREVIOUS` while another one is written.

    Nothing is copied: both names are of the same file until the other one replaces it. On a file
    system without links, no previous checkpoint is kept.
    """
    last = checkpoint_path(folder, "last")
    link = last.with_name("previous.part")
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        os.link(last, link)
        link.replace(checkpoint_path(folder, PREVIOUS))


def read_last_checkpoint(folder: Path, *, warn: bool = True) -> dict[str, Any] | None:
    """Last checkpoint of a run, or the one before if it is damaged; None if there is none.

    Warns
    -----
    UnreadableFileWarning
        If the last one is damaged, and the one before is returned.

    Raises
    ------
    InputError
        If it is damaged, and there is none before, or this one is damaged, too.
    """
    last, previous = (checkpoint_path(folder, name) for name in ("last", PREVIOUS))
    if not last.exists() and not previous.exists():
        return None
    try:
        return read_checkpoint(last, resumable=True)
    except (InputError, FileNotFoundError) as error:
        if not previous.exists():
            raise
        content = read_checkpoint(previous, resumable=True)
        if warn:
            step = content["run"]["state"]["step"]
            reason = f"{error}; " if isinstance(error, InputError) else ""
            message = f"{reason}the checkpoint before it is used, {previous}, after step {step:,}"
            warnings.warn(message, UnreadableFileWarning, stacklevel=2)
        return content


def size_of(weights: dict[str, Tensor]) -> contextlib.AbstractContextManager[None]:
    """Context in which no network can be built that is much larger than these weights."""
    numbers = sum(weight.numel() for weight in weights.values())
    return limited_size(2 * numbers + _MAX_CACHE, 10 * len(weights) + 10**4)


@contextlib.contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Context that puts the name of a checkpoint before the message of an error about its content."""
    try:
        yield
    except UnknownNameError as error:
        raise InputError(f"{path}: {error}") from error
    except InputError as error:
        place = "" if str(error).startswith(f"{path}") else f"{path}: "
        raise InputError(f"{place}{error}") from error


def read_tagger(path: Path, *, trust_code: bool = False) -> Tagger:
    """Read the tagger of a checkpoint.

    Raises
    ------
    InputError
        If the file is no checkpoint of ours, or damaged, or its weights do not fit.
    """
    values = read_checkpoint(path)["tagger"]
    with checkpoint_errors(path):
        return Tagger.from_dict(values, path, trust_code=trust_code)


def read_checkpoint(path: Path, *, resumable: bool = False) -> dict[str, Any]:
    """Read a checkpoint to the CPU; nothing in it is executed.

    Parameters
    ----------
    path : Path
        The file.
    resumable : bool
        Whether the state of a training must be in it, as in ``last.ckpt``.

    Raises
    ------
    InputError
        If it is no checkpoint of ours, or damaged.
    """
    try:
        content = read_tensors(path)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # a damaged file can raise any
        reason = " ".join(str(error).split())[:_MAX_REASON] or type(error).__name__
        raise InputError(f"{path} is not a readable checkpoint: {reason}") from error
    tagger = content.get("tagger") if isinstance(content, dict) else None
    if not isinstance(tagger, dict) or tagger.get("format") != _FORMAT:
        raise InputError(f"{path} is not a checkpoint of this version of pcloud")
    with checkpoint_errors(path):
        content = checked(_Resumable if resumable else _Checkpoint, content)
        tagger = content["tagger"]
        try:
            tagger["options"] = current_options(tagger["name"], tagger["options"])
        except TypeError as error:
            raise InputError(f"tagger.options: {error}") from None
    return content
