"""Where the columns that a schema names are in a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.schema import Column
from pcloud.io.table import Ragged, Shape, Source, Table

__all__ = ["SourceColumn", "describe_shape", "find", "locate", "read", "to_native"]


@dataclass(frozen=True)
class SourceColumn:
    """A column of a schema, found in a file.

    Parameters
    ----------
    reference : str
        What the schema calls it: ``"X[0]"``, ``"E_{i}"``.
    source : Source
        What to read from the file.
    index : int, optional
        Index along the last axis.
    shape : Shape
        (B,); or (B, P), where P is None if jets differ; or (N,).
    """

    reference: str
    source: Source
    index: int | None
    shape: Shape


def find(table: Table, reference: str) -> SourceColumn | None:
    """Where a column is, or None if it is absent."""
    columns = table.columns
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


def locate(table: Table, reference: str) -> SourceColumn:
    """Where a column is.

    Raises
    ------
    UnknownNameError
        If it is absent; the message has the nearest name.
    InputError
        If only the index is too large.
    """
    place = find(table, reference)
    if place is None:
        name = Column.parse(reference).name
        if name in table.columns:
            raise InputError(
                f"{table.path}: {table.noun} {name!r} has shape "
                f"{describe_shape(table.columns[name])}, so there is no {reference}"
            )
        raise UnknownNameError(
            table.noun, name.replace("{i}", "0"), table.columns, where=str(table.path)
        )
    return place


def read(
    table: Table, places: Iterable[SourceColumn], start: int, stop: int
) -> dict[SourceColumn, np.ndarray | Ragged]:
    """Rows `start` to `stop` of some columns; arrays are good until the next call."""
    places = list(places)
    sources = list(dict.fromkeys(place.source for place in places))
    columns = table.read(sources, start, stop) if sources else {}
    return {place: _pick(columns[place.source], place.index) for place in places}


def to_native(table: Table, place: SourceColumn, values: np.ndarray | Ragged) -> np.ndarray:
    """Numbers in a native, contiguous array that outlives the next read.

    Raises
    ------
    InputError
        If they are not numbers, or lists.
    """
    if isinstance(values, Ragged) or values.dtype.kind not in "biuf":
        kind = "lists" if isinstance(values, Ragged) else values.dtype
        raise InputError(
            f"{table.path}: {table.noun} {place.reference!r} must be numbers, got {kind}"
        )
    dtype = values.dtype
    if dtype.kind == "f":  # numpy has no native arithmetic in half or extended precision
        dtype = np.dtype(np.float32 if dtype.itemsize < 8 else np.float64)
    dtype = dtype.newbyteorder("=")
    is_own = values.flags.c_contiguous and (values.base is None or not values.flags.writeable)
    if is_own and dtype == values.dtype:
        return values
    return np.array(values, dtype=dtype, order="C")


def describe_shape(shape: Shape) -> str:
    """A shape as text, with ``any`` where rows differ."""
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _pick(values: np.ndarray | Ragged, index: int | None) -> np.ndarray | Ragged:
    if index is None:
        return values
    if isinstance(values, Ragged):
        return Ragged(values.offsets, values.content[..., index])
    return values[..., index]
