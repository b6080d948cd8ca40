"""Names for the types of numpy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Booleans", "Floats", "Integers"]

Floats = NDArray[np.floating]
"""Real numbers."""

Integers = NDArray[np.integer]
"""Integers, such as indices and class labels."""

Booleans = NDArray[np.bool_]
"""True or False for each entry, such as a mask."""
