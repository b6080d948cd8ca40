"""Arrays in ``.npy`` files, with the labels in a second file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pcloud.errors import InputError
from pcloud.io.files import input_errors
from pcloud.io.table import (
    PIECE_BYTES,
    Ragged,
    Source,
    Table,
    aligned_ranges,
    column_names,
)

__all__ = ["NpyFile", "labels_beside"]

ARRAY = "X"
"""Column of the array of a file."""

LABELS = "y"
"""Column of the array of the file with the labels."""

# Word in the name of a file, and the word in the name of that with the labels.
_PARTNERS = {
    "x": "y",
    "X": "Y",
    **dict.fromkeys(("data", "jets", "features", "inputs", "particles"), "labels"),
}


class NpyFile(Table):
    """Array of an ``.npy`` file as the column ``X``, and its labels as the column ``y``.

    An array with named fields has one column for each field instead. Only the rows that are read are
    in memory.

    Parameters
    ----------
    path : Path
        File.
    labels : str, optional
        File with the labels, relative to the folder of `path` or to the working folder. By default
        the one with the same name but ``y`` for ``x`` or ``labels`` for ``data``, if it exists.

    Raises
    ------
    InputError
        If a file is damaged or has pickled objects, or if the files have different numbers of rows.
    """

    noun = "array"

    def __init__(self, path: Path, labels: str | None = None) -> None:
        super().__init__(path)
        self._arrays: dict[str, np.ndarray] = {}
        self._add(path, ARRAY)
        file = labels_beside(path) if labels is None else _find(path, labels)
        if file is not None:
            self._add(file, LABELS)

    def _add(self, path: Path, name: str) -> None:
        with input_errors(path, "npy file"):
            array = _open(path)
        rows = self.columns[next(iter(self.columns))][0] if self.columns else len(array)
        if len(array) != rows:
            raise InputError(
                f"{path}: has {len(array)} rows, but {self.path} has {rows}: are these its labels?"
            )
        names = array.dtype.names or (None,)
        for field in names:
            column = name if field is None else field
            values = array if field is None else array[field]
            if column not in self.columns and values.dtype.kind in "biuf":
                self._arrays[column] = values
                self.columns[column] = values.shape

    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` of some arrays."""
        with input_errors(self.path, "npy file"):
            return {name: np.array(self._arrays[name][start:stop]) for name in names}

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the rows so that a range of the array with the largest rows has some megabytes."""
        row_bytes = [
            self._arrays[name][:1].nbytes for name in column_names(sources) if self.columns[name][0]
        ]
        return aligned_ranges(start, stop, max(1, PIECE_BYTES // max([1, *row_bytes])))

    def close(self) -> None:
        """Release the files."""
        self._arrays.clear()


def labels_beside(path: Path) -> Path | None:
    """File with the labels of an array by its name, such as ``y_train.npy`` of ``x_train.npy``."""
    words = re.split(r"([_.-])", path.stem)
    for i, word in enumerate(words):
        if word in _PARTNERS:
            other = path.with_stem("".join([*words[:i], _PARTNERS[word], *words[i + 1 :]]))
            lower = path.with_stem("".join([*words[:i], _PARTNERS[word].lower(), *words[i + 1 :]]))
            for file in (other, lower):
                if file.is_file():
                    return file
    return None


def _find(path: Path, labels: str) -> Path:
    for file in (path.parent / labels, Path(labels).expanduser()):
        if file.is_file():
            return file
    raise FileNotFoundError(f"{labels}: no such file with the labels of {path}")


def _open(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or not array.shape:
        raise InputError(f"{path}: is no array with one row per jet")
    return array
