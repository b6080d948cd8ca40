"""Checkpoints: whole or absent on disk, read without running code, and self-describing.

A checkpoint holds plain values and tensors: name and options of the model, its weights, the
feature set with its standardisation and the classes, and in ``last.ckpt`` the state of the run.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pcloud.errors import InputError
from pcloud.images.build import size_option
from pcloud.images.image_set import ImageFormat
from pcloud.models import build_model
from pcloud.models.old_names import current_options
from pcloud.run_files import CHECKPOINT_FOLDER, make_folder, write_atomic
from pcloud.training.inputs import Inputs, inputs_from_dict

__all__ = ["Tagger", "checkpoint_path", "read_checkpoint", "write_checkpoint"]

_FORMAT = 1


@dataclass
class Tagger:
    """A network and all one must know to use it.

    Attributes
    ----------
    model : torch.nn.Module
        ``model(x, p4, batch) -> logits (B, C)``, or ``model(images)``.
    name : str
        Its name in `pcloud.build_model`.
    options : dict
        Its options there.
    feature_set : FeatureSet or ImageFormat
        Inputs of the network: features of particles, or the format of images.
    classes : list of str
        Names of the classes, in the order of the logits.
    """

    model: nn.Module
    name: str
    options: dict[str, Any]
    feature_set: Inputs
    classes: list[str]

    @classmethod
    def build(
        cls, name: str, options: dict[str, Any], feature_set: Inputs, classes: list[str]
    ) -> Tagger:
        """A tagger with random weights."""
        if isinstance(feature_set, ImageFormat):
            options = size_option(name, (feature_set.height, feature_set.width)) | options
        model = build_model(name, in_features=len(feature_set), num_outputs=len(classes), **options)
        return cls(model, name, options, feature_set, classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, as in a checkpoint."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "options": self.options,
            "features": self.feature_set.to_dict(),
            "classes": self.classes,
            "weights": self.model.state_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Tagger:
        """The tagger that :meth:`to_dict` described.

        Raises
        ------
        InputError
            If the weights do not fit the model, as when its code has changed since.
        """
        features = inputs_from_dict(values["features"])
        tagger = cls.build(values["name"], values["options"], features, values["classes"])
        try:
            tagger.model.load_state_dict(values["weights"])
        except RuntimeError as error:
            raise InputError(
                f"the weights do not fit the model {tagger.name!r}: {' '.join(str(error).split())}"
            ) from error
        return tagger


def checkpoint_path(folder: Path, name: str) -> Path:
    """Path of the checkpoint ``"best"`` or ``"last"`` of a run."""
    return folder / CHECKPOINT_FOLDER / f"{name}.ckpt"


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a dictionary of plain values and tensors atomically."""
    make_folder(path.parent)
    write_atomic(path, lambda file: torch.save(content, file))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU; nothing in it is executed.

    Raises
    ------
    InputError
        If it is no checkpoint of ours, or damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path} is not a readable checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("tagger", {}).get("format") != _FORMAT:
        raise InputError(f"{path} is not a checkpoint of this version of pcloud")
    tagger = content["tagger"]
    tagger["options"] = current_options(tagger["name"], tagger["options"])
    return content
