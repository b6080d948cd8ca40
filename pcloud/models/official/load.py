"""Load official weights by the name of the model."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.models.official.cms import cms_particlenet
from pcloud.models.official.lorentznet import lorentznet
from pcloud.models.official.part import part
from pcloud.models.official.particlenet import particlenet
from pcloud.models.official.state_dict import State, read_state_dict, shown_names
from pcloud.models.old_names import current_options
from pcloud.models.registry import build_model

__all__ = ["load_official", "read_official"]

_READERS: dict[str, Callable[[State], tuple[dict[str, Any], State]]] = {
    "lorentznet": lorentznet,
    "part": part,
    "particlenet": particlenet,
    "particlenet_collections": cms_particlenet,
    "particlenet_lite": particlenet,
}


def load_official(
    name: str,
    path: str | PathLike[str] | None = None,
    *,
    weights: str | None = None,
    **options: Any,
) -> nn.Module:
    """Load a model with the weights of its authors' code, in evaluation mode.

    Parameters
    ----------
    name : str
        ``"particlenet"`` or ``"particlenet_lite"`` for a state dict of weaver-core's
        ``ParticleNet``, ``"part"`` for one of its ``ParticleTransformer`` in version 1 (with the
        settings of the paper), 2, 3 or 3.5, ``"lorentznet"`` for one of LorentzNet-release's ``LorentzNet``,
        ``"particlenet_collections"`` for one of CMS's ParticleNet of particles and vertices.
    path : path, optional
        File with a state dict, or with a checkpoint that contains one, with or without the prefixes of
        DataParallel (``module.``), weaver-core (``mod.``) and ``torch.compile`` (``_orig_mod.``).
        Only tensors are read from it; no code is executed.
    weights : str, optional
        Name of published weights, in the place of `path`, which are downloaded as by
        :func:`pcloud.download`: ``"jetclass_kin"``, ``"jetclass_kinpid"`` or ``"jetclass_full"`` of
        ``"particlenet"`` and ``"part"``, ``"landscape"`` of ``"lorentznet"``.
    **options
        Options of the model, such as ``coordinates="identity"``; ``num_heads`` for a Particle
        Transformer of version 2 or 3 without pair bias, whose weights do not show it.

    Returns
    -------
    torch.nn.Module
        Model with the numbers of inputs and outputs and the widths of the weights.

    Raises
    ------
    UnknownNameError
        If official weights of that model cannot be read, or there are none of that name.
    InputError
        If the file holds no such state dict; the message lists the names that do not fit. If the
        weights cannot be downloaded; the message says what to fetch by hand, and where to put it.
    """
    if (path is None) == (weights is None):
        raise InputError("load_official needs a path, or the name of published weights")
    if path is None:
        path = _download(name, weights)
    sizes, state = read_official(name, path)
    model = build_model(name, **sizes | current_options(name, options, warn=True))
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise InputError(
            f"{path} does not fit {name}: absent {missing or 'none'}, unknown {unexpected or 'none'}"
        )
    return model.eval()


def _download(name: str, weights: str | None) -> Path:
    from pcloud.datasets.downloads import official_weights

    if name not in _READERS:
        raise UnknownNameError("official weights reader", name, _READERS)
    return official_weights(name, weights or "")


def read_official(name: str, path: str | PathLike[str]) -> tuple[dict[str, Any], State]:
    """Read the options and the state dict of a model from such a file.

    The options include the numbers of inputs and outputs. Errors are those of
    :func:`load_official`, except that names which the model does not have are not detected.
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
