"""References to columns in a schema: names, places in an array, and expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pcloud.errors import InputError, UnknownNameError
from pcloud.expressions import Expression

__all__ = ["Column", "as_expression"]

_INDEXED = re.compile(r"(?P<name>.+)\[(?P<index>\d+)\]")

# Names may contain / (HDF5), . (Parquet) and -, so that operators with these need spaces.
_NAME = re.compile(r"(?!\d)[\w{][\w{}./:-]*(\[\d+\])?")
_OPERATORS = frozenset("()+*<>=!&|~%^,")


@dataclass(frozen=True)
class Column:
    """Reference to a column: ``name``, ``name[i]`` (last axis) or ``name_{i}`` (columns of slots).

    Parameters
    ----------
    name : str
        Name of the column in the file. If every particle slot has its own column, ``{i}`` stands for
        the number of the slot.
    index : int, optional
        Index along the last axis of an array.
    """

    name: str
    index: int | None = None

    @classmethod
    def parse(cls, reference: str) -> Column:
        """Parse a reference such as ``"X[0]"``, which has the name ``X`` and the index 0."""
        match = _INDEXED.fullmatch(reference)
        return cls(match["name"], int(match["index"])) if match else cls(reference)

    @property
    def wide(self) -> bool:
        """True if each particle slot has its own column."""
        return "{i}" in self.name

    def slots(self, known: Iterable[str]) -> tuple[str, ...]:
        """Names of the columns of the slots 0, 1, ... that are in `known`."""
        known = set(known)
        names: list[str] = []
        while (name := self.name.replace("{i}", str(len(names)))) in known:
            names.append(name)
        return tuple(names)


def as_expression(reference: str) -> Expression | None:
    """Expression of a reference, or None if the reference is the name of a column.

    ``jets/pt`` and ``a-b`` are names; ``jets / pt`` and ``a - b`` are expressions.

    Raises
    ------
    InputError
        If the reference has operators or functions, but cannot be parsed.
    """
    if _NAME.fullmatch(reference):
        return None
    try:
        return Expression(reference)
    except UnknownNameError:
        raise
    except InputError:
        if _OPERATORS & set(reference):
            raise
        return None
