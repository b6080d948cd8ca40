"""Checks of HDF5 data sets whose numbers are in other files.

HDF5 returns fill values, mostly zeros, without an error for numbers that are not there: of a virtual
data set whose source is missing, shorter than its mapping or maps only some rows, and of an external
raw file that is too short. Labels would all be of class 0.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pcloud.errors import InputError
from pcloud.io.hdf5_heaps import check_heaps

__all__ = ["check_sources", "check_storage", "find_file", "open_for_reading"]

_MAX_DEPTH = 32  # virtual data sets whose sources are virtual
_UNWRITTEN_BYTES = 64 << 20  # that a data set of any size may have
_PADDING = 50  # size of the empty slots of jets, relative to the others
_CHECKSUM_BYTES = 4  # of the filter fletcher32
_CACHE_BYTES = 64 << 20  # the default of HDF5, 1 MB, decompresses larger chunks at every read


def open_for_reading(path: Path) -> h5py.File:
    """Open a file for reading.

    The locks are those of the defaults of h5py, so that the same process can open the file a second
    time in the usual way. Where these fail, it is opened without: network file systems often do not
    support locks, and reading does not need them.

    Raises
    ------
    OSError
        If the file is not an HDF5 file, or damaged.
    InputError
        If a global heap of the file is damaged.
    """
    check_heaps(path)
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES)
    except OSError as error:
        if "lock" not in str(error):
            raise
        return h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES)


def check_storage(path: Path, name: str, dataset: h5py.Dataset, unwritten: float = 0.0) -> None:
    """Check that the shape of a data set is not much larger than what is stored of it.

    The shape has no checksum. HDF5 reads fill values where nothing was written, so that a shape with
    a changed number takes any amount of memory and time. A stored chunk that is shorter than its
    checksum ends the process.

    Parameters
    ----------
    path : Path
        File that the user reads, for the message.
    name : str
        Name of the data set there, for the message.
    dataset : h5py.Dataset
        Data set.
    unwritten : float
        Allowed size of what was never written, relative to what was; 64 MiB are always allowed.

    Raises
    ------
    InputError
        If more was never written, or a chunk is shorter than its checksum.
    """
    if dataset.fletcher32:
        _check_chunks(path, name, dataset)
    num_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
    if num_bytes <= _UNWRITTEN_BYTES or dataset.is_virtual or dataset.external:
        return
    if dataset.chunks is None:
        stored = dataset.id.get_storage_size()
    else:
        chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
        stored = dataset.id.get_num_chunks() * chunk_bytes
    if num_bytes > _UNWRITTEN_BYTES + (1 + unwritten) * stored:
        raise InputError(
            f"{path}: data set {name!r} of shape {dataset.shape} has {num_bytes:,} bytes, but only "
            f"{stored:,} were written: is the file damaged?"
        )


def _check_chunks(path: Path, name: str, dataset: h5py.Dataset) -> None:
    """Check that each stored chunk is as long as its checksum."""

    def is_short(chunk: Any) -> bool | None:
        return True if chunk.size <= _CHECKSUM_BYTES else None  # None: go on

    if dataset.id.chunk_iter(is_short):
        raise InputError(
            f"{path}: data set {name!r} has a chunk that is shorter than its checksum: the file is "
            "damaged"
        )


def check_sources(path: Path, name: str, dataset: h5py.Dataset, depth: int = 0) -> None:
    """Check that all numbers of a data set exist, in its own file or in others.

    Parameters
    ----------
    path : Path
        File that the user reads, for the message.
    name : str
        Name of the data set there, for the message.
    dataset : h5py.Dataset
        Data set, or a source of it.
    depth : int
        Number of virtual data sets that lead to this one.

    Raises
    ------
    InputError
        If a source is missing or incomplete.
    """
    if depth > _MAX_DEPTH:
        raise InputError(f"{path}: data set {name!r} is virtual over more than {_MAX_DEPTH} levels")
    check_storage(path, name, dataset, _PADDING)
    if dataset.is_virtual:
        _check_mapping(path, name, dataset)
        for source in dataset.virtual_sources():
            if "%b" not in source.file_name:  # a series of files, which ends with the first missing
                _check_source(path, name, dataset, source, depth)
    for file_name, offset, size in dataset.external or ():
        file = find_file(dataset, file_name)
        is_limited = size != h5py.h5f.UNLIMITED
        if file is None or (is_limited and file.stat().st_size < offset + size):
            raise InputError(
                f"{path}: the numbers of data set {name!r} are in the file {file_name!r}, which "
                "does not exist or is too short"
            )


def _check_source(
    path: Path, name: str, dataset: h5py.Dataset, source: h5py.VDSmap, depth: int
) -> None:
    what = f"{path}: data set {name!r} is virtual, and its source {source.file_name!r}"
    file = find_file(dataset, source.file_name)
    if file is None:
        raise InputError(f"{what} does not exist: HDF5 would read zeros")
    with _opened(dataset, file) as contents:
        origin = contents.get(source.dset_name)
        if not isinstance(origin, h5py.Dataset):
            raise InputError(f"{what} has no data set {source.dset_name!r}: HDF5 would read zeros")
        if not _holds(origin, source):
            raise InputError(
                f"{what} has a data set {source.dset_name!r} of shape {origin.shape}, which is "
                "shorter than the part of it that is used: HDF5 would read zeros"
            )
        check_sources(path, name, origin, depth + 1)


def _holds(origin: h5py.Dataset, source: h5py.VDSmap) -> bool:
    """Return True if a source data set has all numbers that are mapped from it."""
    try:
        if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
            return source.vspace.get_select_npoints() <= origin.size
        last = source.src_space.get_select_bounds()[1]
    except RuntimeError:  # an unlimited selection grows with its source
        return True
    return len(last) == origin.ndim and bool(np.all(np.array(last) < origin.shape))


def _check_mapping(path: Path, name: str, dataset: h5py.Dataset) -> None:
    """Check that every row of a virtual data set has sources for all its numbers."""
    rows = dataset.shape[0]
    num_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
    if num_bytes > _UNWRITTEN_BYTES and _num_mapped(dataset) < math.prod(dataset.shape):
        raise InputError(
            f"{path}: data set {name!r} of shape {dataset.shape} is virtual, and some of its rows "
            "have no source: HDF5 would read zeros"
        )
    mapped = np.zeros(rows, dtype=np.int64)  # numbers with a source in each row
    row_size = int(np.prod(dataset.shape[1:], dtype=np.int64))
    for source in dataset.virtual_sources():
        space = source.vspace
        if space.get_select_type() == h5py.h5s.SEL_ALL:
            return
        if not space.is_regular_hyperslab():  # a selection of points or of several blocks
            first, last = (bound[0] for bound in space.get_select_bounds())
            mapped[first : last + 1] += space.get_select_npoints() // (last + 1 - first)
            continue
        start, stride, count, block = (np.array(n, dtype=object) for n in _clipped(space, rows))
        starts = start[0] + stride[0] * np.arange(count[0])
        inside = np.ravel(starts[:, None] + np.arange(block[0])).astype(np.int64)
        mapped[inside[inside < rows]] += int(np.prod(count[1:] * block[1:]))
    empty = np.flatnonzero(mapped < row_size)
    if len(empty):
        raise InputError(
            f"{path}: data set {name!r} is virtual, and {len(empty)} of its {rows} rows have no "
            f"source, the first is row {empty[0]}: HDF5 would read zeros"
        )


def _num_mapped(dataset: h5py.Dataset) -> int:
    """Upper limit of the number of elements of a virtual data set that have a source."""
    number = 0
    for source in dataset.virtual_sources():
        space = source.vspace
        if space.get_select_type() == h5py.h5s.SEL_ALL:
            return math.prod(dataset.shape)
        if space.is_regular_hyperslab():
            _, _, count, block = _clipped(space, dataset.shape[0])
            number += math.prod(count) * math.prod(block)
        else:
            number += space.get_select_npoints()
    return number


def _clipped(space: h5py.h5s.SpaceID, rows: int) -> tuple[list[int], ...]:
    """Start, stride, count and block of a selection, which ends with the data set."""
    start, stride, count, block = map(list, space.get_regular_hyperslab())
    block[0] = min(block[0], rows)
    count[0] = min(count[0], max(0, -(-(rows - start[0]) // stride[0])))
    return start, stride, count, block


def find_file(node: h5py.Group | h5py.Dataset, name: str) -> Path | None:
    """Find a file as HDF5 does: beside the file of a group or data set, or where the user is.

    Parameters
    ----------
    node : h5py.Group or h5py.Dataset
        Object that names the file.
    name : str
        Name of the file; ``"."`` is the file of the object.

    Returns
    -------
    Path, optional
        Path of the file, None if there is none.
    """
    own = Path(node.file.filename)
    if name == ".":
        return own
    return next((file for file in (own.parent / name, Path(name)) if file.is_file()), None)


@contextlib.contextmanager
def _opened(dataset: h5py.Dataset, file: Path) -> Iterator[h5py.File]:
    if file.samefile(dataset.file.filename):
        yield dataset.file
        return
    with open_for_reading(file) as source:
        yield source
