"""Labels of particles, such as the origin of a track or the number of its vertex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pcloud.errors import InputError

__all__ = ["UNKNOWN_LABEL", "particle_label"]

UNKNOWN_LABEL = -(2**31)
"""Label of particles whose label is not known, which do not count."""

_NUM_SHOWN = 8

ParticleClasses = Sequence[str] | Mapping[str, Any] | None


def particle_label(
    name: str, values: np.ndarray, classes: ParticleClasses, where: str, *, is_strict: bool = True
) -> np.ndarray:
    """Labels (N,) of particles as whole numbers: the index of the class, if there are classes.

    Parameters
    ----------
    name : str
        Name of the label.
    values : array, shape (N,)
        Stored values. NaN becomes `UNKNOWN_LABEL`; other negative numbers of no class stay.
    classes : sequence of str, mapping of str to values, or None
        Classes in the order of their numbers, or with their values.
    where : str
        File, for messages.
    is_strict : bool
        If False, values of no class become `UNKNOWN_LABEL`.

    Raises
    ------
    InputError
        If a value is not a whole number, or is of no class.
    """
    with np.errstate(invalid="ignore"):
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
        whole = np.where(missing, UNKNOWN_LABEL, values).astype(np.int64)
    if is_strict and (broken := ~missing & (whole != values)).any():
        raise InputError(
            f"{where}: particle label {name!r} must be whole numbers, got {values[broken][0]:g}"
        )
    if not classes:
        return whole
    if isinstance(classes, Mapping):
        labels = np.where(whole < 0, whole, len(classes))
        for i, numbers in enumerate(classes.values()):
            given = numbers if isinstance(numbers, tuple | list) else (numbers,)
            labels[np.isin(whole, [int(number) for number in given]) & ~missing] = i
    else:
        labels = whole
    outside = labels >= len(classes)
    if is_strict and outside.any():
        numbers = np.unique(whole[outside])
        shown = ", ".join(map(str, numbers[:_NUM_SHOWN])) + (
            ", ..." if len(numbers) > _NUM_SHOWN else ""
        )
        raise InputError(
            f"{where}: particle label {name!r} has the value {shown} in {outside.sum():,} particles, "
            f"which is none of the classes {', '.join(classes)}"
        )
    return np.where(outside, UNKNOWN_LABEL, labels)
