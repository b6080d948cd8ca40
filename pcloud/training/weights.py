"""Weights to begin with: those of a run, of a checkpoint, or of the authors' own code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pcloud.datasets import dataset_info
from pcloud.features import FEATURE_SETS
from pcloud.images.image_set import ImageFormat
from pcloud.models.official.load import read_official
from pcloud.training.checkpoint import Tagger, read_checkpoint
from pcloud.training.inputs import Inputs
from pcloud.training.run_folder import RunFolder

__all__ = ["Weights", "read_weights"]


@dataclass(frozen=True)
class Weights:
    """Weights of a trained network, with what is known about them.

    Attributes
    ----------
    origin : str
        Where they come from, for people.
    name : str
        Model in `pcloud.build_model`.
    options : dict
        Its options there, beside inputs and classes.
    state : dict of str to Tensor
        The weights.
    feature_set : FeatureSet or ImageFormat, optional
        What its inputs are, where that is known.
    classes : list of str, optional
        What its outputs are, where that is known.
    saw_padding : bool
        Whether the statistics of its batch normalisations are those of padded jets.
    """

    origin: str
    name: str
    options: dict[str, Any]
    state: dict[str, Tensor]
    feature_set: Inputs | None
    classes: list[str] | None
    saw_padding: bool = False

    @classmethod
    def of_tagger(cls, tagger: Tagger, origin: str) -> Weights:
        """Those of a tagger of ours, which knows all of it."""
        options = dict(tagger.options)
        if isinstance(tagger.feature_set, ImageFormat):
            options.pop("size", None)  # goes with the images, which may be of another one
        state = tagger.model.state_dict()
        return cls(origin, tagger.name, options, state, tagger.feature_set, tagger.classes)


def read_weights(path: str | Path, model: str) -> Weights:
    """Read the best weights of a run, a checkpoint of a run (``.ckpt``), or an official file.

    An official file does not name inputs and classes. Where it has as many inputs as an official
    feature set it is taken to have these, and ten classes are those of JetClass.

    Parameters
    ----------
    path : path
        Folder of the run, or the file.
    model : str
        The model whose authors wrote an official file.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    InputError
        If there is something else.
    """
    path = Path(path)
    if path.is_dir():
        return Weights.of_tagger(RunFolder(path).tagger(), f"the best weights of {path}")
    if not path.exists():
        raise FileNotFoundError(f"no run and no weights at {path}")
    if path.suffix == ".ckpt":
        return Weights.of_tagger(
            Tagger.from_dict(read_checkpoint(path)["tagger"]), f"the weights of {path}"
        )
    return _official(path, model)


def _official(path: Path, model: str) -> Weights:
    sizes, state = read_official(model, path)
    number, outputs = sizes.pop("in_features"), sizes.pop("num_outputs")
    inputs = {len(features): features for features in FEATURE_SETS.values()}
    classes = list(dataset_info("jetclass").classes)
    features = inputs.get(number)
    if features is not None and outputs == len(classes):  # JetClass files store momenta of jets
        features = features.for_jets(stored=True)
    return Weights(
        f"official {model} weights {path}",
        model,
        sizes,
        state,
        features,
        classes if outputs == len(classes) else None,
        saw_padding=True,
    )
