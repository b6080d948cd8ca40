"""Parquet files of pcloud and other files with lists, by pyarrow."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pcloud.errors import InputError
from pcloud.io.files import input_errors
from pcloud.io.jets import MOMENTUM, FlatCollection, FlatJets
from pcloud.io.schema import CollectionSchema, JetSchema
from pcloud.io.table import Ragged, Shape, Source, Table, aligned_ranges

__all__ = ["ParquetTable", "ParquetWriter", "read_origin"]

#: Particles in a row group that we write, 16 MB of momenta. One thread reads it as a whole.
ROW_GROUP = 1_000_000

#: Larger row groups are read in sequential batches, to limit the memory.
_MAX_GROUP_BYTES = 128 << 20
_BATCH_ROWS = 8192
_MAX_THREADS = 4

_CLASSES = b"classes"
_ORIGIN = b"origin"


class ParquetTable(Table):
    """Columns of a Parquet file that contain numbers, lists of numbers, or structs of these.

    Parameters
    ----------
    path : Path
        File.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with input_errors(path, "Parquet file"):
            self._metadata = pq.read_metadata(path)
            groups = [self._metadata.row_group(g) for g in range(self._metadata.num_row_groups)]
            self._starts = np.cumsum([0, *(group.num_rows for group in groups)])
            schema = self._metadata.schema.to_arrow_schema()
        if self._metadata.num_rows != self._starts[-1] or min(np.diff(self._starts), default=0) < 0:
            raise InputError(
                f"{path}: the rows of the row groups do not add up to the number of rows"
            )
        self._is_large = any(group.total_byte_size > _MAX_GROUP_BYTES for group in groups)
        self.threads = (
            0 if self._is_large or len(groups) < 2 else min(_MAX_THREADS, os.cpu_count() or 1)
        )
        self._paths: dict[str, tuple[str, ...]] = {}
        for field in schema:
            self._add((field.name,), field.type, (self._metadata.num_rows,))
        self.classes = self._read_classes((schema.metadata or {}).get(_CLASSES))
        self._local = threading.local()
        self._handles: list[pq.ParquetFile] = []
        self._cursor: _Cursor | None = None

    def _add(self, path: tuple[str, ...], kind: pa.DataType, shape: Shape) -> None:
        if pa.types.is_struct(kind):
            for field in kind:
                self._add((*path, field.name), field.type, shape)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._add(path, kind.value_type, (*shape, None))
        elif pa.types.is_fixed_size_list(kind):
            self._add(path, kind.value_type, (*shape, kind.list_size))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            name = ".".join(path)
            self.columns[name] = shape
            self._paths[name] = path
        elif _is_text(kind) and len(shape) == 1:
            self.texts[".".join(path)] = shape
            self._paths[".".join(path)] = path

    def _read_classes(self, value: bytes | None) -> tuple[str, ...]:
        with input_errors(self.path, "names of the classes"):
            names = json.loads(value) if value else []
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("not a list of names")
            return tuple(names)

    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` of some columns: lists as `Ragged`, others as arrays."""
        top = list(dict.fromkeys(self._paths[name][0] for name in names))
        with input_errors(self.path, "Parquet file"):
            table = self._read_table(top, start, stop).combine_chunks()
            if table.num_rows != stop - start:
                raise InputError(f"{self.path}: rows {start} to {stop} are not complete")
            return {name: self._column(table, name) for name in names}

    def _read_table(self, columns: list[str], start: int, stop: int) -> pa.Table:
        if self._is_large:
            if self._cursor is None or not self._cursor.continues(columns, start):
                self._cursor = _Cursor(self._open(columns), self._starts, columns, start)
            return self._cursor.read(start, stop)
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, stop, side="left"))
        groups = list(range(first, max(last, first)))[: len(self._starts) - 1]
        table = self._open(columns).read_row_groups(groups, columns=columns, use_threads=False)
        return table.slice(start - int(self._starts[first]), stop - start)

    def _open(self, columns: list[str]) -> pq.ParquetFile:
        """File handle of this thread; a handle of pyarrow must not be shared between threads."""
        if not hasattr(self._local, "file"):
            self._local.file = pq.ParquetFile(
                self.path,
                metadata=self._metadata,
                pre_buffer=False,
                buffer_size=1 << 20 if self._is_large else 0,
                page_checksum_verification=True,
            )
            self._handles.append(self._local.file)
        return self._local.file

    def _column(self, table: pa.Table, name: str) -> np.ndarray | Ragged:
        top, *inner = self._paths[name]
        column = table.column(top)
        array = column.chunk(0) if column.num_chunks else pa.array([], type=column.type)
        return _to_numpy(array, inner)

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the rows at the row groups."""
        if self._is_large:
            yield from aligned_ranges(start, stop, _BATCH_ROWS)
            return
        for first, last in itertools.pairwise(self._starts.tolist()):
            if max(first, start) < min(last, stop):
                yield max(first, start), min(last, stop)

    def groups(self) -> list[tuple[int, int]]:
        """Row groups with rows."""
        bounds = itertools.pairwise(self._starts.tolist())
        return [(start, stop) for start, stop in bounds if start < stop]

    def native_schema(self) -> JetSchema | None:
        """Schema of the file if it has lists of structs ``p4`` as from `ParquetWriter`, else None.

        All other columns are extra columns.
        """
        p4 = {name: f"p4.{name}" for name in MOMENTUM}
        if not all(column in self.columns for column in p4.values()):
            return None
        rest = [n for n in self.columns if not n.startswith("p4.") and n != "label"]
        lists = [name for name in rest if self.columns[name][1:] == (None,)]
        return JetSchema(
            p4=p4,
            particle={name: name for name in lists if len(self._paths[name]) == 1},
            jet={name: name for name in rest if self.columns[name][1:] == ()},
            label="label" if "label" in self.columns else None,
            classes=self.classes,
            collections=self._collections(lists),
        )

    def _collections(self, lists: Iterable[str]) -> dict[str, CollectionSchema]:
        """Further collections, which are lists of structs."""
        p4: dict[str, dict[str, str]] = {}
        columns: dict[str, dict[str, str]] = {}
        for name in lists:
            match self._paths[name]:
                case [collection, "p4", component]:
                    p4.setdefault(collection, {})[component] = name
                case [collection, column]:
                    columns.setdefault(collection, {})[column] = name
        return {
            name: CollectionSchema(p4.get(name, {}), columns=columns.get(name, {}))
            for name in dict.fromkeys((*p4, *columns))
        }

    def close(self) -> None:
        """Close the handles of all threads."""
        for handle in self._handles:
            handle.close(force=True)


def read_origin(path: Path) -> dict[str, Any] | None:
    """Plain values that a `ParquetWriter` stored in a file; None if there are none."""
    try:
        stored = (pq.read_metadata(path).metadata or {}).get(_ORIGIN)
        return None if stored is None else json.loads(stored)
    except (OSError, ValueError, pa.ArrowException):
        return None


class _Cursor:
    """Sequential reader of row groups that are too large to be read as a whole."""

    def __init__(
        self, file: pq.ParquetFile, starts: np.ndarray, columns: list[str], start: int
    ) -> None:
        first = max(0, int(np.searchsorted(starts, start, side="right")) - 1)
        groups = list(range(first, len(starts) - 1))
        self._columns = columns
        self._row = int(starts[first])
        self._batches = file.iter_batches(
            _BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False
        )
        self._rest = file.schema_arrow.empty_table().select(columns)

    def continues(self, columns: list[str], start: int) -> bool:
        return columns == self._columns and start >= self._row

    def read(self, start: int, stop: int) -> pa.Table:
        parts = [self._rest]
        num_rows = self._rest.num_rows
        while self._row + num_rows < stop:
            batch = next(self._batches, None)
            if batch is None:
                break
            parts.append(pa.Table.from_batches([batch]))
            num_rows += batch.num_rows
            if self._row + num_rows <= start:  # skip rows before `start`
                self._row += num_rows
                num_rows = 0
                parts = [self._rest.slice(0, 0)]
        table = pa.concat_tables([part.replace_schema_metadata() for part in parts])
        wanted = table.slice(start - self._row, stop - start)
        self._rest = table.slice(stop - self._row)
        self._row = stop
        return wanted


def _to_numpy(array: pa.Array, inner: list[str]) -> np.ndarray | Ragged:
    """Numbers inside lists, fixed-size lists and structs."""
    kind = array.type
    if pa.types.is_struct(kind):
        return _to_numpy(array.field(inner[0]), inner[1:])
    if pa.types.is_fixed_size_list(kind):
        content = _to_numpy(array.flatten(), inner)
        if isinstance(content, Ragged):
            raise InputError("lists inside fixed-size lists are not jets")
        return content.reshape(len(array), kind.list_size, *content.shape[1:])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        # A null list is a jet without particles, which is reported as a bad jet.
        offsets = array.offsets.to_numpy().astype(np.int64)
        content = _to_numpy(array.values.slice(offsets[0], offsets[-1] - offsets[0]), inner)
        if isinstance(content, Ragged):
            if content.inner is not None:
                raise InputError("lists of lists of lists are not jets")
            return Ragged(offsets - offsets[0], content.content, content.offsets)
        return Ragged(offsets - offsets[0], content)
    if _is_text(kind):
        decoded = array.dictionary_decode() if pa.types.is_dictionary(kind) else array
        return np.asarray(decoded.fill_null("").to_pylist(), dtype=np.str_)
    if array.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        numbers = array.cast(pa.int8()) if pa.types.is_boolean(kind) else array
        mask = array.is_null().to_numpy(zero_copy_only=False)
        return np.ma.array(numbers.fill_null(0).to_numpy(zero_copy_only=False), mask=mask)
    return array.to_numpy(zero_copy_only=False)


def _is_text(kind: pa.DataType) -> bool:
    """Return True for words, as they are or as numbers of a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


class ParquetWriter:
    """Writer of Parquet files with lists, in chunks of jets.

    For each jet, ``p4`` is a list of structs E, px, py, pz, and an extra column per particle is a
    list. ``label`` and the extra columns per jet are flat columns. awkward, polars and pandas can
    read these files. Floats are not compressed: with LZ4 the files are 15 % smaller and take 25 %
    longer to read. Pages have checksums, so that damaged files are detected.

    Parameters
    ----------
    path : Path
        File to write.
    jets : FlatJets
        First jets, which define the columns and their types.
    classes : tuple of str
        Names of the classes, empty if they are not known.
    row_group : int, optional
        Number of jets of a row group; by default as many as have a million particles.
    origin : mapping, optional
        Plain values to store, see :func:`read_origin`.
    """

    left_out: Sequence[str] = ()

    def __init__(
        self,
        path: Path,
        jets: FlatJets,
        classes: tuple[str, ...],
        row_group: int | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = path
        self._row_group = row_group
        metadata = {_CLASSES: json.dumps(classes)} if classes else {}
        if origin is not None:
            metadata[_ORIGIN] = json.dumps(dict(origin))
        self._schema = _to_arrow(jets.slice(0, 0)).schema.with_metadata(metadata)
        # Integers and flags have few different values: a dictionary makes them smaller.
        integers = [f"{n}.list.element" for n, v in jets.particle.items() if v.dtype.kind in "iu"]
        integers += [name for name, values in jets.jet.items() if values.dtype.kind in "iu"]
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="none",
            use_dictionary=integers or False,
            data_page_size=8 << 20,
            write_page_checksum=True,
            write_statistics=False,
        )
        self._waiting: list[FlatJets] = []
        self._has_rows = False

    def write(self, jets: FlatJets) -> None:
        """Append jets."""
        self._waiting.append(jets)
        if self._row_group is not None:
            self._write_groups(self._row_group)
            return
        if sum(int(part.offsets[-1]) for part in self._waiting) < ROW_GROUP:
            return
        jets = FlatJets.concatenate(self._waiting)
        start = 0
        while jets.offsets[-1] - jets.offsets[start] >= ROW_GROUP:
            end = int(np.searchsorted(jets.offsets, jets.offsets[start] + ROW_GROUP))
            self._write(jets.slice(start, end))
            start = end
        self._waiting = [jets.slice(start, len(jets))]

    def _write_groups(self, size: int) -> None:
        """Write row groups of `size` jets."""
        if sum(map(len, self._waiting)) < size:
            return
        jets = FlatJets.concatenate(self._waiting)
        last = len(jets) - len(jets) % size
        for start in range(0, last, size):
            self._write(jets.slice(start, start + size))
        self._waiting = [jets.slice(last, len(jets))]

    def _write(self, jets: FlatJets) -> None:
        self._has_rows = True
        table = _to_arrow(jets).replace_schema_metadata(self._schema.metadata)
        self._writer.write_table(table, row_group_size=max(1, len(jets)))

    def discard(self) -> None:
        """Close the unfinished file."""
        self._writer.close()

    def close(self) -> None:
        """Write the remaining jets and close the file."""
        jets = FlatJets.concatenate(self._waiting)
        if len(jets) or not self._has_rows:
            self._write(jets)
        self._writer.close()


def _to_arrow(jets: FlatJets) -> pa.Table:
    """Arrow table of jets, without a copy; no column is nullable, which makes the file smaller."""
    columns = {"p4": _lists(jets.offsets, _structs(dict(zip(MOMENTUM, jets.p4, strict=True))))}
    columns |= {
        name: _lists(jets.offsets, pa.array(values)) for name, values in jets.particle.items()
    }
    columns |= {name: pa.array(values) for name, values in jets.jet.items()}
    columns |= {name: _collection_to_arrow(part) for name, part in jets.collections.items()}
    schema = pa.schema([pa.field(n, array.type, nullable=False) for n, array in columns.items()])
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def _collection_to_arrow(entries: FlatCollection) -> pa.Array:
    """Lists of structs of the momenta and columns of a collection."""
    columns: dict[str, pa.Array] = {}
    if entries.p4 is not None:
        columns["p4"] = _structs(dict(zip(MOMENTUM, entries.p4, strict=True)))
    columns |= {name: pa.array(values) for name, values in entries.columns.items()}
    return _lists(entries.offsets, _structs(columns))


def _lists(offsets: np.ndarray, values: pa.Array) -> pa.Array:
    element = pa.field("element", values.type, nullable=False)
    return pa.ListArray.from_arrays(
        pa.array(offsets.astype(np.int32)), values, type=pa.list_(element)
    )


def _structs(columns: Mapping[str, np.ndarray | pa.Array]) -> pa.Array:
    arrays = {name: pa.array(values) for name, values in columns.items()}
    fields = [pa.field(name, array.type, nullable=False) for name, array in arrays.items()]
    return pa.StructArray.from_arrays(list(arrays.values()), fields=fields)
