"""Files of tensors and plain values, as `torch.save` writes them, read without trust.

Neither torch nor its C++ reader checks the sizes of the tensors against those of the file, or the
check sums: a damaged file would give other weights, or tensors of memory that is not theirs.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcloud.errors import InputError

__all__ = ["read_tensors"]

_MAX_VALUES = 10**7  # in lists and dictionaries
_MAX_DEPTH = 32  # levels of lists and dictionaries


def read_tensors(path: Path) -> Any:
    """Read a file to the CPU; nothing in it is executed.

    Raises
    ------
    InputError
        If the check sum of a part is wrong, a tensor is larger than its part of the file, or the
        file holds other things than tensors, numbers, strings, None, lists, tuples and dictionaries.
    OSError
        If the file cannot be opened. A damaged file can raise any other exception of `zipfile` and
        `torch.load`.
    """
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.compress_type != zipfile.ZIP_STORED:
                raise InputError(f"its part {part.filename} is compressed")
        damaged = archive.testzip()
    if damaged is not None:
        raise InputError(f"the check sum of its part {damaged} is wrong")
    # Mapped, a tensor cannot reach beyond the file.
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return _Copy()(content, "")


class _Copy:
    """Copy of plain values and tensors to memory of its own, of limited size."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, value: Any, place: str, depth: int = 0) -> Any:
        """Copy of `value`, whose place is named in the errors."""
        self.number += 1
        if self.number > _MAX_VALUES:
            raise InputError(f"more than {_MAX_VALUES:,} values")
        if depth > _MAX_DEPTH:
            raise InputError(f"{place[:60]}...: more than {_MAX_DEPTH} levels")
        if isinstance(value, dict):
            return {
                self(key, place, depth + 1): self(entry, f"{place}.{key}".lstrip("."), depth + 1)
                for key, entry in value.items()
            }
        if type(value) in (list, tuple):
            return type(value)(
                self(entry, f"{place}.{i}", depth + 1) for i, entry in enumerate(value)
            )
        if isinstance(value, Tensor):
            return _own_memory(value, place)
        if value is None or type(value) in (str, int, float, bool):
            return value
        raise InputError(f"{place}: values of type {type(value).__name__}")


def _own_memory(tensor: Tensor, place: str) -> Tensor:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise InputError(f"{place}: a tensor on {tensor.device} with layout {tensor.layout}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"{place}: {tensor.numel():,} numbers, more than the file holds")
    return tensor.detach().clone()
