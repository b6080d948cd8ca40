"""Checked options of models that are sequences, such as the widths of layers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from pcloud.errors import InputError

__all__ = ["for_each_layer", "four_momenta", "layer_widths", "names", "nested_widths", "sides"]


def layer_widths(option: str, value: Any, *, required: bool = False) -> list[int]:
    """Return the widths of any number of layers, checked.

    Parameters
    ----------
    option : str
        Name of the option, for the message.
    value : sequence of int
        Widths, one for each layer.
    required : bool
        Refuse an empty sequence.

    Raises
    ------
    InputError
        If `value` is not a sequence of positive integers, or is empty and `required`.
    """
    widths = [_width(option, width) for width in _sequence(option, value, "[64, 32]")]
    if required and not widths:
        raise InputError(f"{option} needs at least one width, such as [16]")
    return widths


def for_each_layer(option: str, value: Any, number: int, *, least: int = 1) -> list[int]:
    """Return one integer for each of `number` layers, from one for all or a sequence, checked.

    Raises
    ------
    InputError
        If `value` is neither, has another length, or an integer is below `least`.
    """
    is_one = isinstance(value, int) and not isinstance(value, bool)
    values = [value] * number if is_one else _sequence(option, value, f"{[5] * number}")
    if len(values) != number:
        raise InputError(f"{option} has {len(values)} values for {number} layers")
    for one in values:
        if isinstance(one, bool) or not isinstance(one, int) or one < least:
            raise InputError(f"{option} must contain integers of at least {least}, got {one!r}")
    return values


def nested_widths(option: str, value: Any) -> list[list[int]]:
    """Return the widths of the layers of any number of blocks, with at least one layer in each.

    Raises
    ------
    InputError
        If `value` is not a sequence of such sequences.
    """
    blocks = _sequence(option, value, "[[64, 64], [128]]")
    return [layer_widths(f"{option}[{i}]", block, required=True) for i, block in enumerate(blocks)]


def names(option: str, value: Any) -> tuple[str, ...]:
    """Return at least one name, checked.

    Raises
    ------
    InputError
        If `value` is not a sequence of names, or is empty.
    """
    found = tuple(map(str, _sequence(option, value, "[pt]")))
    if not found:
        raise InputError(f"{option} needs at least one name")
    return found


def four_momenta(option: str, value: Any) -> list[list[float]]:
    """Return any number of four-momenta, checked.

    Raises
    ------
    InputError
        If `value` is not a sequence of sequences of four numbers.
    """
    vectors = []
    for vector in _sequence(option, value, "[[1, 0, 0, 1]]"):
        try:
            numbers = [float(x) for x in vector]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != 4:
            raise InputError(f"{option}: {vector!r} is no four-momentum [E, px, py, pz]")
        vectors.append(numbers)
    return vectors


def sides(option: str, value: Any) -> tuple[int, int]:
    """Return height and width of images, checked.

    Raises
    ------
    InputError
        If `value` is not a sequence of two positive integers.
    """
    found = layer_widths(option, value)
    if len(found) != 2:
        raise InputError(f"{option} must be [height, width], got {value!r}")
    return found[0], found[1]


def _sequence(option: str, value: Any, example: str) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"{option} must be a list such as {example}, got {value!r}")
    return list(value)


def _width(option: str, value: Any) -> int:
    try:
        width = operator.index(value)
    except TypeError:
        width = 0
    if isinstance(value, bool) or width < 1:
        raise InputError(f"{option} must contain positive integers, got {value!r}")
    return width
