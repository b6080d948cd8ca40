"""HDF5 files: data frames of pandas, plain arrays, and compound data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the compression filters of PyTables)
import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.files import input_errors
from pcloud.io.pandas_table import FixedFrame, TableFrame
from pcloud.io.table import PIECE_BYTES, Ragged, Source, Table, aligned_ranges, column_names

__all__ = ["PlainHDF5", "open_hdf5"]

#: Chunk cache of HDF5. With the default of 1 MB, larger chunks are decompressed at every read.
_CACHE_BYTES = 64 << 20


def open_hdf5(path: Path, tree: str | None) -> Table:
    """Open the data frame of pandas in a file, or the arrays of a group if there is none.

    Parameters
    ----------
    path : Path
        File.
    tree : str, optional
        Key of pandas, or group of the arrays. Needed if the file contains several frames.

    Raises
    ------
    UnknownNameError
        If there is no such group.
    InputError
        If the file is damaged, or contains several frames and `tree` is not given.
    """
    with input_errors(path, "HDF5 file"):
        # Network file systems often do not support locks, and reading needs none.
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES)
    try:
        with input_errors(path, "HDF5 file"):
            group = _find_group(path, file, tree)
            kind = _text(group.attrs.get("pandas_type", ""))
        table: Table
        if kind == "frame_table":
            table = TableFrame(path, group)
        elif kind == "frame":
            table = FixedFrame(path, group)
        else:
            table = PlainHDF5(path, group)
    except BaseException:
        file.close()
        raise
    return table


def _find_group(path: Path, file: h5py.File, tree: str | None) -> h5py.Group:
    if tree is not None:
        group = file.get(tree)
        if isinstance(group, h5py.Group):
            return group
        groups: list[str] = []
        file.visititems(lambda name, node: _collect(groups, name, isinstance(node, h5py.Group)))
        raise UnknownNameError("group", tree, groups, where=str(path))
    frames: list[str] = []
    file.visititems(lambda name, node: _collect(frames, name, _is_frame(name, node)))
    if len(frames) > 1:
        raise InputError(
            f"{path}: contains several tables ({', '.join(frames)}); choose one with tree= in the schema"
        )
    return file[frames[0]] if frames else file


def _collect(names: list[str], name: str, wanted: bool) -> None:
    if wanted:
        names.append(name)


def _is_frame(name: str, node: h5py.Group | h5py.Dataset) -> bool:
    """Return True for a data frame of pandas, but not for the categories of a frame."""
    kind = _text(node.attrs.get("pandas_type", "")) if isinstance(node, h5py.Group) else ""
    return kind in ("frame", "frame_table") and "/meta/" not in name


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class PlainHDF5(Table):
    """Arrays of a group; each field of a compound data set is a column, such as ``tracks/pt``.

    Parameters
    ----------
    path : Path
        File, for the messages.
    group : h5py.Group
        Group of the arrays, which can be in its subgroups, too.
    """

    noun = "data set"

    def __init__(self, path: Path, group: h5py.Group) -> None:
        super().__init__(path)
        self._group = group
        self._places: dict[str, tuple[h5py.Dataset, str | None]] = {}
        with input_errors(path, "HDF5 file"):
            group.visititems(self._add)

    def _add(self, name: str, node: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(node, h5py.Dataset) or not node.shape:
            return
        if node.dtype.names is None:
            self._places[name] = (node, None)
            self.columns[name] = node.shape
            return
        for field in node.dtype.names:
            self._places[f"{name}/{field}"] = (node, field)
            self.columns[f"{name}/{field}"] = node.shape + node.dtype[field].shape

    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` of some columns; each data set is read once."""
        arrays: dict[str, np.ndarray] = {}
        columns: dict[str, np.ndarray | Ragged] = {}
        for name in names:
            dataset, field = self._places[name]
            if dataset.name not in arrays:
                with input_errors(self.path, f"data set {name!r}"):
                    arrays[dataset.name] = dataset[start:stop]
            array = arrays[dataset.name]
            columns[name] = array if field is None else array[field]
        return columns

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the rows at the chunks of the data set with the largest rows."""
        datasets = {self._places[name][0] for name in column_names(sources)}
        largest = max(datasets, key=_row_bytes)
        chunk = largest.chunks[0] if largest.chunks else 1
        rows = PIECE_BYTES / (max(1, _row_bytes(largest)) * chunk)
        return aligned_ranges(start, stop, chunk * max(1, round(rows)))

    def close(self) -> None:
        """Close the file."""
        self._group.file.close()


def _row_bytes(dataset: h5py.Dataset) -> int:
    return dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64))
