"""npz files, read as a stream: the arrays can be larger than the memory."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from pcloud.errors import InputError
from pcloud.io.files import input_errors
from pcloud.io.jets import MOMENTUM, FlatJets
from pcloud.io.schema import JetSchema
from pcloud.io.table import (
    PIECE_BYTES,
    Ragged,
    Shape,
    Source,
    Table,
    aligned_ranges,
    column_names,
)
from pcloud.keys import SPLIT_KEY
from pcloud.run_files import TEMPORARY_PREFIX

__all__ = ["NpzFile", "NpzWriter", "read_member"]

_PARTICLE = "particle."  # prefixes of the names of extra columns
_JET = "jet."
_BUFFER_BYTES = 1 << 22


class _Array:
    """Array of the file that is read sequentially; reading earlier rows starts at the beginning."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._path = path
        self._archive = archive
        self._info = info
        self._stream: IO[bytes] | None = None
        self._row = 0
        if info.flag_bits & 1:
            raise InputError(f"{path}: {info.filename} is encrypted")
        try:
            self.shape, self._is_fortran, self.dtype = self._open()
            self._row_shape = self.shape[1:]
            self.row_bytes = self.dtype.itemsize * int(np.prod(self._row_shape, dtype=object))
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        """Refuse pickled objects, and an array whose size differs from that in its header."""
        if self.dtype.hasobject:
            raise InputError(
                f"{self._path}: {self._info.filename} contains pickled Python objects, which are "
                "not read because they can run code; save jets as one flat array and offsets"
            )
        expected = self.row_bytes * (self.shape[0] if self.shape else 1)
        if self._info.file_size - self._header != expected:
            raise InputError(
                f"{self._path}: the size of {self._info.filename} differs from that in its header"
            )

    def _open(self) -> tuple[tuple[int, ...], bool, np.dtype]:
        self.close()
        self._stream = stream = self._archive.open(self._info)
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise InputError(f"{self._path}: unknown npy version {version}")
        shape, is_fortran, dtype = read(stream)
        if any(size < 0 for size in shape):
            raise InputError(f"{self._path}: {self._info.filename} has a negative size")
        self._header = stream.tell()
        self._row = 0
        return shape, is_fortran, dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`."""
        if self._is_fortran and len(self.shape) > 1:
            return self._read_fortran()[start:stop]
        if start < self._row or self._stream is None:
            self._open()
        assert self._stream is not None
        self._skip((start - self._row) * self.row_bytes)
        values = np.empty((stop - start, *self._row_shape), dtype=self.dtype)
        buffer = values.reshape(-1).view(np.uint8) if values.size else np.empty(0, np.uint8)
        position = 0
        while position < len(buffer):
            block = self._stream.read(min(len(buffer) - position, _BUFFER_BYTES))
            if not block:
                raise EOFError(f"{self._info.filename} ends early")
            buffer[position : position + len(block)] = np.frombuffer(block, np.uint8)
            position += len(block)
        self._row = stop
        if stop == self.shape[0]:
            self._stream.read(1)  # zipfile compares the checksum at the end of the stream
        return values

    def _skip(self, size: int) -> None:
        assert self._stream is not None
        while size > 0:
            block = self._stream.read(min(size, _BUFFER_BYTES))
            if not block:
                raise EOFError(f"{self._info.filename} ends early")
            size -= len(block)

    def _read_fortran(self) -> np.ndarray:
        """Whole array, because arrays in Fortran order cannot be read by rows."""
        with self._archive.open(self._info) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Array of an npz file, whose size and checksum are compared.

    Raises
    ------
    InputError
        If the array contains pickled objects, or its size is wrong.
    """
    array = _Array(path, archive, info)
    try:
        if not array.shape:
            raise InputError(f"{path}: {info.filename} is a single number, not an array")
        return array.read(0, array.shape[0])
    finally:
        array.close()


class NpzFile(Table):
    """Arrays of an npz file.

    Parameters
    ----------
    path : Path
        File.

    Raises
    ------
    InputError
        If the file is damaged, encrypted or contains pickled objects.
    """

    noun = "array"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._arrays: dict[str, _Array] = {}
        with input_errors(path, "npz file"):
            self._archive = zipfile.ZipFile(path)
        try:
            with input_errors(path, "npz file"):
                for info in self._archive.infolist():
                    name = info.filename.removesuffix(".npy")
                    self._arrays[name] = _Array(path, self._archive, info)
                self.columns: dict[str, Shape] = {
                    name: array.shape for name, array in self._arrays.items() if array.shape
                }
                if self._is_native() and "classes" in self._arrays:
                    names = self._arrays["classes"]
                    self.classes = tuple(str(name) for name in names.read(0, names.shape[0]))
        except BaseException:
            self.close()
            raise

    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` of some arrays; fast if they follow those of the last call."""
        columns: dict[str, np.ndarray | Ragged] = {}
        for name in names:
            with input_errors(self.path, f"array {name!r}"):
                columns[name] = self._arrays[name].read(start, stop)
        return columns

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the rows so that the array with the largest rows has some megabytes per range."""
        largest = max(self._arrays[name].row_bytes for name in column_names(sources))
        return aligned_ranges(start, stop, max(1, PIECE_BYTES // max(1, largest)))

    def _is_native(self) -> bool:
        shape = self.columns.get("p4", ())
        return "offsets" in self.columns and len(shape) == 2 and shape[1] == 4

    def native_schema(self) -> JetSchema | None:
        """Schema of the flat arrays and offsets of `NpzWriter`, else None."""
        if not self._is_native():
            return None
        return JetSchema(
            p4={name: f"p4[{i}]" for i, name in enumerate(MOMENTUM)},
            particle={
                n.removeprefix(_PARTICLE): n for n in self.columns if n.startswith(_PARTICLE)
            },
            jet={
                n.removeprefix(_JET): n
                for n in self.columns
                if n.startswith(_JET) or n == SPLIT_KEY
            },
            label="label" if "label" in self.columns else None,
            classes=self.classes,
            offsets="offsets",
        )

    def close(self) -> None:
        """Close the file."""
        for array in self._arrays.values():
            array.close()
        self._archive.close()


class NpzWriter:
    """Writer of ``p4 (N, 4)``, ``offsets``, ``label`` and the extra columns, in chunks of jets.

    An array in a zip file must be written at once, with its size first. Therefore the columns are in
    temporary files until `close`.

    Parameters
    ----------
    path : Path
        File to write.
    jets : FlatJets
        First jets, which define the columns and their types.
    classes : tuple of str
        Names of the classes, empty if they are not known.
    """

    left_out: Sequence[str] = ()

    def __init__(self, path: Path, jets: FlatJets, classes: tuple[str, ...]) -> None:
        self._path = path
        self._classes = classes
        self.left_out = list(jets.collections)
        self._folder = tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=path.parent)
        self._types = {name: values.dtype for name, values in self._columns(jets).items()}
        self._files = {
            name: (Path(self._folder.name) / str(i)).open("wb")
            for i, name in enumerate(self._types)
        }
        self._num_particles = 0
        self._num_jets = 0

    @staticmethod
    def _columns(jets: FlatJets) -> dict[str, np.ndarray]:
        columns = {"p4": np.stack(jets.p4, axis=-1), "offsets": jets.offsets[1:]}
        columns |= {_PARTICLE + name: values for name, values in jets.particle.items()}
        for name, values in jets.jet.items():
            columns[name if name in ("label", SPLIT_KEY) else _JET + name] = values
        return columns

    def write(self, jets: FlatJets) -> None:
        """Append jets."""
        columns = self._columns(jets)
        columns["offsets"] = columns["offsets"] + self._num_particles
        for name, values in columns.items():
            self._files[name].write(np.ascontiguousarray(values).data)
        self._num_particles += int(jets.offsets[-1])
        self._num_jets += len(jets)

    def discard(self) -> None:
        """Remove the temporary files without writing the file."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # of bytes that did not fit on the disk
                file.close()
        self._folder.cleanup()

    def close(self) -> None:
        """Write the file from the temporary files."""
        for file in self._files.values():
            file.close()
        with self._folder, zipfile.ZipFile(self._path, "w", allowZip64=True) as archive:
            for name, file in self._files.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    self._write_header(member, name)
                    with Path(file.name).open("rb") as column:
                        shutil.copyfileobj(column, member, _BUFFER_BYTES)
            if self._classes:
                with archive.open("classes.npy", "w") as member:
                    np.lib.format.write_array(member, np.array(self._classes))

    def _write_header(self, member: IO[bytes], name: str) -> None:
        rows = self._num_particles if name.startswith(("p4", _PARTICLE)) else self._num_jets
        shape: tuple[int, ...] = (rows, 4) if name == "p4" else (rows,)
        if name == "offsets":
            shape = (rows + 1,)
        descr = np.lib.format.dtype_to_descr(self._types[name])
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        if name == "offsets":
            member.write(np.zeros(1, dtype=np.int64).data)
