"""Columns of a schema in a file: finding and reading them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.references import Column
from pcloud.io.table import Ragged, Shape, Source, Table

__all__ = ["SourceColumn", "describe_shape", "find", "locate", "read", "to_native"]


@dataclass(frozen=True)
class SourceColumn:
    """Column of a schema that exists in a file.

    Parameters
    ----------
    reference : str
        Name of the column in the schema, such as ``"X[0]"`` or ``"E_{i}"``.
    source : Source
        Name or names of the columns in the file.
    index : int, optional
        Index along the last axis of the column in the file.
    shape : Shape
        Shape (B,), (N,), or (B, P) with P None if the jets have different lengths.
    """

    reference: str
    source: Source
    index: int | None
    shape: Shape


def find(table: Table, reference: str, texts: bool = False) -> SourceColumn | None:
    """Find the column of a reference, or return None if the file does not have it.

    Columns of words are found only if `texts` is True.
    """
    columns = table.columns
    if texts and reference in table.texts:
        return SourceColumn(reference, reference, None, table.texts[reference])
    if reference in columns:
        return SourceColumn(reference, reference, None, columns[reference])
    column = Column.parse(reference)
    if column.wide:
        slots = column.slots(columns)
        return (
            SourceColumn(reference, slots, None, (*columns[slots[0]], len(slots)))
            if slots
            else None
        )
    *outer, size = columns.get(column.name, (None,))
    if column.index is None or not outer or size is None or column.index >= size:
        return None
    return SourceColumn(reference, column.name, column.index, tuple(outer))


def locate(table: Table, reference: str, texts: bool = False) -> SourceColumn:
    """Find the column of a reference; one of words only if `texts` is True.

    Raises
    ------
    UnknownNameError
        If the file does not have it; the message suggests the most similar name.
    InputError
        If the column exists, but cannot be read or has too few entries for the index, or if the
        column of a slot is missing between others.
    """
    place = find(table, reference, texts)
    column = Column.parse(reference)
    if column.wide:
        _refuse_gap(table, column)
    if place is None:
        name = column.name
        if name in table.texts:
            raise InputError(
                f"{table.path}: {table.noun} {name!r} cannot be read: its type, text, is not a number"
            )
        for unreadable, reason in table.unreadable.items():
            if name == unreadable or name.startswith(f"{unreadable}/"):
                raise InputError(
                    f"{table.path}: {table.noun} {unreadable!r} cannot be read: {reason}"
                )
        if name in table.columns:
            raise InputError(
                f"{table.path}: {table.noun} {name!r} has shape "
                f"{describe_shape(table.columns[name])}, so there is no {reference}"
            )
        raise UnknownNameError(
            table.noun, name.replace("{i}", "0"), table.columns, where=str(table.path)
        )
    return place


def _refuse_gap(table: Table, column: Column) -> None:
    """Raise an error if the columns of the slots are not numbered 0, 1, 2, ... without a gap."""
    before, _, after = column.name.partition("{i}")
    number = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    matches = (number.fullmatch(name) for name in [*table.columns, *table.unreadable])
    found = sorted(int(match[1]) for match in matches if match)
    missing = next((i for i, slot in enumerate(found) if slot != i), None)
    if missing is not None:
        raise InputError(
            f"{table.path}: {table.noun} {column.name.replace('{i}', str(missing))!r} is missing "
            f"or cannot be read, although there is {column.name.replace('{i}', str(found[-1]))!r}"
        )


def read(
    table: Table, places: Iterable[SourceColumn], start: int, stop: int
) -> dict[SourceColumn, np.ndarray | Ragged]:
    """Rows `start` to `stop` of some columns; the arrays are valid until the next call.

    Raises
    ------
    InputError
        If the file has fewer rows than it says.
    """
    places = list(places)
    sources = list(dict.fromkeys(place.source for place in places))
    columns = table.read(sources, start, stop) if sources else {}
    for source, values in columns.items():
        found = len(values.offsets) - 1 if isinstance(values, Ragged) else len(values)
        if found != stop - start:
            name = source if isinstance(source, str) else source[0]
            raise InputError(
                f"{table.path}: {table.noun} {name!r} has {found} of the rows {start} to {stop}: is "
                "the file damaged or truncated?"
            )
    return {place: _pick(columns[place.source], place.index) for place in places}


def to_native(table: Table, place: SourceColumn, values: np.ndarray | Ragged) -> np.ndarray:
    """Convert to a contiguous array of native type that remains valid after the next read.

    An array with missing whole numbers stays a masked one.

    Parameters
    ----------
    table : Table
        File, for the messages.
    place : SourceColumn
        Column.
    values : ndarray or Ragged
        Values of the column.

    Raises
    ------
    InputError
        If the values are lists, or not numbers.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind == "U" and place.source in table.texts:
        return values
    if isinstance(values, Ragged) or values.dtype.kind not in "biuf":
        kind = "lists" if isinstance(values, Ragged) else values.dtype
        raise InputError(
            f"{table.path}: {table.noun} {place.reference!r} must be numbers, got {kind}"
        )
    dtype = values.dtype
    if dtype.kind == "f":  # half and extended precision are converted
        dtype = np.dtype(np.float32 if dtype.itemsize < 8 else np.float64)
    dtype = dtype.newbyteorder("=")
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.is_masked(values):
            return np.ma.array(values, dtype=dtype, order="C")
        values = values.data
    is_safe = values.flags.c_contiguous and (values.base is None or not values.flags.writeable)
    if is_safe and dtype == values.dtype:
        return values
    return np.array(values, dtype=dtype, order="C")


def describe_shape(shape: Shape) -> str:
    """Text of a shape, with ``any`` for sizes that differ between rows."""
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _pick(values: np.ndarray | Ragged, index: int | None) -> np.ndarray | Ragged:
    if index is None:
        return values
    if isinstance(values, Ragged):
        return Ragged(values.offsets, values.content[..., index])
    return values[..., index]
