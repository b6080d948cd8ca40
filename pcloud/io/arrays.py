"""Whole arrays of npz, HDF5 and npy files, by name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.io.files import input_errors
from pcloud.io.npy import labels_beside
from pcloud.io.npz import read_member

__all__ = ["ARRAY", "LABELS", "read_arrays"]

ARRAY = "x"
"""Name of the array of an npy file."""

LABELS = "y"
"""Name of the array of the npy file with the labels, which is beside it."""


def read_arrays(path: Path, labels: str | None = None) -> dict[str, NDArray[Any]]:
    """Read all arrays of numbers or words of a file.

    Parameters
    ----------
    path : Path
        File: ``.npz``, ``.h5``, ``.hdf5`` or ``.npy``. An npy file has the array ``x``, and ``y``
        from the file `labels` or that beside it, such as ``y_train.npy`` of ``x_train.npy``.
    labels : str, optional
        File with the labels of an npy file.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    InputError
        If the file is damaged, has another format, or has pickled objects.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    if suffix == ".npz":
        with input_errors(path, "npz file"):
            return _read_npz(path)
    if suffix in (".h5", ".hdf5"):
        with input_errors(path, "HDF5 file"):
            return _read_hdf5(path)
    if suffix == ".npy":
        return _read_npy(path, labels)
    raise InputError(f"{path}: arrays are read from .npz, .h5 and .npy, not {suffix or 'this'}")


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise InputError("not an npz file, or it is truncated")
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        return {name: read_member(path, archive, info) for name, info in members.items()}


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    import h5py

    from pcloud.io.hdf5_sources import check_sources, open_for_reading

    arrays = {}
    with open_for_reading(path) as file:
        for name, dataset in file.items():
            if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
                continue
            check_sources(path, name, dataset)
            text = h5py.check_string_dtype(dataset.dtype) is not None
            if dataset.dtype.kind == "O" and not text:
                raise InputError(f"data set {name!r} has rows of unequal length")
            values = dataset.asstr()[()] if text else dataset[()]
            arrays[name] = values.astype(str) if text else values
    return arrays


def _read_npy(path: Path, labels: str | None) -> dict[str, NDArray[Any]]:
    arrays = {ARRAY: _load(path)}
    file = labels_beside(path) if labels is None else Path(labels).expanduser()
    if file is not None:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file with the labels of {path}")
        arrays[LABELS] = _load(file)
    return arrays


def _load(path: Path) -> NDArray[Any]:
    with input_errors(path, "npy file"):
        array = np.load(path, allow_pickle=False)
        if not array.shape:
            raise InputError("is a single number, not an array")
        return array
