"""HDF5 files: data frames of pandas, plain arrays, and compound data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the compression filters of PyTables)
import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.files import input_errors
from pcloud.io.hdf5_heaps import check_heaps
from pcloud.io.hdf5_sources import check_sources, find_file, open_for_reading
from pcloud.io.pandas_table import FixedFrame, TableFrame
from pcloud.io.table import PIECE_BYTES, Ragged, Source, Table, aligned_ranges, column_names

__all__ = ["PlainHDF5", "frame_names", "open_hdf5"]

_MAX_PIECE_BYTES = 64 << 20  # read at a time, even if a chunk is larger
_MAX_NAMES = 20_000  # names of a file, which links can multiply


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
        file = open_for_reading(path)
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
        groups = [name for name, node in _walk(file) if isinstance(node, h5py.Group)]
        raise UnknownNameError("group", tree, groups, where=str(path))
    frames = [name for name, node in _walk(file) if _is_frame(name, node)]
    if len(frames) > 1:
        raise InputError(
            f"{path}: contains several tables ({', '.join(frames)}); choose one with tree= in the schema"
        )
    return file[frames[0]] if frames else file


def frame_names(path: Path) -> list[str]:
    """Keys of the data frames of pandas in a file.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    with input_errors(path, "HDF5 file"), open_for_reading(path) as file:
        return [name for name, node in _walk(file) if _is_frame(name, node)]


def _walk(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset | str]]:
    """Yield the names and objects of a group and its subgroups, with soft and external links.

    The object of a link that leads nowhere is a text that says so. A group that contains itself by
    a link is not entered again.

    Raises
    ------
    InputError
        If links between groups give them more than 20 000 names.
    """
    open_groups = [("", group, iter(group))]  # from the outermost to the innermost
    number = 0
    while open_groups:
        prefix, parent, keys = open_groups[-1]
        key = next(keys, None)
        if key is None:
            open_groups.pop()
            continue
        number += 1
        if number > _MAX_NAMES:
            raise InputError(
                f"{group.file.filename}: has more than {_MAX_NAMES} names; choose a group with "
                "tree= in the schema"
            )
        _check_linked_file(parent, key)
        try:
            node = parent[key]
        except (KeyError, OSError):
            yield f"{prefix}{key}", _describe_link(parent.get(key, getlink=True))
            continue
        yield f"{prefix}{key}", node
        if isinstance(node, h5py.Group) and all(node != outer for _, outer, _ in open_groups):
            open_groups.append((f"{prefix}{key}/", node, iter(node)))


def _check_linked_file(parent: h5py.Group, key: str) -> None:
    if parent.id.links.get_info(key.encode()).type == h5py.h5l.TYPE_EXTERNAL:
        link = parent.get(key, getlink=True)
        file = find_file(parent, link.filename)
        if file is not None:
            check_heaps(file)


def _describe_link(link: object) -> str:
    if isinstance(link, h5py.ExternalLink):
        return f"it is a link to {link.path!r} in {link.filename!r}, which does not exist"
    if isinstance(link, h5py.SoftLink):
        return f"it is a link to {link.path!r}, which does not exist"
    return "it cannot be opened"


def _is_frame(name: str, node: h5py.Group | h5py.Dataset | str) -> bool:
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
        self._complete: set[str] = set()  # data sets whose sources are known to exist
        with input_errors(path, "HDF5 file"):
            for name, node in _walk(group):
                self._add(name, node)

    def _add(self, name: str, node: h5py.Group | h5py.Dataset | str) -> None:
        if isinstance(node, str):
            self.unreadable[name] = node
            return
        if not isinstance(node, h5py.Dataset) or not node.shape:
            return
        if node.dtype.names is None:
            if node.dtype.kind in "biuf":
                self._places[name] = (node, None)
                self.columns[name] = node.shape
            elif _type_name(node.dtype) == "text":
                self._places[name] = (node, None)
                self.texts[name] = node.shape
            else:
                self.unreadable[name] = f"its type, {_type_name(node.dtype)}, is not a number"
            return
        for field in node.dtype.names:
            self._places[f"{name}/{field}"] = (node, field)
            is_text = _type_name(node.dtype[field]) == "text"
            columns = self.texts if is_text else self.columns
            columns[f"{name}/{field}"] = node.shape + node.dtype[field].shape

    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` of some columns; each data set is read once."""
        arrays: dict[str, np.ndarray] = {}
        columns: dict[str, np.ndarray | Ragged] = {}
        for name in names:
            dataset, field = self._places[name]
            key = f"{dataset.file.filename}:{dataset.name}"
            if key not in self._complete:
                with input_errors(self.path, f"data set {name!r}"):
                    check_sources(self.path, name, dataset)
                self._complete.add(key)
            if key not in arrays:
                with input_errors(self.path, f"data set {name!r}"):
                    arrays[key] = dataset[start:stop]
            array = arrays[key]
            values = array if field is None else array[field]
            columns[name] = _to_words(values) if name in self.texts else values
        return columns

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the rows at the chunks of the data set with the largest rows."""
        datasets = {self._places[name][0] for name in column_names(sources)}
        largest = max(datasets, key=_row_bytes)
        chunk = largest.chunks[0] if largest.chunks else 1
        row_bytes = max(1, _row_bytes(largest))
        rows = chunk * max(1, round(PIECE_BYTES / (row_bytes * chunk)))
        return aligned_ranges(start, stop, max(1, min(rows, _MAX_PIECE_BYTES // row_bytes)))

    def close(self) -> None:
        """Close the file."""
        self._group.file.close()


def _type_name(dtype: np.dtype) -> str:
    return "text" if h5py.check_string_dtype(dtype) or dtype.kind == "S" else str(dtype)


def _to_words(values: np.ndarray) -> np.ndarray:
    """Words as an array of text, from bytes or from objects."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    return np.asarray([_text(value) for value in values], dtype=np.str_)


def _row_bytes(dataset: h5py.Dataset) -> int:
    return dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64))
