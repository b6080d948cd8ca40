"""Which precision to compute in, under autocast and without."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["at_least_float32", "product_dtype", "without_autocast"]


def at_least_float32(x: Tensor) -> torch.dtype:
    """Of `x`, or single where `x` is of half precision."""
    return torch.promote_types(x.dtype, torch.float32)


def product_dtype(x: Tensor) -> torch.dtype:
    """Of the factors of matrix products with `x`: its own, or what autocast asks for."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which what is done with `x` keeps the precision it has."""
    device = x.device.type
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
