"""State dicts on disk, and the renaming of their entries."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcloud.errors import InputError

__all__ = ["Names", "State", "read_state_dict", "rename"]

State = dict[str, Tensor]
Names = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Patterns for the beginning of a name, each with what replaces it."""


def read_state_dict(path: Path) -> State:
    """The tensors in the file at `path` by name, without the prefix ``mod.`` of weaver-core.

    Raises
    ------
    InputError
        If the file holds anything else.
    """
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
    return {key.removeprefix("mod."): value for key, value in state.items()}


def rename(state: State, names: Names) -> State:
    """The same tensors; the first of the `names` whose pattern begins an entry renames it."""
    return {_renamed(key, names): value for key, value in state.items()}


def _renamed(key: str, names: Names) -> str:
    for pattern, new in names:
        renamed, count = re.subn(f"^{pattern}", new, key)
        if count:
            return renamed
    return key
