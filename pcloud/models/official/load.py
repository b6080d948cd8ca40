"""Loading of official weights by the name of the model."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.models.official.lorentznet import lorentznet
from pcloud.models.official.part import part
from pcloud.models.official.particlenet import particlenet
from pcloud.models.official.state_dict import State, read_state_dict, shown_names
from pcloud.models.registry import build_model

__all__ = ["load_official", "read_official"]

_READERS: dict[str, Callable[[State], tuple[dict[str, Any], State]]] = {
    "lorentznet": lorentznet,
    "part": part,
    "particlenet": particlenet,
    "particlenet_lite": particlenet,
}


def load_official(name: str, path: str | PathLike[str], **options: Any) -> nn.Module:
    """A model with the weights of the authors' own code, in evaluation mode.

    Parameters
    ----------
    name : str
        ``"particlenet"`` or ``"particlenet_lite"``: a state dict of weaver-core's ``ParticleNet``;
        ``"part"``: of its ``ParticleTransformer`` in the settings of the paper;
        ``"lorentznet"``: of LorentzNet-release's ``LorentzNet``.
    path : path
        The file: a state dict or a checkpoint that contains one, with or without the prefixes of
        DataParallel (``module.``), weaver-core (``mod.``) and ``torch.compile`` (``_orig_mod.``).
        Only tensors are read from it, no code.
    **options
        Handed to the model, such as ``coordinates="identity"``.

    Returns
    -------
    torch.nn.Module
        With the inputs, classes and widths that the weights have.

    Raises
    ------
    UnknownNameError
        If there is no reader of official weights for that model.
    InputError
        If the file holds no such state dict; the names that do not fit are listed.
    """
    sizes, state = read_official(name, path)
    model = build_model(name, **sizes | options)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise InputError(
            f"{path} does not fit {name}: absent {missing or 'none'}, unknown {unexpected or 'none'}"
        )
    return model.eval()


def read_official(name: str, path: str | PathLike[str]) -> tuple[dict[str, Any], State]:
    """Options of our model, inputs and classes among them, and its state dict, from such a file.

    Raises as :func:`load_official`, but does not see whether the model takes all of the weights.
    """
    if name not in _READERS:
        raise UnknownNameError("official weights reader", name, _READERS)
    state = read_state_dict(Path(path))
    try:
        return _READERS[name](state)
    except KeyError as error:
        raise InputError(
            f"{path} holds no weights of {name}: {error.args[0]} is absent; "
            f"found {shown_names(state)}"
        ) from error
