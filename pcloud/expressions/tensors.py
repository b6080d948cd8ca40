"""Expressions of tensors, where the inputs of a network are computed; differentiable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import InputError
from pcloud.expressions.evaluate import Evaluator, Values
from pcloud.expressions.tree import Expression

__all__ = ["TensorEvaluator", "evaluate"]


def evaluate(
    expression: Expression | str,
    particles: Mapping[str, Tensor],
    jets: Mapping[str, Tensor],
    batch: Tensor,
    num_jets: int,
) -> Tensor:
    """Values of an expression from columns of a batch.

    Parameters
    ----------
    expression : Expression or str
        The expression.
    particles : mapping of str to Tensor, shape (N,)
        Columns with one value per particle.
    jets : mapping of str to Tensor, shape (B,)
        Columns with one value per jet.
    batch : Tensor, shape (N,)
        Index of the jet of each particle, sorted.
    num_jets : int
        Number of jets B.

    Returns
    -------
    Tensor, shape (N,) or (B,)
        Values per particle or per jet.

    Raises
    ------
    InputError
        If a column does not exist, or the expression has texts.
    """
    if isinstance(expression, str):
        expression = Expression(expression)
    columns: dict[str, Values[Tensor]] = {name: Values(x) for name, x in jets.items()}
    columns |= {name: Values(x, "particles") for name, x in particles.items()}
    values = TensorEvaluator(columns, batch, num_jets)(expression).data
    if isinstance(values, Tensor):
        return values
    if isinstance(values, str):
        raise InputError(f"expression {expression.text!r}: a text cannot be an input of a network")
    return torch.full((num_jets,), values, device=batch.device)


class TensorEvaluator(Evaluator[Tensor]):
    """Evaluator on tensors of one collection."""

    def __init__(
        self, columns: Mapping[str, Values[Tensor]], batch: Tensor, num_jets: int, where: str = ""
    ) -> None:
        super().__init__(columns, where)
        self.batch = batch
        self.num_jets = num_jets

    def _apply(self, name: str, arguments: Sequence[Any]) -> Tensor:
        if any(isinstance(argument, str) for argument in arguments):
            raise InputError("a text cannot be an input of a network")
        if name in _NUMERIC:
            arguments = [_number(argument) for argument in arguments]
            functions = _NUMERIC
            if torch.onnx.is_in_onnx_export() and name in _IN_ONNX:
                functions = _IN_ONNX
            return functions[name](*_tensors(arguments))
        return _TRUTH[name](*_tensors(arguments))

    def _repeat(self, values: Any, collection: str) -> Tensor:
        return values.index_select(0, self.batch)

    def _reduce(self, name: str, values: Any, collection: str) -> Tensor:
        if torch.compiler.is_compiling():
            one = torch.ones_like(self.batch)
            counts = one.new_zeros(self.num_jets).index_add(0, self.batch, one)
        else:
            counts = torch.bincount(self.batch, minlength=self.num_jets)
        if name == "num":
            return counts
        if name in ("any", "all"):
            wrong = values == 0 if name == "all" else values != 0
            number = counts.new_zeros(self.num_jets).index_add(0, self.batch, wrong.to(counts))
            return number == 0 if name == "all" else number > 0
        x = _number(values)
        total = x.new_zeros(self.num_jets).index_add(0, self.batch, x)
        if name == "sum":
            return total
        if name == "mean":
            return total / counts
        empty = counts == 0
        if name == "first" and torch.compiler.is_compiling():
            row = torch.arange(x.shape[0], device=x.device)
            start = row.new_zeros(self.num_jets).scatter_reduce(
                0, self.batch, row, "amin", include_self=False
            )
            reduced = x.index_select(0, start)
        elif name == "first":
            start = (counts.cumsum(0) - counts).clamp(max=max(len(x) - 1, 0))
            reduced = x.index_select(0, start) if len(x) else x.new_zeros(self.num_jets)
        else:
            reduced = x.new_zeros(self.num_jets).scatter_reduce(
                0, self.batch, x, f"a{name}", include_self=False
            )
        if not torch.compiler.is_compiling() and not empty.any():
            return reduced
        return torch.where(empty, torch.nan, _float(reduced))


def _number(x: Any) -> Any:
    """Integers in 64 bits; floating-point numbers in at least 32 bits."""
    if isinstance(x, bool):
        return int(x)
    if not isinstance(x, Tensor):
        return x
    if not x.is_floating_point():
        return x.long()
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _float(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def _tensors(arguments: Sequence[Any]) -> list[Tensor]:
    """Tensors from tensors and constants; a constant does not change the type of the others."""
    like = next(argument for argument in arguments if isinstance(argument, Tensor))

    def tensor(x: Any) -> Tensor:
        dtype = torch.float64 if isinstance(x, float) else None
        return torch.tensor(x, dtype=dtype, device=like.device)

    return [a if isinstance(a, Tensor) else tensor(a) for a in arguments]


def _floats(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *x: function(*(_float(a) for a in x))


def _whole(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def divide(x: Tensor, y: Tensor) -> Tensor:
        integers = not (x.is_floating_point() or y.is_floating_point())
        if torch.compiler.is_compiling():
            return function(x.double(), y)
        if integers and not (y == 0).any():
            return function(x, y)
        return function(_float(x), y)

    return divide


def _bits(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def apply(*x: Tensor) -> Tensor:
        if all(a.dtype == torch.bool for a in x):
            return function(*x)
        if any(a.is_floating_point() for a in x):
            raise InputError(
                "&, |, ^ and ~ take truth values or integers; comparisons beside them need "
                "brackets, such as (pt > 5) & (eta < 2)"
            )
        return function(*(_number(a) for a in x))

    return apply


def _isin(x: Tensor, *values: Tensor) -> Tensor:
    found = torch.zeros_like(x, dtype=torch.bool)
    for value in values:
        found = found | (x == value)
    return found


def _to_integer(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        return x
    if not torch.compiler.is_compiling() and not (x.abs() < 2**63).all():
        raise InputError("int() takes finite numbers below 2^63")
    return x.long()


_NUMERIC: dict[str, Callable[..., Tensor]] = {
    **{
        name: _floats(getattr(torch, name))
        for name in (
            *("sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan"),
            *("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh"),
            *("arctanh", "hypot", "arctan2", "floor", "ceil", "round", "isnan", "isfinite"),
        )
    },
    **{
        name: getattr(torch, name)
        for name in ("add", "subtract", "multiply", "divide", "negative", "positive", "abs", "sign")
    },
    **{name: getattr(torch, name) for name in ("minimum", "maximum")},
    "min": torch.minimum,
    "max": torch.maximum,
    "remainder": _whole(torch.remainder),
    "floor_divide": _whole(torch.floor_divide),
    "power": _floats(torch.pow),
    "int": _to_integer,
    "float": _float,
    "where": lambda condition, x, y: torch.where(condition != 0, x, y),
    "clip": lambda x, low, high: torch.minimum(torch.maximum(x, low), high),
    "wrap_phi": _floats(kinematics.wrap_phi),
}

_IN_ONNX: dict[str, Callable[..., Tensor]] = {
    "tan": lambda x: _float(x).sin() / _float(x).cos(),
    "arcsin": lambda x: kinematics.atan2(_float(x), (1 - _float(x).square()).sqrt()),
    "arccos": lambda x: kinematics.atan2((1 - _float(x).square()).sqrt(), _float(x)),
    "arctan": lambda x: kinematics.atan2(_float(x), torch.ones_like(_float(x))),
    "arctan2": _floats(kinematics.atan2),
    "sinh": lambda x: (_float(x).exp() - (-_float(x)).exp()) / 2,
    "cosh": lambda x: (_float(x).exp() + (-_float(x)).exp()) / 2,
    "arcsinh": _floats(kinematics.asinh),
    "arccosh": lambda x: (_float(x) + (_float(x).square() - 1).sqrt()).log(),
    "arctanh": lambda x: ((1 + _float(x)) / (1 - _float(x))).log() / 2,
    "hypot": lambda x, y: (_float(x).square() + _float(y).square()).sqrt(),
}
"""Functions that ONNX Runtime has in float32 only, in terms of others."""

_TRUTH: dict[str, Callable[..., Tensor]] = {
    "logical_and": lambda x, y: (x != 0) & (y != 0),
    "logical_or": lambda x, y: (x != 0) | (y != 0),
    "logical_not": lambda x: x == 0,
    "bool": lambda x: x != 0,
    "bitwise_and": _bits(torch.bitwise_and),
    "bitwise_or": _bits(torch.bitwise_or),
    "bitwise_xor": _bits(torch.bitwise_xor),
    "invert": _bits(torch.bitwise_not),
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "isin": _isin,
}
