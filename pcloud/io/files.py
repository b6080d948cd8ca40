"""Paths, file formats and atomic writing of output files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pcloud.errors import InputError
from pcloud.io.remote import is_remote, local_copies
from pcloud.run_files import atomic_path, check_writable

__all__ = [
    "SUFFIXES",
    "Paths",
    "check_new_file",
    "expand_paths",
    "file_identity",
    "input_errors",
    "mirrored_paths",
    "new_file",
    "sniff",
]

_PathList = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Paths = _PathList | Mapping[str, _PathList]
"""Files; a mapping has the files of each class by its name."""

#: Format of each suffix that can be read.
SUFFIXES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".hdf": "hdf5",
    ".root": "root",
    ".parquet": "parquet",
    ".npz": "npz",
    ".npy": "npy",
}

_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"root": "root",
    b"PAR1": "parquet",
    b"PARE": "encrypted parquet",
    b"PK\x03\x04": "npz",
    b"\x93NUMPY": "npy",
}
_NAMES = {
    "hdf5": "an HDF5",
    "root": "a ROOT",
    "parquet": "a Parquet",
    "npz": "an npz",
    "npy": "an npy",
}


def expand_paths(paths: Paths) -> list[Path]:
    """Files of a path, a glob pattern, a directory, a sequence of these, or a mapping by class.

    An address such as ``s3://bucket/jets.parquet`` is that of files that are copied;
    see :mod:`pcloud.io.remote`.

    Raises
    ------
    FileNotFoundError
        If a path does not exist or a pattern matches nothing.
    InputError
        If a directory contains no file of jets, or no path was given.
    """
    if isinstance(paths, (str, os.PathLike)):
        return _expand_one(os.fspath(paths))
    if isinstance(paths, Mapping):
        return [file for part in paths.values() for file in expand_paths(part)]
    if not isinstance(paths, Sequence) or isinstance(paths, (bytes, bytearray)):
        raise InputError(f"a path must be a string, a Path or a sequence of them, got {paths!r}")
    if not paths:
        raise InputError("no file given: the sequence of paths is empty")
    return [file for path in paths for file in _expand_one(os.fspath(path))]


def _expand_one(path: str) -> list[Path]:
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(f"not a path: {path!r}")
    if is_remote(path):
        return local_copies(path)
    location = Path(path).expanduser()
    if location.is_dir():
        files = sorted(f for f in location.iterdir() if f.suffix in SUFFIXES and f.is_file())
        files = [file for file in files if not file.name.startswith(".")]
        # An array may be the labels of another.
        files = [file for file in files if file.suffix != ".npy"]
        if not files:
            raise InputError(f"{path}: no file of jets there ({', '.join(SUFFIXES)})")
        return files
    if location.exists():
        return [location]
    if glob.has_magic(path):
        # Path.glob does not accept absolute patterns.
        matches = sorted(map(Path, glob.glob(os.fspath(location), recursive=True)))  # noqa: PTH207
        if matches:
            return [match for match in matches if match.is_file()] or [matches[0]]
        raise FileNotFoundError(f"{path}: no file matches this pattern")
    if not location.parent.is_dir():
        raise FileNotFoundError(
            f"{path}: no such file; the folder {location.parent} does not exist"
        )
    raise FileNotFoundError(f"{path}: no such file")


def sniff(path: Path) -> str:
    """Format of a file, determined from its first bytes; the suffix is used only in messages.

    Raises
    ------
    InputError
        If the file is empty, encrypted or has an unknown format.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if not head:
            raise InputError(f"{path}: the file is empty (0 bytes)")
        for magic, name in _MAGIC.items():
            if head.startswith(magic):
                if name == "encrypted parquet":
                    raise InputError(f"{path}: encrypted Parquet files cannot be read")
                return name
        expected = SUFFIXES.get(path.suffix.lower())
        if expected == "hdf5" and _hdf5_after_user_block(path):
            return "hdf5"
    if expected:
        raise InputError(
            f"{path}: not {_NAMES[expected]} file, although the suffix says so (it starts with "
            f"{head[:8]!r}): the file is damaged or has another format"
        )
    raise InputError(
        f"{path}: unknown format {path.suffix or '(no suffix)'!r}; jets are read from "
        f"{', '.join(SUFFIXES)}"
    )


def _hdf5_after_user_block(path: Path) -> bool:
    """Return True if the HDF5 signature is at 512, 1024, 2048, ... bytes, as HDF5 allows."""
    signature = next(iter(_MAGIC))
    with path.open("rb") as file:
        position = 512
        size = path.stat().st_size
        while position < size:
            file.seek(position)
            if file.read(8) == signature:
                return True
            position *= 2
    return False


@contextmanager
def input_errors(path: Path, what: str) -> Iterator[None]:
    """Context that converts errors of third-party readers to an `InputError` of one line.

    Libraries raise almost any exception if the content of a file is damaged. Only what reads the
    content of a file stands in such a context, and the exception remains the cause of the error.
    Warnings that are errors by a filter stay what they are. An `InputError` without the name of the
    file gets it.

    Parameters
    ----------
    path : Path
        File, for the message.
    what : str
        Name of what is read, for the message.
    """
    try:
        yield
    except (InputError, FileNotFoundError, PermissionError, Warning) as error:
        if type(error) is InputError and str(path) not in str(error):
            raise InputError(f"{path}: {error}") from error
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        if not isinstance(error, (OSError, ValueError, RuntimeError)) or not reason:
            reason = f"{type(error).__name__}: {reason}".removesuffix(": ")
        raise InputError(
            f"{path}: cannot read the {what}, is the file damaged or truncated? ({reason})"
        ) from error


def check_new_file(path: Path, overwrite: bool) -> None:
    """Check that a file can be written, before long work.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is False.
    FileNotFoundError
        If the folder of `path` does not exist.
    IsADirectoryError
        If `path` is a folder.
    CannotWriteError
        If no file can be made in the folder of `path`.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not a file to write")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already; overwrite=True (--overwrite) replaces it")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.absolute().parent} does not exist")
    check_writable(path.parent)


@contextmanager
def new_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """Context with a temporary file that is renamed to `path` on success and removed on failure.

    Raises
    ------
    FileExistsError, FileNotFoundError, IsADirectoryError
        As from :func:`check_new_file`.
    """
    check_new_file(path, overwrite)
    with atomic_path(path, f"{os.getpid()}.part") as part:
        yield part


def mirrored_paths(files: Sequence[Path], folder: Path) -> list[Path]:
    """Path of a Parquet file in a folder for each of some files; all are different.

    Raises
    ------
    InputError
        If a file is given twice.
    """
    absolute = [Path(os.path.abspath(file)) for file in files]  # noqa: PTH100 (links stay)
    if len(set(absolute)) < len(absolute):
        repeated = next(file for file in absolute if absolute.count(file) > 1)
        raise InputError(f"{repeated} is given twice")
    parent = Path(os.path.commonpath([file.parent for file in absolute]))
    relative = [file.relative_to(parent) for file in absolute]
    short = [path.with_suffix(".parquet") for path in relative]
    return [
        folder / (path if short.count(path) == 1 else whole.with_name(f"{whole.name}.parquet"))
        for path, whole in zip(short, relative, strict=True)
    ]


def file_identity(file: Path) -> dict[str, Any]:
    """Path, size and time of a file, by which a changed file is recognised."""
    status = file.stat()
    path = os.path.abspath(file)  # noqa: PTH100 (links stay)
    return {"path": path, "bytes": status.st_size, "modified": status.st_mtime_ns}
