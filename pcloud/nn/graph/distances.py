"""Squared distances between points, and the one rule by which neighbours are ordered.

The rule: by squared distance, computed in float64 and rounded to the 24 binary digits of float32;
where these agree, by place in the jet. The distance of coinciding points is exactly 0, and that of
any two points is a function of the two alone, so that neighbours depend neither on the processor nor
on the batch. Rounding makes distances equal that are so but for noise, such as on a grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["DISTANCE_BITS", "HALF_DIGIT", "distance_keys", "rounded", "squared_distances"]

_SPARE_DIGITS = 29  # of the 53 of float64
DISTANCE_BITS = torch.iinfo(torch.long).max - (2**_SPARE_DIGITS - 1)
"""Bits of a float64 number that remain when it is rounded, without the sign."""

HALF_DIGIT = 2 ** (_SPARE_DIGITS - 1)
"""Half of the last of these bits: added before the others are cut off, it rounds to nearest."""

_SPLIT = 2.0**_SPARE_DIGITS + 1
_STEP = 2.0**-50  # of a key from slot to slot: for 2^24 slots less than the last of 24 digits
_STEP_AT_ZERO = 2.0**-1000  # the same where the distance is 0


def squared_distances(query: Tensor, points: Tensor) -> Tensor:
    """Squared Euclidean distances by differences, in float64.

    Parameters
    ----------
    query : Tensor, shape (b, R, D), float64
        Points whose neighbours are sought.
    points : Tensor, shape (b, P, D), float64
        Points among which they are sought.

    Returns
    -------
    Tensor, shape (b, R, P)
        0 for coinciding points.
    """
    if torch.compiler.is_compiling():  # ONNX has no cdist, and a compiler fuses the differences
        return (query.unsqueeze(2) - points.unsqueeze(1)).square().sum(-1)
    return torch.cdist(query, points, compute_mode="donot_use_mm_for_euclid_dist").square_()


def rounded(squares: Tensor) -> Tensor:
    """Squared distances in float64, rounded to 24 digits.

    Not by a conversion to float32: that would lose distances below 1e-19, and compilers remove it.
    """
    if torch.compiler.is_compiling():  # ONNX cannot see the bits of a number: Veltkamp's splitting
        high = squares * _SPLIT
        return high - (high - squares)
    return (squares.view(torch.long) + HALF_DIGIT).bitwise_and_(DISTANCE_BITS).view(torch.double)


def distance_keys(squares: Tensor) -> Tensor:
    """Keys (b, R, P) in float64, all different, that order neighbours by the rule.

    Parameters
    ----------
    squares : Tensor, shape (b, R, P)
        From :func:`squared_distances`.
    """
    slot = torch.arange(squares.shape[-1], device=squares.device, dtype=squares.dtype)
    return rounded(squares) * (1 + _STEP * slot) + _STEP_AT_ZERO * slot
