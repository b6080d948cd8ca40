"""Expressions of awkward and numpy arrays, where files are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np

from pcloud.errors import InputError
from pcloud.expressions.evaluate import Evaluator, Values
from pcloud.expressions.functions import Array, apply, number
from pcloud.expressions.tree import Expression

__all__ = ["ArrayEvaluator", "evaluate"]


def evaluate(
    expression: Expression | str,
    columns: Mapping[str, Any],
    collections: Mapping[str, str] | None = None,
    where: str = "",
) -> ak.Array:
    """Values of an expression from columns of jets.

    Parameters
    ----------
    expression : Expression or str
        The expression.
    columns : mapping of str to array
        Columns by name, of shape (B,) with one value per jet or (B, var) with one per particle.
    collections : mapping of str to str, optional
        Collection of each column with values of particles; by default all belong to one.
    where : str
        Place of the columns, such as a file, for error messages.

    Returns
    -------
    ak.Array, shape (B,) or (B, var)
        Values per jet or per particle.

    Raises
    ------
    InputError
        If a column does not exist or has missing values, or if the particles of two collections are
        combined.
    """
    if isinstance(expression, str):
        expression = Expression(expression)
    needed = {name: columns[name] for name in expression.columns if name in columns}
    evaluator = ArrayEvaluator(needed, collections or {}, where, known=columns)
    return evaluator.jagged(evaluator(expression), len(next(iter(columns.values()), ())))


class ArrayEvaluator(Evaluator[Array]):
    """Evaluator on flat numpy arrays, with the numbers of particles of each collection."""

    def __init__(
        self,
        arrays: Mapping[str, Any],
        collections: Mapping[str, str],
        where: str = "",
        known: Iterable[str] | None = None,
    ) -> None:
        self.counts: dict[str, Array] = {}
        self._first: dict[str, str] = {}
        columns = {
            name: self._flat(name, ak.Array(array), collections.get(name, "particles"))
            for name, array in arrays.items()
        }
        super().__init__(columns, where, known)

    @classmethod
    def of_flat(
        cls,
        columns: Mapping[str, Values[Array]],
        counts: Mapping[str, Array],
        where: str = "",
    ) -> ArrayEvaluator:
        """Evaluator on columns that are flat already.

        Parameters
        ----------
        columns : mapping of str to Values
            Columns by name.
        counts : mapping of str to array, shape (B,)
            Numbers of particles of each collection.
        where : str
            Place of the columns, for error messages.
        """
        evaluator = cls({}, {}, where)
        evaluator.columns = columns
        evaluator.known = columns
        evaluator.counts = dict(counts)
        return evaluator

    def _flat(self, name: str, array: ak.Array, collection: str) -> Values[Array]:
        if array.fields:
            raise InputError(f"column {name!r} holds {array.type}, not numbers")
        if ak.any(ak.is_none(array, axis=-1), axis=None):
            raise InputError(f"column {name!r} has missing values: give the schema a `fill` for it")
        if array.ndim == 1:
            return Values(_to_numpy(name, array))
        if array.ndim != 2:
            raise InputError(
                f"column {name!r} has {array.ndim} dimensions: it needs one value per jet or one "
                "per particle"
            )
        counts = ak.to_numpy(ak.num(array))
        first = self._first.setdefault(collection, name)
        if not np.array_equal(counts, self.counts.setdefault(collection, counts)):
            raise InputError(
                f"the columns {first!r} and {name!r} have different numbers of {collection}"
            )
        return Values(_to_numpy(name, ak.flatten(array)), collection)

    def jagged(self, values: Values[Array], num_jets: int) -> ak.Array:
        """Array of jets from the values of an expression."""
        if values.constant:
            return ak.Array(np.full(num_jets, values.data))
        if values.collection is None:
            return ak.Array(values.data)
        return ak.unflatten(values.data, self.counts[values.collection])

    def _apply(self, name: str, arguments: Sequence[Any]) -> Array:
        return apply(name, arguments)

    def _repeat(self, values: Any, collection: str) -> Array:
        return np.repeat(values, self.counts[collection])

    def _reduce(self, name: str, values: Any, collection: str) -> Array:
        counts = self.counts[collection]
        if name == "num":
            return counts.astype(np.int64)
        x = number(values, name)
        if name in ("any", "all"):
            jagged = ak.unflatten(x != 0, counts)
            return ak.to_numpy(ak.any(jagged, axis=1) if name == "any" else ak.all(jagged, axis=1))
        jagged = ak.unflatten(x, counts)
        if name == "sum":
            return ak.to_numpy(ak.sum(jagged, axis=1))
        if name == "mean":
            with np.errstate(invalid="ignore", divide="ignore"):
                return ak.to_numpy(ak.sum(jagged, axis=1)) / counts
        extreme = {"min": ak.min, "max": ak.max, "first": ak.firsts}[name](jagged, axis=1)
        if (counts > 0).all():
            return ak.to_numpy(ak.drop_none(extreme))
        return ak.to_numpy(ak.fill_none(ak.values_astype(extreme, np.float64), np.nan))


def _to_numpy(name: str, array: ak.Array) -> Array:
    try:
        flat = ak.to_numpy(array, allow_missing=False)
    except (TypeError, ValueError):
        raise InputError(f"column {name!r} holds {array.type}, not numbers") from None
    if flat.dtype.kind not in "biufU":
        raise InputError(f"column {name!r} holds {flat.dtype}, not numbers")
    return flat
