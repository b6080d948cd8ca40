"""Limit of the size of networks that are built from options of a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.nn.parameter import is_lazy

from pcloud.errors import InputError

__all__ = ["limited_size"]

_MAX_NUMBERS = 2**33  # parameters and entries of buffers, 32 GiB in float32
_MAX_PARTS = 10**5  # modules, parameters and buffers


@contextlib.contextmanager
def limited_size(max_numbers: int = _MAX_NUMBERS, max_parts: int = _MAX_PARTS) -> Iterator[None]:
    """Context in which building a larger network stops with an error.

    It stops before the memory of a too large parameter is written to, and in the middle of a loop
    over too many layers.

    Parameters
    ----------
    max_numbers : int
        Largest number of parameters and entries of buffers.
    max_parts : int
        Largest number of modules, parameters and buffers.

    Raises
    ------
    InputError
        If the network is larger.
    """
    numbers = parts = 0

    def count(owner: nn.Module, name: str, part: Any) -> None:
        nonlocal numbers, parts
        parts += 1
        if isinstance(part, Tensor) and not is_lazy(part):
            numbers += part.numel()
        if numbers > max_numbers or parts > max_parts:
            limit = f"{max_numbers:,} numbers" if numbers > max_numbers else f"{max_parts:,} parts"
            raise InputError(f"the network would have more than {limit}")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
        hooks.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
