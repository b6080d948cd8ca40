"""Stored states of optimizers and schedules, checked against those of new ones."""

from __future__ import annotations

import math
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from pcloud.errors import InputError

__all__ = ["matching_state", "state_after_a_step"]

_MAX_FLOAT = 1e6  # of learning rates and other options
_MAX_INT = 10**15


@torch.no_grad()
def state_after_a_step(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """State dict of an optimizer after one step without gradients; the parameters stay.

    The optimizer itself has made the step, and is not to be used any more.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [(p.clone(), p.grad) for p in parameters]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    state = optimizer.state_dict()
    for p, (value, gradient) in zip(parameters, before, strict=True):
        p.copy_(value)
        p.grad = gradient
    return state


def matching_state(found: Any, expected: Any, place: str) -> Any:
    """Return a stored state, if it has the structure of that of a new optimizer or schedule.

    Options that the stored state does not have, as of another version of a library, are those of the
    new one, and options that the new one does not have are left out. Parameters without a gradient
    have no state.

    Parameters
    ----------
    found : any
        Stored values.
    expected : any
        Values of the new optimizer, in the same place.
    place : str
        Place of the values, for the error message.

    Raises
    ------
    InputError
        If a value has another type, or a tensor has another shape or has NaN.
    """
    if isinstance(expected, dict):
        return _matching_dict(found, expected, place)
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            raise InputError(f"{place}: not {len(expected)} values")
        pairs = enumerate(zip(found, expected, strict=True))
        return type(expected)(matching_state(f, e, f"{place}.{i}") for i, (f, e) in pairs)
    if isinstance(expected, Tensor):
        return _matching_tensor(found, expected, place)
    if isinstance(expected, bool | NoneType):
        if not isinstance(found, bool | NoneType):
            raise InputError(f"{place}: expected {expected}, got {type(found).__name__}")
        return found
    if isinstance(expected, int | float):
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        most = _MAX_INT if isinstance(expected, int) else _MAX_FLOAT
        if not is_number or not math.isfinite(found) or not -most <= found <= most:
            raise InputError(f"{place}: expected a number, got {_short(found)}")
        if isinstance(expected, int) and (not isinstance(found, int) or found < 0):
            raise InputError(f"{place}: expected a number of steps, got {_short(found)}")
        return found
    if found != expected:
        raise InputError(f"{place}: expected {_short(expected)}, got {_short(found)}")
    return found


def _matching_dict(found: Any, expected: dict[Any, Any], place: str) -> dict[Any, Any]:
    if not isinstance(found, dict):
        raise InputError(f"{place}: expected names and values, got {type(found).__name__}")
    superfluous = [key for key in found.keys() - expected.keys() if not isinstance(key, str)]
    if superfluous:
        raise InputError(f"{place}: no parameter {_short(superfluous[0])}")
    matching = {}
    for key, value in expected.items():
        if key == "params" and found.get(key) != value:
            raise InputError(f"{place}: not the parameters of the network")
        if key in found:
            matching[key] = matching_state(found[key], value, f"{place}.{key}")
        elif isinstance(value, Tensor | dict | list):
            if not isinstance(key, int):
                raise InputError(f"{place}.{key}: is missing")
        else:
            matching[key] = value
    return matching


def _matching_tensor(found: Any, expected: Tensor, place: str) -> Tensor:
    if not isinstance(found, Tensor):
        raise InputError(f"{place}: expected a tensor, got {type(found).__name__}")
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise InputError(
            f"{place}: expected {expected.dtype} {tuple(expected.shape)}, "
            f"got {found.dtype} {tuple(found.shape)}"
        )
    if not torch.isfinite(found).all():
        raise InputError(f"{place}: has NaN or infinite values")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]}..."
