"""Detection of identifiers: numbers of events, runs and rows, which say nothing about a jet."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

__all__ = ["is_identifier"]

_NAME = re.compile(
    r"((event|evt|run|lumi|lumi_?section|lumi(nosity)?_?block|ls|bx|row|entry|file)"
    r"(_?(no|nr|num|number|id|idx|index|file))?|index|idx|u?id|fold|split_key)",
    re.IGNORECASE,
)
_MIN_VALUES = 100
_MIN_DISTINCT = 0.99  # fraction of the values; numbers of particles repeat themselves


def is_identifier(name: str, values: NDArray[np.generic]) -> bool:
    """Return True if a column numbers jets, events, runs or files.

    It is one by its name, such as ``run``, ``eventNumber`` or ``luminosityBlock``, or if its values
    are whole numbers that hardly ever repeat.

    Parameters
    ----------
    name : str
        Name of the column.
    values : array, shape (B,)
        Values.

    Examples
    --------
    >>> is_identifier("eventNumber", np.zeros(3))
    True
    >>> is_identifier("number_of_tracks", np.arange(100) % 30)
    False
    """
    if _NAME.fullmatch(name.rsplit("/", 1)[-1].rsplit(".", 1)[-1]):
        return True
    if len(values) < _MIN_VALUES or values.dtype.kind not in "iuf":
        return False
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        return False
    return len(np.unique(values)) >= _MIN_DISTINCT * len(values)
