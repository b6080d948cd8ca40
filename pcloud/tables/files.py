"""Tables from CSV, Parquet and npz files."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.arrays import read_arrays
from pcloud.io.files import Paths, expand_paths, input_errors
from pcloud.io.load import ENTRY
from pcloud.io.read import COLUMNS, ENTRY_FILE, FILES, KEPT
from pcloud.keys import SPLIT_KEY, event_keys
from pcloud.tables.schema import TableSchema, read_schema_of_table
from pcloud.tables.table import Table
from pcloud.uniform import class_numbers
from pcloud.words import number_of

__all__ = ["column_names", "is_text", "read_columns", "read_table"]

Columns = dict[str, NDArray[Any]]

_CSV = (".csv", ".tsv", ".txt", ".gz")
_SEPARATORS = ",;\t "
_NUM_SHOWN_COLUMNS = 3  # of bad values, in an error message


def read_table(
    paths: Paths,
    schema: Any = None,
    *,
    on_bad_event: str = "error",
    needs_truth: bool = True,
    used: Sequence[str] | None = None,
) -> Table:
    """Read events from CSV (``.csv``, ``.csv.gz``, ``.tsv``), Parquet or npz files.

    Columns of numbers are the columns of the table. In an npz file a column is an array of one
    axis, and the columns of an array ``x (B, F)`` are called ``x[0]``, ``x[1]``, ..., or by the
    array ``names (F,)``.

    Parameters
    ----------
    paths : path, sequence of paths or mapping of str to paths
        Files or glob patterns; a mapping has the files of each class by its name.
    schema : TableSchema or mapping, optional
        Meaning of the columns, with the fields of :class:`TableSchema`.
    on_bad_event : {"error", "drop"}
        Treatment of events with a value that is NaN, infinite, or absent, and not missing by the
        schema.
    needs_truth : bool
        Refuse files without the columns of label and weight that the schema names.
    used : sequence of str, optional
        Columns that must be there, with good values; by default all. The others are read, too,
        because they are part of the split key.

    Returns
    -------
    Table

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If a file cannot be read, lacks a column that the schema names, or has bad values; the
        message names file, column and row.

    Examples
    --------
    >>> table = read_table("events.csv", {"label": "Label", "missing": -999})  # doctest: +SKIP
    """
    meaning = read_schema_of_table(schema)
    by_class = {None: paths} if not isinstance(paths, Mapping) else dict(paths)
    files = [(file, name) for name, part in by_class.items() for file in expand_paths(part)]
    tables: list[Table] = []
    labels = []
    for file, name in files:
        columns = read_columns(file)
        own = meaning.for_columns(list(columns))
        with input_errors(file, "table"):
            own.check(list(columns), needs_truth=needs_truth and name is None)
            tables.append(_table(columns, own, on_bad_event, len(tables), len(files), used))
        labels.append(None if own.label is None else columns.get(own.label))
        labels[-1] = None if labels[-1] is None else labels[-1][tables[-1].kept[ENTRY]]
    joined = _joined(tables, [file for file, _ in files])
    if isinstance(paths, Mapping):
        names: list[Any] = list(paths)
        numbers = [np.full(len(t), names.index(n)) for t, (_, n) in zip(tables, files, strict=True)]
        return _with_label(joined, np.concatenate(numbers), names)
    if any(label is None for label in labels):
        return joined
    own = meaning.for_columns(joined.attrs[COLUMNS])
    with input_errors(files[0][0], "label"):
        values = np.concatenate([label for label in labels if label is not None])
        return _with_label(joined, *class_numbers(values, own.classes, str(own.label)))


def is_text(path: str | Path) -> bool:
    """True for the name of a table in text, such as ``events.csv``."""
    return Path(str(path).lower().removesuffix(".gz")).suffix in _CSV


def column_names(paths: Paths) -> list[str]:
    """Names of the columns of the first of some files."""
    return list(read_columns(expand_paths(paths)[0]))


def _with_label(table: Table, label: NDArray[np.int64], classes: list[str] | None) -> Table:
    attrs = table.attrs if classes is None else table.attrs | {"classes": classes}
    parts = {n: getattr(table, n) for n in ("columns", "weight", "targets", "kept")}
    return Table(**parts, label=label, attrs=attrs)


def _table(
    columns: Columns,
    schema: TableSchema,
    on_bad: str,
    index: int,
    num_files: int,
    used: Sequence[str] | None,
) -> Table:
    """Events of a file without their label, which all files together give a number."""
    numbers = {n: _numbers(c) for n, c in columns.items() if c.dtype.kind in "fiub"}
    inputs = [n for n in schema.inputs(list(columns)) if n in numbers and n != SPLIT_KEY]
    for name in used or ():
        if name not in inputs:
            raise UnknownNameError("column of numbers", name, inputs)
    values = {}
    good = np.ones(len(next(iter(columns.values()))), dtype=bool)
    bad: list[str] = []
    for name in inputs:
        missing = schema.is_missing(numbers[name])
        wrong = ~np.isfinite(numbers[name]) & ~missing
        if wrong.any() and (used is None or name in used):
            bad.append(_said(name, wrong))
            good &= ~wrong
        values[name] = np.where(missing, np.nan, numbers[name])
    weight = _optional(numbers, columns, schema.weight)
    if weight is not None and not np.isfinite(weight).all():
        bad.append(_said(str(schema.weight), ~np.isfinite(weight)))
        good &= np.isfinite(weight)
    if bad and on_bad == "error":
        num_more = len(bad) - _NUM_SHOWN_COLUMNS
        more = f"; and {number_of(num_more, 'further column')}" if num_more > 0 else ""
        raise InputError(
            f"{'; '.join(bad[:_NUM_SHOWN_COLUMNS])}{more}: --schema.missing nan declares NaN to be "
            "a missing value, --on-bad-jet drop leaves such events out"
        )
    targets = {}
    for name, column in schema.targets.items():
        if column not in numbers:
            raise InputError(f"target {name!r}: column {column!r} holds no numbers")
        target = numbers[column]
        targets[name] = np.where(schema.is_missing(target), np.nan, target)
    kept: Columns = {ENTRY: np.arange(len(good))}
    if num_files > 1:
        kept[ENTRY_FILE] = np.full(len(good), index)
    kept |= {name: columns[name] for name in schema.keep}
    if SPLIT_KEY in columns:
        kept[SPLIT_KEY] = columns[SPLIT_KEY]
    elif schema.event is not None:
        kept[SPLIT_KEY] = event_keys(_optional(numbers, columns, schema.event).astype(np.int64))
    attrs = {COLUMNS: list(columns), KEPT: tuple(schema.keep)}
    table = Table(columns=values, weight=weight, targets=targets, kept=kept, attrs=attrs)
    return table if good.all() else table[good]


def _optional(numbers: Columns, columns: Columns, name: str | None) -> Any:
    if name is None or name not in columns:
        return None
    if name not in numbers:
        raise InputError(f"column {name!r} holds no numbers")
    return numbers[name]


def _said(name: str, wrong: NDArray[np.bool_]) -> str:
    number = number_of(int(wrong.sum()), "value")
    return f"column {name!r} has {number} NaN or infinite, the first in row {wrong.argmax()}"


def _numbers(column: NDArray[Any]) -> NDArray[np.float64]:
    return column.astype(np.float64)


def _joined(tables: list[Table], files: list[Path]) -> Table:
    first = tables[0]
    for table, file in zip(tables, files, strict=True):
        for what in ("columns", "targets", "kept"):
            names, others = (list(getattr(t, what)) for t in (first, table))
            if set(names) != set(others):
                differing = ", ".join(sorted(set(names) ^ set(others)))
                raise InputError(f"{file}: other columns than {files[0]}: {differing}")
        if (table.weight is None) != (first.weight is None):
            raise InputError(f"{file}: weights are in only some of the files")
    if len(tables) == 1:
        return first
    parts: dict[str, Any] = {
        what: {
            n: np.concatenate([getattr(t, what)[n] for t in tables]) for n in getattr(first, what)
        }
        for what in ("columns", "targets", "kept")
    }
    weights = [table.weight for table in tables if table.weight is not None]
    attrs = first.attrs | {FILES: list(map(str, files))}
    return Table(**parts, weight=np.concatenate(weights) if weights else None, attrs=attrs)


# Formats


def read_columns(path: Path) -> Columns:
    """Columns (B,) of numbers and words of a file, by name.

    Raises
    ------
    InputError
        If it is no table, cannot be read, or has no rows.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give files of tables")
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    if suffix in _CSV:
        with input_errors(path, "CSV file"):
            columns = _of_arrow(_read_csv(path))
    elif suffix in (".parquet", ".pq"):
        with input_errors(path, "Parquet file"):
            columns = _of_arrow(pq.read_table(path))
    elif suffix == ".npz":
        with input_errors(path, "npz file"):
            columns = _read_npz(path)
    else:
        raise InputError(
            f"{path}: tables are read from .csv, .parquet and .npz, not {suffix or '(no suffix)'}"
        )
    if not columns or not len(next(iter(columns.values()))):
        raise InputError(f"{path}: the table has no rows")
    return columns


def _read_csv(path: Path) -> pa.Table:
    with path.open("rb") as file:
        lines = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        header = lines.readline().decode("utf-8-sig").rstrip("\r\n")
    separator = max(_SEPARATORS, key=header.count)
    names = [name.strip().strip("\"'") for name in header.split(separator)]
    if all(_is_number(name) for name in names):
        raise InputError("the first row has no names of columns, only numbers")
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"columns repeat: {', '.join(repeated)}")
    return pa_csv.read_csv(
        path,
        read_options=pa_csv.ReadOptions(column_names=names, skip_rows=1),
        parse_options=pa_csv.ParseOptions(delimiter=separator),
        convert_options=pa_csv.ConvertOptions(strings_can_be_null=False),
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _of_arrow(table: pa.Table) -> Columns:
    """Columns of numbers and words; others, such as lists and dates, are left out."""
    columns: Columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
            kind = kind.value_type
        if pa.types.is_boolean(kind) or pa.types.is_null(kind):
            column = column.cast(pa.float64() if pa.types.is_null(kind) else pa.int8())
        if pa.types.is_decimal(kind):
            column = column.cast(pa.float64())
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            columns[name] = np.array(column.fill_null("").to_pylist(), dtype=str)
        elif column.type in _NUMBERS:
            if column.null_count:
                column = column.cast(pa.float64()).fill_null(float("nan"))
            columns[name] = column.to_numpy()
    return columns


_NUMBERS = {
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64()),
}


def _read_npz(path: Path) -> Columns:
    arrays = read_arrays(path)
    names = arrays.pop("names", None)
    columns: Columns = {}
    for name, values in arrays.items():
        if name == "classes" or values.ndim > 2 or values.dtype.kind not in "fiubUS":
            continue
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8")
        if values.ndim == 1:
            columns[name] = values
            continue
        is_named = names is not None and len(names) == values.shape[1]
        parts = (
            map(str, names)
            if names is not None and is_named
            else (f"{name}[{i}]" for i in range(values.shape[1]))
        )
        columns |= dict(zip(parts, values.T, strict=True))
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {number:,}" for name, number in lengths.items())
        raise InputError(f"columns of different lengths: {shown}")
    return columns
