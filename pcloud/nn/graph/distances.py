"""Squared distances between points, and the order of neighbours.

Neighbours are ordered by squared distance, computed in float64 and rounded to the 24 binary digits
of float32. Equal distances are ordered by the position in the jet. The distance of coinciding
points is exactly 0. The distance of two points depends on these two points only, so that the
neighbours depend neither on the processor nor on the batch. Rounding makes distances equal that
differ only by rounding errors, for example on a grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from pcloud.nn.numerics.derivatives import is_recorded

__all__ = [
    "DISTANCE_BITS",
    "HALF_DIGIT",
    "distance_keys",
    "distances_by_products",
    "rounded",
    "squared_distances",
]

_SPARE_DIGITS = 29  # of the 53 of float64
DISTANCE_BITS = torch.iinfo(torch.long).max - (2**_SPARE_DIGITS - 1)
"""Mask of the bits of a float64 number that remain after rounding, without the sign bit."""

HALF_DIGIT = 2 ** (_SPARE_DIGITS - 1)
"""Half of the last remaining bit: adding it before the truncation rounds to nearest."""

_SPLIT_FACTOR = 2.0**_SPARE_DIGITS + 1
_MAX_DIFFERENCES = 4  # dimensions; with more, products take a tenth of the time
_BY_PRODUCTS: ContextVar[bool] = ContextVar("by_products", default=False)
_RELATIVE_STEP = 2.0**-50  # of a key per slot: for 2^24 slots below the last of 24 digits
_ABSOLUTE_STEP = 2.0**-1000  # of a key per slot where the distance is 0


@contextmanager
def distances_by_products() -> Iterator[None]:
    """Context in which recorded networks compute distances in many dimensions by matrix products.

    For programs that have such products in float64. ONNX Runtime before 1.24 has them as Einstein
    sums only, which the exporter of PyTorch does not write.
    """
    token = _BY_PRODUCTS.set(True)
    try:
        yield
    finally:
        _BY_PRODUCTS.reset(token)


def squared_distances(query: Tensor, points: Tensor) -> Tensor:
    """Squared Euclidean distances in float64, by differences.

    In a network that is recorded within :func:`distances_by_products` they are computed by a matrix
    product, whose rounding errors are far below the 24 digits that order the neighbours.

    Parameters
    ----------
    query : Tensor, shape (b, R, D), float64
        Points whose neighbours are searched.
    points : Tensor, shape (b, P, D), float64
        Points among which the neighbours are searched.

    Returns
    -------
    Tensor, shape (b, R, P)
        0 for coinciding points, from a product up to rounding.
    """
    if is_recorded():
        is_wide = query is points and points.shape[-1] > _MAX_DIFFERENCES
        if is_wide and _BY_PRODUCTS.get():
            return _by_products(points)
        first, *others = range(points.shape[-1])
        squares = _squares(query, points, first)
        for axis in others:
            squares = squares + _squares(query, points, axis)
        return squares
    if torch.compiler.is_compiling():  # ONNX has no cdist, and a compiler fuses the differences
        return (query.unsqueeze(2) - points.unsqueeze(1)).square().sum(-1)
    return torch.cdist(query, points, compute_mode="donot_use_mm_for_euclid_dist").square_()


def _squares(query: Tensor, points: Tensor, axis: int) -> Tensor:
    """Squared differences (b, R, P) of one coordinate."""
    return (query[:, :, None, axis] - points[:, None, :, axis]).square()


def _by_products(x: Tensor) -> Tensor:
    """Squared distances (b, P, P) of points ``x (b, P, D)`` by one matrix product.

    The differences, of shape (b, P, P, D), would take most of the time of an exported network. Here near
    neighbours lose digits by cancellation, of which float64 has 29 more than are used. Coinciding points
    are at 0 up to rounding: their order has no effect, because they have the same features.
    """
    x = x - x[:, :1]  # zeros for a jet of coinciding particles
    norms = x.square().sum(-1, keepdim=True)
    ones = torch.ones_like(norms)
    return torch.cat([-2 * x, norms, ones], dim=-1) @ torch.cat([x, ones, norms], dim=-1).mT


def rounded(squares: Tensor) -> Tensor:
    """Squared distances in float64, rounded to 24 digits.

    A conversion to float32 would set distances below 1e-19 to 0, and compilers remove it.
    """
    if torch.compiler.is_compiling():  # Veltkamp's splitting: ONNX has no access to the bits
        high = squares * _SPLIT_FACTOR
        return high - (high - squares)
    return (squares.view(torch.long) + HALF_DIGIT).bitwise_and_(DISTANCE_BITS).view(torch.double)


def distance_keys(squares: Tensor) -> Tensor:
    """Sort keys (b, R, P) in float64, all different, that increase in the order of neighbours.

    In a graph for ONNX the keys are in float32, and equal for equal distances.

    Parameters
    ----------
    squares : Tensor, shape (b, R, P)
        Squared distances from :func:`squared_distances`.
    """
    if torch.onnx.is_in_onnx_export():  # whose TopK takes the lower index of equal keys
        return squares.float()
    slot = torch.arange(squares.shape[-1], device=squares.device, dtype=squares.dtype)
    return rounded(squares) * (1 + _RELATIVE_STEP * slot) + _ABSOLUTE_STEP * slot
