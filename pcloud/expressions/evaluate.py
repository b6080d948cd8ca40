"""Evaluation of the tree of an expression, on whatever holds the columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.expressions.functions import apply
from pcloud.expressions.tree import Call, Column, Constant, Expression, Node
from pcloud.expressions.vocabulary import CONSTANTS, REDUCTIONS

__all__ = ["Evaluator", "Values"]

T = TypeVar("T")
Scalar = bool | int | float | str


@dataclass(frozen=True)
class Values(Generic[T]):
    """Values of a column, or of a part of an expression.

    Attributes
    ----------
    data : array, shape (N,) or (B,), or number
        One value per particle of all jets, or one per jet, or one constant.
    collection : str, optional
        Collection of the particles; None for one value per jet and for a constant.
    """

    data: T | Scalar
    collection: str | None = None

    @property
    def constant(self) -> bool:
        """True for a number, a truth value or a text."""
        return isinstance(self.data, bool | int | float | str)


class Evaluator(ABC, Generic[T]):
    """Evaluator of expressions on the columns of some jets.

    Parameters
    ----------
    columns : mapping of str to Values
        Columns by name.
    where : str
        Place of the columns, for error messages.
    known : iterable of str, optional
        Names of all columns that exist there, for error messages; by default those of `columns`.
    """

    def __init__(
        self,
        columns: Mapping[str, Values[T]],
        where: str = "",
        known: Iterable[str] | None = None,
    ) -> None:
        self.columns = columns
        self.where = where
        self.known = columns if known is None else known

    def __call__(self, expression: Expression) -> Values[T]:
        """Values of an expression.

        Raises
        ------
        InputError
            If the columns do not exist, are of different collections, or have no values that the
            functions can take.
        """
        try:
            return self._node(expression.tree)
        except UnknownNameError:
            raise
        except (InputError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise InputError(f"expression {expression.text!r}: {error}") from error

    def _node(self, node: Node) -> Values[T]:
        match node:
            case Constant(value=value):
                return Values(value)
            case Column(name=name):
                return self._column(name)
        return self._call(node, [self._node(argument) for argument in node.arguments])

    def _column(self, name: str) -> Values[T]:
        if name in self.columns:
            return self.columns[name]
        if name in CONSTANTS:
            return Values(CONSTANTS[name])
        raise UnknownNameError("column", name, self.known, self.where)

    def _call(self, node: Call, arguments: Sequence[Values[T]]) -> Values[T]:
        name = node.function
        if name in REDUCTIONS and len(arguments) == 1:
            (values,) = arguments
            if values.collection is None:
                raise InputError(f"{name}() takes values of particles, not one value per jet")
            return Values(self._reduce(name, values.data, values.collection))
        if all(argument.constant for argument in arguments):
            return Values(_folded(name, [argument.data for argument in arguments]))
        collections = {c for argument in arguments if (c := argument.collection) is not None}
        if len(collections) > 1:
            names = " and ".join(sorted(collections))
            raise InputError(
                f"the particles of {names} cannot be combined: make one value per jet of one of "
                "them, such as by sum() or max()"
            )
        if not collections:
            return Values(self._apply(name, [argument.data for argument in arguments]))
        (collection,) = collections
        spread = [
            argument.data
            if argument.constant or argument.collection
            else self._repeat(argument.data, collection)
            for argument in arguments
        ]
        return Values(self._apply(name, spread), collection)

    @abstractmethod
    def _apply(self, name: str, arguments: Sequence[Any]) -> T:
        """Function of arrays of one shape and of constants, for each element."""

    @abstractmethod
    def _repeat(self, values: Any, collection: str) -> T:
        """Values (N,) for each particle from those of the jets, ``values (B,)``."""

    @abstractmethod
    def _reduce(self, name: str, values: Any, collection: str) -> T:
        """One value per jet (B,) from those of its particles, ``values (N,)``."""


def _folded(name: str, arguments: Sequence[Any]) -> Scalar:
    """Function of constants."""
    result: Scalar = np.asarray(apply(name, [np.asarray(a) for a in arguments])).item()
    return result
