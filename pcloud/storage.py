"""Storage of large arrays: in memory, or in files that are mapped into memory.

A mapped array is read and written like any other. Its pages belong to the file: the kernel writes
them out and drops them when memory is short, and processes that map the same file share them.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pcloud.errors import InputError
from pcloud.run_files import TEMPORARY_PREFIX, write_errors

__all__ = [
    "MEMORY",
    "MappedFiles",
    "Memory",
    "Storage",
    "dump",
    "load",
    "mapped_files",
    "remove_mapped_files",
]

_MAP_PREFIX = f"{TEMPORARY_PREFIX}map-"


class Storage(Protocol):
    """Place in which arrays of known size are made."""

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Array with arbitrary values."""

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype, *, zero: bool = False) -> Tensor:
        """Tensor with arbitrary values, or zeros."""

    def release(self, values: np.ndarray) -> None:
        """Drop what an array of this storage holds besides memory; it is not used any more."""


class Memory(Storage):
    """Arrays in the memory of the process."""

    def __reduce__(self) -> str:
        return "MEMORY"

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Array with arbitrary values."""
        return np.empty(shape, dtype)

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype, *, zero: bool = False) -> Tensor:
        """Tensor with arbitrary values, or zeros."""
        return torch.zeros(shape, dtype=dtype) if zero else torch.empty(shape, dtype=dtype)

    def release(self, values: np.ndarray) -> None:
        """Do nothing."""


MEMORY = Memory()


class MappedFiles(Storage):
    """Arrays in files of a folder, each mapped into memory; new files contain zeros.

    Parameters
    ----------
    folder : Path
        Folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        self._paths: dict[int, Path] = {}  # by the address of the array

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Array of zeros in a new file.

        Raises
        ------
        CannotWriteError
            If the disk is full.
        """
        path = self.folder / f"{self._number}.bin"
        self._number += 1
        values = _new_map(path, shape, np.dtype(dtype))
        self._paths[values.ctypes.data] = path
        return values

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype, *, zero: bool = False) -> Tensor:
        """Tensor of zeros in a new file, to which :func:`dump` refers by its name."""
        values = self.array(shape, _numpy_type(dtype))
        tensor = torch.from_numpy(values)
        tensor.mapped_file = self._paths[values.ctypes.data]  # type: ignore[attr-defined]
        return tensor

    def release(self, values: np.ndarray) -> None:
        """Remove the file of an array."""
        path = self._paths.pop(values.ctypes.data, None)
        if path is not None:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def mapped_files(folder: Path) -> Iterator[MappedFiles]:
    """Storage in a temporary folder inside `folder`, which is removed at the end.

    Folders that processes left which were killed are removed at the start: `folder` must belong to
    this process.

    Raises
    ------
    CannotWriteError
        If the folder cannot be written to, or the disk is full.
    """
    with write_errors(folder):
        remove_mapped_files(folder)
        path = Path(tempfile.mkdtemp(prefix=_MAP_PREFIX, dir=folder))
    try:
        yield MappedFiles(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_mapped_files(folder: Path) -> None:
    """Remove the mapped files that killed processes left in a folder, which belongs to this one."""
    for path in folder.glob(f"{_MAP_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def _new_map(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    with write_errors(path.parent, "free some space, or choose another folder for the run"):
        with path.open("wb") as file:
            _reserve(file.fileno(), max(1, size))
        return _map(path, shape, dtype, "r+")


def _reserve(file: int, size: int) -> None:
    """Give a file its size on the disk: writing to a mapped page without room ends the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype, mode: Any) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode, shape=shape).view(np.ndarray)


def _numpy_type(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype


class _Pickler(pickle.Pickler):
    """Pickler that stores mapped tensors by the names of their files."""

    def persistent_id(self, value: Any) -> Any:
        path = getattr(value, "mapped_file", None) if isinstance(value, Tensor) else None
        if path is None:
            return None
        return str(path), tuple(value.shape), _numpy_type(value.dtype).str


class _Unpickler(pickle.Unpickler):
    """Reader of what `_Pickler` wrote."""

    def persistent_load(self, pid: Any) -> Tensor:
        path, shape, dtype = pid
        if not Path(path).exists():
            raise InputError(f"{path} does not exist on this machine: all ranks need the folder")
        tensor = torch.from_numpy(_map(Path(path), shape, np.dtype(dtype), "c"))
        tensor.mapped_file = Path(path)  # type: ignore[attr-defined]
        return tensor


def dump(value: Any) -> bytes:
    """Pickle an object for another process of this job; mapped tensors are shared with it."""
    file = io.BytesIO()
    _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def load(content: bytes) -> Any:
    """Object of :func:`dump`, whose mapped tensors are copied only where they are written to.

    Raises
    ------
    InputError
        If this machine does not have the files.
    """
    return _Unpickler(io.BytesIO(content)).load()
