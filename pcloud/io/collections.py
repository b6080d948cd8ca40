"""Reader of a further collection of the jets, such as their secondary vertices."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from pcloud.errors import InputError
from pcloud.io.jets import LABELS, FlatCollection
from pcloud.io.layouts import choose_layout
from pcloud.io.momentum import momenta_in_gev, scale
from pcloud.io.quantities import (
    Quantity,
    Rows,
    find_quantity,
    locate_quantity,
    without_missing,
)
from pcloud.io.schema import UNITS, CollectionSchema, JetSchema
from pcloud.io.source_columns import SourceColumn, to_native
from pcloud.io.table import Ragged, Table

__all__ = ["CollectionReader"]


class CollectionReader:
    """Reader of one collection of an open file.

    Parameters
    ----------
    table : Table
        File.
    schema : JetSchema
        Schema of the file.
    name : str
        Name of the collection.
    columns : collection of str, optional
        Names of the columns to read, such as ``"sv.mass"``, or ``"sv"`` for all of a collection;
        by default all. Momenta and positions are read with any of them.
    num_jets : int
        Number of jets in the file.

    Attributes
    ----------
    names : list of str
        Names of the columns with that of the collection, such as ``"sv.mass"``.
    columns : list of SourceColumn
        Columns with one row per jet, which `assemble` needs.

    Raises
    ------
    UnknownNameError
        If a column is missing.
    InputError
        If the shapes of the columns do not agree.
    """

    def __init__(
        self,
        table: Table,
        schema: JetSchema,
        name: str,
        columns: Collection[str] | None,
        num_jets: int,
    ) -> None:
        part = schema.collections[name]
        wanted = [
            column
            for column in part.values
            if columns is None
            or column in part.position
            or not {name, f"{name}.{column}"}.isdisjoint(columns)
        ]
        self._table = table
        self._schema = schema
        self._name = name
        self._p4 = {q: locate_quantity(table, text) for q, text in part.p4.items()}
        self._columns = {n: locate_quantity(table, part.values[n]) for n in wanted}
        self._columns |= self._labels()
        columns_read = [*(["p4"] if part.p4 else []), *self._columns]
        self.names = [f"{name}.{column}" for column in columns_read]
        self._arrange(part, num_jets)

    def _labels(self) -> dict[str, Quantity]:
        """Labels of the entries, which are always read."""
        schema = self._schema
        return {
            f"{LABELS}{name.removeprefix(f'{self._name}.')}": locate_quantity(self._table, text)
            for name, text in schema.particle_labels.items()
            if name.startswith(f"{self._name}.")
            and (name not in schema.optional or find_quantity(self._table, text))
        }

    @staticmethod
    def is_wanted(name: str, columns: Collection[str] | None) -> bool:
        """Return True if any of the `columns` to read is of the collection."""
        return columns is None or any(
            column == name or column.startswith(f"{name}.") for column in columns
        )

    @staticmethod
    def is_in(table: Table, part: CollectionSchema) -> bool:
        """Return True if a file has all columns of a collection."""
        references = (*part.p4.values(), *part.values.values())
        return all(find_quantity(table, text) for text in references)

    def assemble(
        self, columns: Mapping[SourceColumn, np.ndarray | Ragged], start: int, stop: int
    ) -> FlatCollection:
        """Entries of the jets `start` to `stop`, from the rows of their columns."""
        jet = {p: to_native(self._table, p, columns[p]) for p in self._per_jet}
        offsets, flat = self._layout.assemble(columns, start, stop)
        rows = Rows(str(self._table.path), offsets, flat, jet)
        p4 = None
        if self._p4:
            stored = {q: rows.of_particles(quantity) for q, quantity in self._p4.items()}
            p4 = momenta_in_gev(self._schema, f"{self._name}.p4", stored)
        values = {n: self._values(n, rows, quantity) for n, quantity in self._columns.items()}
        return FlatCollection(offsets, p4, values)

    def _values(self, name: str, rows: Rows, quantity: Quantity) -> np.ndarray:
        name = f"{self._name}.{name}"
        values = without_missing(rows.of_particles(quantity), name, self._schema.fill.get(name))
        unit = UNITS[self._schema.units.get(name, "GeV")]
        return values if unit == 1.0 else scale(values, unit)

    def _arrange(self, part: CollectionSchema, num_jets: int) -> None:
        """Find the storage of the entries."""
        quantities = [*self._p4.values(), *self._columns.values()]
        plain = [p for q in quantities if q.expression is None for p in q.columns]
        places = list(dict.fromkeys([*plain, *(p for q in quantities for p in q.columns)]))
        if not places:
            raise InputError(f"collection {self._name!r} has no column of the file")
        first = max(places, key=lambda place: (len(place.shape), place.shape[0] or 0))
        self._per_jet = [p for p in places if len(p.shape) == 1 and p.shape != first.shape]
        entries = [first, *(p for p in places if p != first and p not in self._per_jet)]
        momenta = {n: q.columns[0] for n, q in self._p4.items() if q.expression is None}
        self._layout = choose_layout(self._table, part, entries, momenta)
        self._layout.check_per_jet(self._per_jet)
        if self._layout.num_jets != num_jets:
            raise InputError(
                f"{self._table.path}: the collection {self._name!r} has {self._layout.num_jets} "
                f"jets, but the particles have {num_jets}"
            )
        self.columns = [*self._layout.columns, *self._per_jet]
