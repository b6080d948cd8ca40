"""Trained weights: of a run, of a checkpoint, or published by the authors of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pcloud.datasets import dataset_info
from pcloud.datasets.downloads import official_weights
from pcloud.datasets.sources import list_sources
from pcloud.errors import InputError
from pcloud.features import FEATURE_SETS
from pcloud.modality import Inputs
from pcloud.models.official.load import read_official
from pcloud.models.official.state_dict import read_state_dict, shown_names
from pcloud.training.checkpoint import Tagger, read_tagger
from pcloud.training.run_folder import RunFolder

__all__ = ["Weights", "read_weights"]


@dataclass(frozen=True)
class Weights:
    """Weights of a trained network, with its inputs, classes and options where known.

    Attributes
    ----------
    origin : str
        Description of the origin, for messages.
    name : str
        Name of the model in `pcloud.build_model`.
    options : dict
        Options of the model, without the numbers of inputs and classes.
    state : dict of str to Tensor
        State dict of the model.
    feature_set : FeatureSet or ImageFormat, optional
        Inputs, where known.
    classes : list of str, optional
        Names of the classes, or of other outputs, where known.
    saw_padding : bool
        Whether the statistics of the batch normalisations are those of padded jets.
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
        """Weights, features and options of a pcloud tagger."""
        of_inputs = tagger.modality.model_options(tagger.name, tagger.feature_set)
        options = {key: value for key, value in tagger.options.items() if key not in of_inputs}
        state = tagger.model.state_dict()
        names = list(tagger.objective.output_names)
        return cls(origin, tagger.name, options, state, tagger.feature_set, names)


def read_weights(path: str | Path, model: str) -> Weights:
    """Read the best weights of a run, a checkpoint of a run (``.ckpt``), or an official file.

    A file for ``resnet34`` is a state dict of torchvision.

    An official file does not name inputs and classes. If the number of inputs is that of an
    official feature set, the inputs are taken to be its features; ten classes are taken to be those
    of JetClass.

    Parameters
    ----------
    path : path
        Folder of the run, or file; or the name of published weights, such as
        ``"particlenet/jetclass_kin"``, which are downloaded.
    model : str
        Name of the model of an official file.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    InputError
        If `path` is none of these.
    """
    path = Path(path)
    name = path.as_posix()
    if "/" in name and name in list_sources() and not path.exists():
        path = official_weights(*name.split("/"))
    if path.is_dir():
        return Weights.of_tagger(RunFolder(path).tagger(), f"the best weights of {path}")
    if not path.exists():
        raise FileNotFoundError(f"no run and no weights at {path}")
    if path.suffix == ".ckpt":
        return Weights.of_tagger(read_tagger(path), f"the weights of {path}")
    if model in _OF_TORCHVISION:
        return _of_torchvision(path, model)
    return _official(path, model)


_OF_TORCHVISION = ("resnet34",)
"""Networks with the names of the parameters of torchvision."""


def _of_torchvision(path: Path, model: str) -> Weights:
    """Weights of torchvision's network, whose classes are not named: it needs a new head."""
    state = read_state_dict(path)
    absent = {"conv1.weight", "fc.weight"} - state.keys()
    if absent:
        raise InputError(
            f"{path} holds no weights of {model}: {min(absent)} is absent; found {shown_names(state)}"
        )
    return Weights(f"torchvision weights {path}", model, {}, state, None, None)


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
