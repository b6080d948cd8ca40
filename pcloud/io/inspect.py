"""Contents of a file of any format: trees, columns, ranges, and a schema that may fit."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from pcloud.errors import InputError
from pcloud.io.files import expand_paths, input_errors, sniff
from pcloud.io.propose import Proposal, propose_schema
from pcloud.io.read import open_table
from pcloud.io.table import Ragged, Shape, Table
from pcloud.io.values import ColumnValues
from pcloud.text_tables import aligned, html_paragraph, html_table
from pcloud.words import number_of

__all__ = ["FileContents", "inspect_file"]

_MAX_ROW_BYTES = 64 << 20  # of all columns that are read at a time


@dataclass(frozen=True)
class FileContents:
    """Contents of a file.

    Parameters
    ----------
    path : Path
        File.
    trees : dict of str to int
        Number of rows of each ROOT tree or pandas table, if the file has several.
    tree : str, optional
        The one whose columns these are.
    columns : list of ColumnValues
        Columns, with the values of the first rows.
    unreadable : dict of str to str
        Reason for each column that cannot be read.
    num_rows : int
        Number of rows that were read.
    proposal : Proposal
        Schema, as far as it follows from names and values.
    """

    path: Path
    trees: dict[str, int]
    tree: str | None
    columns: list[ColumnValues]
    unreadable: dict[str, str]
    num_rows: int
    proposal: Proposal = field(repr=False)

    def rows(self) -> list[list[str]]:
        """Rows of a table of the columns; the first is the header."""
        header = ["column", "shape", "type", "lengths", "lowest", "highest", "NaN"]
        return [header, *(column.row() for column in self.columns)]

    def schema_text(self) -> str:
        """The proposed schema as YAML, with remarks as comments."""
        lines = [f"# {note}" for note in self.proposal.notes]
        for name, value in self.proposal.schema.items():
            is_plain = isinstance(value, (dict, list))
            text = yaml.safe_dump(
                {name: value} if not is_plain else value,
                default_flow_style=is_plain,
                sort_keys=False,
                width=92,
                allow_unicode=False,
            ).strip()
            lines.append(f"{name}: " + text.replace("\n", "\n ") if is_plain else text)
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        return f"{aligned(self.rows())}\n\n{self.schema_text()}"

    def _repr_html_(self) -> str:
        return html_table(self.rows(), caption=str(self.path)) + html_paragraph(self.schema_text())


def inspect_file(path: str | Path, tree: str | None = None, *, rows: int = 2000) -> FileContents:
    """Look at the columns of a file, and propose a schema.

    Parameters
    ----------
    path : str or Path
        File.
    tree : str, optional
        ROOT tree, HDF5 group or pandas key. By default the only one, else that with the most rows.
    rows : int
        Number of rows that are read, for the ranges and for the proposal.

    Returns
    -------
    FileContents

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file is damaged or has an unknown format.
    """
    if rows < 1:
        raise InputError(f"rows must be at least 1, got {rows}")
    file = expand_paths(path)[0]
    trees = _trees(file)
    if tree is None and len(trees) > 1:
        tree = max(trees, key=lambda name: trees[name])
    with closing(open_table(file, tree)) as table:
        columns = _columns(table, rows)
        unreadable = dict(table.unreadable)
        unreadable |= {c.name: c.error for c in columns if c.error is not None}
        columns = [column for column in columns if column.error is None]
        native = table.native_schema()
    needed = tree if len(trees) > 1 else None
    proposal = propose_schema(columns, needed)
    if native is not None:
        proposal = Proposal({}, ["This is a file of pcloud: no schema is needed."])
    num_rows = max((min(rows, column.shape[0] or 0) for column in columns), default=0)
    return FileContents(file, trees, tree, columns, unreadable, num_rows, proposal)


def _trees(file: Path) -> dict[str, int]:
    """Trees of a ROOT file, or tables of pandas, with their numbers of rows."""
    kind = sniff(file)
    if kind == "root":
        from pcloud.io.root import tree_names

        return tree_names(file)
    if kind == "hdf5":
        from pcloud.io.hdf5 import frame_names

        return dict.fromkeys(frame_names(file), 0)
    return {}


def _columns(table: Table, rows: int) -> list[ColumnValues]:
    """Values of the first rows of all columns; those of one length and all that fits are read at once."""
    found = []
    waiting: dict[int, list[str]] = {}
    for name, shape in table.columns.items():
        waiting.setdefault(shape[0] or 0, []).append(name)
    for num_rows, names in waiting.items():
        number = min(rows, num_rows)
        for group in _groups(names, table.columns, number):
            found += _read(table, group, number)
    order = {name: i for i, name in enumerate(table.columns)}
    return sorted(found, key=lambda column: order[column.name])


def _groups(names: Sequence[str], shapes: dict[str, Shape], rows: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    size = 0
    for name in names:
        num_bytes = 8 * rows * int(np.prod([n or 100 for n in shapes[name][1:]], dtype=object))
        if size + num_bytes > _MAX_ROW_BYTES and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += num_bytes
    return groups


def _read(table: Table, names: list[str], rows: int) -> list[ColumnValues]:
    """Values of some columns; if they cannot be read together, each that can be read alone."""
    try:
        with input_errors(table.path, "columns"):
            values = table.read_columns(names, 0, rows)
            return [_values(name, table.columns[name], values[name]) for name in names]
    except InputError as error:
        if len(names) == 1:
            reason = str(error).removeprefix(f"{table.path}: ")
            return [ColumnValues(names[0], table.columns[names[0]], error=reason)]
    return [column for name in names for column in _read(table, [name], rows)]


def _values(name: str, shape: Shape, values: np.ndarray | Ragged) -> ColumnValues:
    if not isinstance(values, Ragged):
        return ColumnValues(name, shape, np.array(values))
    offsets = values.offsets if values.inner is None else values.inner
    return ColumnValues(
        name, shape, np.array(values.content), np.diff(offsets), np.diff(values.offsets)
    )


def summary(contents: FileContents) -> str:
    """Sentence about what was read."""
    where = f", tree {contents.tree!r}" if contents.tree else ""
    others = [f"{n!r} ({number_of(rows, 'row')})" for n, rows in contents.trees.items() if rows]
    trees = f"; there are {', '.join(others)}" if len(others) > 1 else ""
    number = number_of(len(contents.columns), "column")
    return (
        f"{contents.path}{where}: {number}, values of the first {contents.num_rows:,} rows{trees}"
    )
