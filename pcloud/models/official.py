"""Official weights: state dicts of other codes, brought into our models."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.models.registry import build_model

__all__ = ["load_official"]

State = dict[str, Tensor]


def load_official(name: str, path: str | PathLike[str], **options: Any) -> nn.Module:
    """A model with the weights of the authors' own code, in evaluation mode.

    Parameters
    ----------
    name : str
        ``"particlenet"`` or ``"particlenet_lite"``: a state dict of weaver-core's ``ParticleNet``.
    path : path
        The file; only tensors are read from it, no code.
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
    if name not in _READERS:
        raise UnknownNameError("official weights reader", name, _READERS)
    state = {key.removeprefix("mod."): value for key, value in _load(Path(path)).items()}
    try:
        sizes, state = _READERS[name](state)
    except KeyError as error:
        raise InputError(f"{path} holds no weights of {name}: {error.args[0]} is absent") from error
    model = build_model(name, **sizes | options)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise InputError(
            f"{path} does not fit {name}: absent {missing or 'none'}, unknown {unexpected or 'none'}"
        )
    return model.eval()


def _load(path: Path) -> State:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path} is no file of PyTorch weights: {error}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} holds no state dict, but {type(state).__name__}")
    return dict(state)


def _particlenet(state: State) -> tuple[dict[str, Any], State]:
    """weaver-core's ParticleNet: convolutions with kernel 1 are our linear maps."""
    blocks = len({key.split(".")[1] for key in state if key.startswith("edge_convs.")})
    widths = [len(state[f"edge_convs.{i}.sc_bn.weight"]) for i in range(blocks)]
    names = [
        (r"bn_fts\.", "norm."),
        (r"edge_convs\.(\d+)\.convs\.0\.weight", r"convs.\1.edge.weight"),
        (
            r"edge_convs\.(\d+)\.convs\.(\d+)\.weight",
            lambda m: f"convs.{m[1]}.linears.{int(m[2]) - 1}.weight",
        ),
        (r"edge_convs\.(\d+)\.bns\.", r"convs.\1.norms."),
        (r"edge_convs\.(\d+)\.sc\.weight", r"convs.\1.shortcut.0.weight"),
        (r"edge_convs\.(\d+)\.sc_bn\.", r"convs.\1.shortcut.1."),
        (r"fc\.0\.0\.", "head.0."),
        (r"fc\.1\.", "head.3."),
    ]
    sizes = {
        "in_features": len(state["bn_fts.weight"]),
        "num_classes": len(state["fc.1.bias"]),
        "hidden": len(state["fc.0.0.bias"]),
        "blocks": tuple((16 if blocks == 3 else 7, (width,) * 3) for width in widths),
    }
    renamed = {_rename(key, names): value for key, value in state.items()}
    return sizes, {k: v.flatten(1) if v.dim() > 2 else v for k, v in renamed.items()}


def _rename(key: str, names: list[tuple[str, Any]]) -> str:
    for pattern, new in names:
        renamed, count = re.subn(f"^{pattern}", new, key)
        if count:
            return renamed
    return key


_READERS: dict[str, Callable[[State], tuple[dict[str, Any], State]]] = {
    "particlenet": _particlenet,
    "particlenet_lite": _particlenet,
}
