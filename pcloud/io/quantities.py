"""Quantities of a schema in a file: a column, or an expression of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pcloud.errors import InputError
from pcloud.expressions import Expression
from pcloud.expressions.arrays import ArrayEvaluator
from pcloud.expressions.evaluate import Values
from pcloud.expressions.vocabulary import CONSTANTS
from pcloud.io.references import as_expression
from pcloud.io.source_columns import SourceColumn, find, locate
from pcloud.io.table import Ragged, Table

__all__ = ["Quantity", "Rows", "find_quantity", "locate_quantity", "without_missing"]

_PARTICLES = "particles"  # name of the main collection
_LARGEST_FLOAT_INTEGER = 2**53  # all whole numbers up to this one are exact in float64


@dataclass(frozen=True)
class Quantity:
    """Quantity of a schema whose columns exist in a file.

    Parameters
    ----------
    reference : str
        Column or expression in the schema.
    sources : dict of str to SourceColumn
        Columns by their names in the expression; a quantity that is a column has only this one.
    expression : Expression, optional
        Expression of the columns; None if the quantity is a column.
    """

    reference: str
    sources: Mapping[str, SourceColumn]
    expression: Expression | None = None

    @property
    def columns(self) -> tuple[SourceColumn, ...]:
        """Columns that are read."""
        return tuple(self.sources.values())


def find_quantity(table: Table, reference: str, texts: bool = False) -> Quantity | None:
    """Find the columns of a quantity, or return None if the file does not have them.

    Columns of words are found only in expressions, and if `texts` is True.
    """
    place = find(table, reference, texts)
    if place is not None:
        return Quantity(reference, {reference: place})
    expression = as_expression(reference)
    if expression is None:
        return None
    places = {name: _find_name(table, name) for name in _names(table, expression)}
    found = {name: place for name, place in places.items() if place is not None}
    return Quantity(reference, found, expression) if len(found) == len(places) else None


def locate_quantity(table: Table, reference: str, texts: bool = False) -> Quantity:
    """Find the columns of a quantity.

    Raises
    ------
    UnknownNameError
        If the file does not have one; the message suggests the most similar name.
    InputError
        If a column cannot be read.
    """
    quantity = find_quantity(table, reference, texts)
    if quantity is not None and quantity.expression is not None:
        return quantity
    expression = as_expression(reference) if quantity is None else None
    if expression is None:
        return Quantity(reference, {reference: locate(table, reference, texts)})
    for name in _names(table, expression):
        if _find_name(table, name) is None:
            locate(table, name, texts=True)
    raise AssertionError("one of the columns is missing")


def _names(table: Table, expression: Expression) -> list[str]:
    """Names of columns in an expression, without the constants that are no columns."""
    return [n for n in expression.columns if n in table.columns or n not in CONSTANTS]


def _find_name(table: Table, name: str) -> SourceColumn | None:
    """Column of a name in an expression, in which ``tracks.pt`` may stand for ``tracks/pt``."""
    return find(table, name, texts=True) or find(table, name.replace(".", "/"), texts=True)


class Rows:
    """Columns of a range of jets, and the quantities that follow from them.

    Parameters
    ----------
    where : str
        File, for error messages.
    offsets : array, shape (B + 1,), int64
        Offsets of the particles of the jets.
    particle : mapping of SourceColumn to array, shape (N,)
        Columns per particle.
    jet : mapping of SourceColumn to array, shape (B,)
        Columns per jet.
    lists : mapping of SourceColumn to Ragged, optional
        Lists of any lengths, of which expressions make values per jet.
    """

    def __init__(
        self,
        where: str,
        offsets: np.ndarray,
        particle: Mapping[SourceColumn, np.ndarray],
        jet: Mapping[SourceColumn, np.ndarray],
        lists: Mapping[SourceColumn, Ragged] | None = None,
    ) -> None:
        self._where = where
        self.offsets = offsets
        self._particle = particle
        self._jet = jet
        self._lists = lists or {}
        self._results: dict[str, np.ndarray] = {}  # of expressions per jet: labels are used twice

    def of_particles(self, quantity: Quantity) -> np.ndarray:
        """Values (N,) of a quantity; those per jet are repeated.

        Raises
        ------
        InputError
            If the quantity has no value per particle.
        """
        if quantity.expression is None:
            return self._particle[quantity.columns[0]]
        counts = np.diff(self.offsets)
        values = self._evaluate(quantity)
        data = self._rounded(np.asarray(values.data), quantity)
        if values.constant:
            return np.full(self.offsets[-1], data)
        if values.collection is None:
            return np.repeat(data, counts)
        if values.collection != _PARTICLES:
            raise self._error(quantity, "has the values of another collection")
        return data

    def of_jets(self, quantity: Quantity) -> np.ndarray:
        """Values (B,) of a quantity per jet.

        Raises
        ------
        InputError
            If the quantity has one value per particle.
        """
        if quantity.expression is None:
            return self._jet[quantity.columns[0]]
        if quantity.reference not in self._results:
            self._results[quantity.reference] = self._per_jet(quantity)
        return self._results[quantity.reference]

    def _per_jet(self, quantity: Quantity) -> np.ndarray:
        values = self._evaluate(quantity)
        if values.collection is not None:
            raise self._error(
                quantity,
                "has one value per particle: make one per jet of them, such as by sum() or max()",
            )
        data = self._rounded(np.asarray(values.data), quantity)
        return np.full(len(self.offsets) - 1, data) if values.constant else data

    def _evaluate(self, quantity: Quantity) -> Values[np.ndarray]:
        assert quantity.expression is not None
        counts = {_PARTICLES: np.diff(self.offsets)}
        columns = {}
        for name, place in quantity.sources.items():
            if place in self._jet:
                columns[name] = Values(without_missing(self._jet[place], place.reference))
            elif place in self._particle:
                data = without_missing(self._particle[place], place.reference)
                columns[name] = Values(data, _PARTICLES)
            else:
                lists = self._lists[place]
                columns[name] = Values(lists.content, _collection(np.diff(lists.offsets), counts))
        return ArrayEvaluator.of_flat(columns, counts, self._where)(quantity.expression)

    def _rounded(self, values: np.ndarray, quantity: Quantity) -> np.ndarray:
        """Values as float32 if no column of the expression is float64."""
        if values.dtype != np.float64:
            return values
        for place in quantity.columns:
            column = self._jet.get(place, self._particle.get(place))
            if (self._lists[place].content if column is None else column).dtype == np.float64:
                return values
        return values.astype(np.float32)

    def _error(self, quantity: Quantity, what: str) -> InputError:
        return InputError(f"{self._where}: expression {quantity.reference!r} {what}")


def _collection(sizes: np.ndarray, counts: dict[str, np.ndarray]) -> str:
    """Name of the collection with these sizes (B,), which is added to `counts` if it is new."""
    for name, others in counts.items():
        if np.array_equal(sizes, others):
            return name
    name = f"list {len(counts)}"
    counts[name] = sizes
    return name


def without_missing(values: np.ndarray, reference: str, fill: float | None = None) -> np.ndarray:
    """Values with `fill` in the place of missing, NaN and infinite ones.

    Without `fill`, missing whole numbers become NaN.

    Raises
    ------
    InputError
        If `fill` is not given and whole numbers are too large for float64.
    """
    if isinstance(values, np.ma.MaskedArray):
        numbers = values.compressed()
        if fill is not None:
            filled = values.filled(0)
            if float(fill).is_integer() and _fits(int(fill), values.dtype):
                filled[values.mask] = int(fill)
                return filled
        if len(numbers) and max(abs(int(numbers.min())), int(numbers.max())) > (
            _LARGEST_FLOAT_INTEGER
        ):
            raise InputError(
                f"column {reference!r} has missing values among whole numbers above 2^53: give "
                "the schema a whole number as `fill` for it"
            )
        values = np.ma.filled(values.astype(np.float64), np.nan)
    if fill is None or values.dtype.kind != "f":
        return values
    return np.where(np.isfinite(values), values, values.dtype.type(fill))


def _fits(number: int, dtype: np.dtype) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= number <= limits.max
