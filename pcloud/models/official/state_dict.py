"""Read state dicts, and rename their entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcloud.errors import InputError
from pcloud.io.files import input_errors

__all__ = ["Names", "State", "read_state_dict", "rename", "shown_names"]

State = dict[str, Tensor]
Names = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Patterns of the beginning of a name, each with its replacement."""


_SHOWN_NAMES = 5
_PREFIXES = ("module.", "mod.", "_orig_mod.")
"""Prefixes of DataParallel, weaver-core and ``torch.compile`` before the names of a network."""

_CONTAINERS = ("state_dict", "model_state_dict", "model")
"""Keys of checkpoints under which the weights are stored."""


def read_state_dict(path: Path) -> State:
    """Read the tensors of a file by name.

    The state dict may be nested in a checkpoint, under ``state_dict``, ``model_state_dict`` or
    ``model``. Prefixes common to all names are removed: ``module.`` of DataParallel, ``mod.`` of
    weaver-core and ``_orig_mod.`` of ``torch.compile``, in any order.

    Raises
    ------
    InputError
        If the file is not a state dict.
    FileNotFoundError
        If there is no such file.
    """
    with input_errors(path, "file of PyTorch weights"):
        content = torch.load(path, map_location="cpu", weights_only=True)
    state = _without_containers(content)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} holds no state dict, but {_describe(state)}")
    return _without_prefixes(state)


def _without_containers(content: object) -> object:
    """Return the innermost state dict."""
    while isinstance(content, dict):
        nested = [content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)]
        if not nested:
            break
        content = nested[0]
    return content


def _without_prefixes(state: State) -> State:
    """Remove the known prefixes that are common to all names."""
    while state:
        shared = [p for p in _PREFIXES if all(name.startswith(p) for name in state)]
        if not shared:
            break
        state = {name.removeprefix(shared[0]): value for name, value in state.items()}
    return state


def _describe(content: object) -> str:
    """Return the type of the content, and the first keys of a dict."""
    kind = type(content).__name__
    return f"{kind} with {shown_names(content)}" if isinstance(content, dict) else kind


def shown_names(names: Iterable[object]) -> str:
    """Return the first of the names as text, and their number."""
    shown = [str(name) for name in names]
    more = f", ... ({len(shown)} names)" if len(shown) > _SHOWN_NAMES else ""
    return (", ".join(shown[:_SHOWN_NAMES]) or "nothing") + more


def rename(state: State, names: Names) -> State:
    """Rename the entries of a state dict by the first pattern that matches their beginning."""
    return {_renamed(key, names): value for key, value in state.items()}


def _renamed(key: str, names: Names) -> str:
    for pattern, new in names:
        renamed, count = re.subn(f"^{pattern}", new, key)
        if count:
            return renamed
    return key
