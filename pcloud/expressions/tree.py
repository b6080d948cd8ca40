"""Text of an expression to a tree: numbers, columns and calls of functions."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from pcloud.errors import InputError, UnknownNameError
from pcloud.expressions.vocabulary import FUNCTIONS

__all__ = ["Call", "Column", "Constant", "Expression", "Node"]

_MAX_CHARACTERS = 4000
_MAX_DEPTH = 60

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.Pow: "power",
    ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or",
    ast.BitXor: "bitwise_xor",
    ast.And: "logical_and",
    ast.Or: "logical_or",
    ast.Not: "logical_not",
    ast.Invert: "invert",
    ast.USub: "negative",
    ast.UAdd: "positive",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}


@dataclass(frozen=True)
class Constant:
    """Number, truth value or text."""

    value: bool | int | float | str


@dataclass(frozen=True)
class Column:
    """Column by name."""

    name: str


@dataclass(frozen=True)
class Call:
    """Function of the vocabulary with its arguments."""

    function: str
    arguments: tuple[Node, ...]


Node: TypeAlias = Constant | Column | Call


@dataclass(frozen=True)
class Expression:
    """Expression of columns, as in a schema or among the features.

    Arithmetic, comparisons (also chained), ``and``, ``or``, ``not``, ``in`` and the functions of
    :data:`pcloud.expressions.vocabulary.FUNCTIONS` are understood as in Python, but for each
    element. A function with one argument of :data:`~pcloud.expressions.vocabulary.REDUCTIONS`, such
    as ``sum(part_pt)``, gives one value per jet from those of its particles. A column whose name is
    no Python name is written ``column("its name")``.

    Parameters
    ----------
    text : str
        The expression.

    Attributes
    ----------
    tree : Constant, Column or Call
        Root of the tree.
    columns : tuple of str
        Names of the columns in the order of the text.

    Raises
    ------
    InputError
        If the text is not an expression of this vocabulary.

    Examples
    --------
    >>> Expression("log(pt / jet_pt)").columns
    ('pt', 'jet_pt')
    """

    text: str
    tree: Node = field(init=False, repr=False, compare=False)
    columns: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", _Reader(self.text).tree())
        names = dict.fromkeys(node.name for node in _nodes(self.tree) if isinstance(node, Column))
        object.__setattr__(self, "columns", tuple(names))

    def __str__(self) -> str:
        return self.text


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Call):
        for argument in node.arguments:
            yield from _nodes(argument)


class _Reader:
    """Conversion of the tree of :mod:`ast` to the tree of an expression."""

    def __init__(self, text: str) -> None:
        self.text = text

    def tree(self) -> Node:
        if not isinstance(self.text, str):
            raise InputError(f"an expression is a text, not {self.text!r}")
        if len(self.text) > _MAX_CHARACTERS:
            raise InputError(
                f"an expression has at most {_MAX_CHARACTERS} characters, this one "
                f"{len(self.text)}: {self.text[:40]!r}..."
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as "is" with a literal
                parsed = ast.parse(self.text.strip(), mode="eval")
        except SyntaxError as error:
            where = f" at character {error.offset}" if error.offset else ""
            raise self.refusal(f"{error.msg}{where}") from None
        except (ValueError, RecursionError, MemoryError):
            raise self.refusal("this cannot be parsed") from None
        return self.node(parsed.body, 0)

    def refusal(self, reason: str) -> InputError:
        text = self.text if len(self.text) < 200 else self.text[:200] + "..."
        return InputError(f"expression {text!r}: {reason}")

    def node(self, node: ast.expr, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise self.refusal(f"it is nested more than {_MAX_DEPTH} times")
        match node:
            case ast.Constant(value=value):
                return self.constant(value)
            case ast.Name() | ast.Attribute():
                return self.column(node)
            case ast.UnaryOp(op=operator, operand=operand):
                return self.call(self.operator(operator), [operand], depth)
            case ast.BinOp(left=left, op=operator, right=right):
                return self.call(self.operator(operator), [left, right], depth)
            case ast.BoolOp(op=operator, values=values):
                return self.chained(self.operator(operator), values, depth)
            case ast.Compare():
                return self.comparison(node, depth)
            case ast.IfExp(test=test, body=body, orelse=other):
                return self.call("where", [test, body, other], depth)
            case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str(name))]):
                return Column(name)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.function(name, arguments, depth)
            case ast.Call(func=ast.Name(id=name)):
                raise self.refusal(f"{name}() takes no arguments by name")
            case ast.Subscript():
                raise self.refusal("x[i] is not possible; first(x) is the first particle's value")
        raise self.refusal(f"{ast.unparse(node)[:60]!r} is not arithmetic, a column or a function")

    def constant(self, value: object) -> Constant:
        if isinstance(value, bool | str | float):
            return Constant(value)
        if isinstance(value, int):
            return Constant(value if abs(value) < 2**64 else _to_float(value))
        raise self.refusal(f"{value!r} is neither a number nor a text")

    def column(self, node: ast.expr) -> Node:
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise self.refusal(f"{ast.unparse(node)[:60]!r} has no columns")
        return Column(".".join([node.id, *reversed(parts)]))

    def operator(self, operator: ast.AST) -> str:
        if type(operator) not in _OPERATORS:
            raise self.refusal(f"the operator {type(operator).__name__} is not possible")
        return _OPERATORS[type(operator)]

    def call(self, function: str, arguments: list[ast.expr], depth: int) -> Call:
        return Call(function, tuple(self.node(argument, depth + 1) for argument in arguments))

    def chained(self, function: str, values: list[ast.expr], depth: int) -> Node:
        tree, *others = (self.node(value, depth + 1) for value in values)
        for other in others:
            tree = Call(function, (tree, other))
        return tree

    def comparison(self, node: ast.Compare, depth: int) -> Node:
        operands = [node.left, *node.comparators]
        parts = [
            self.compare(operator, left, right, depth)
            for operator, left, right in zip(node.ops, operands, operands[1:], strict=False)
        ]
        tree = parts[0]
        for part in parts[1:]:
            tree = Call("logical_and", (tree, part))
        return tree

    def compare(self, operator: ast.cmpop, left: ast.expr, right: ast.expr, depth: int) -> Node:
        if isinstance(operator, ast.In | ast.NotIn):
            tree = self.function("isin", [left, right], depth)
            return tree if isinstance(operator, ast.In) else Call("logical_not", (tree,))
        return self.call(self.operator(operator), [left, right], depth)

    def function(self, name: str, arguments: list[ast.expr], depth: int) -> Node:
        if name not in FUNCTIONS:
            raise UnknownNameError("function", name, FUNCTIONS, f"the expression {self.text!r}")
        if name == "isin":
            return self.isin(arguments, depth)
        low, high = FUNCTIONS[name]
        if not low <= len(arguments) <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            plural = "s" if high > 1 else ""
            raise self.refusal(f"{name}() takes {wanted} argument{plural}, not {len(arguments)}")
        return self.call(name, arguments, depth)

    def isin(self, arguments: list[ast.expr], depth: int) -> Call:
        if len(arguments) != 2 or not isinstance(arguments[1], ast.List | ast.Tuple | ast.Set):
            raise self.refusal("membership needs a column and a list of values: isin(x, [1, 2])")
        values = [self.node(value, depth + 1) for value in arguments[1].elts]
        folded = [_signed(value) for value in values]
        if any(value is None for value in folded):
            raise self.refusal("the list of isin() has only numbers or texts")
        constants = tuple(value for value in folded if value is not None)
        return Call("isin", (self.node(arguments[0], depth + 1), *constants))


def _signed(node: Node) -> Constant | None:
    """Constant, or the negative one that ``-`` makes of it; None for anything else."""
    match node:
        case Constant():
            return node
        case Call("negative", (Constant(value=int() | float() as value),)):
            return Constant(-value)
    return None


def _to_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)
