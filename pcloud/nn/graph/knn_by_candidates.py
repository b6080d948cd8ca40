"""Kernel of :func:`~pcloud.nn.graph.knn.knn` on a CPU for large clouds in many dimensions.

All distances of a cloud of 30 000 points are 9e8 numbers, which take long to compute in float64 and
longer to sort. Here they are computed once in float32, with bounds of their errors, and compared with
a distance within which a point certainly has k neighbours, known from a sample of the points. The few
points below it are ordered by their exact distances. The result is that of all pairs, ties included.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pcloud.nn.graph.distances import rounded

__all__ = ["nearest_of_large_cloud"]

_SAMPLE_POINTS = 2048  # among which the first bound is found, at most
_SAMPLE_SHARE = 8  # points for each of the sample
_ROWS = 512  # points whose neighbours are searched at a time
_COLUMNS = 1024  # points they are compared with at a time: 2 MiB of float32
_MAX_CANDIDATES = 4096  # of a point on average; with more, all pairs are compared
_MAX_ORDERED = 256  # of a point; of a point with more ties, all pairs are compared
_ROUNDING = 2.0**-22  # relative, four times that of float32: distances are rounded to 24 digits


def nearest_of_large_cloud(points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Nearest `k` of ``points (n, D)``, float64 and finite, the point itself first.

    Parameters
    ----------
    points : Tensor, shape (n, D)
        Positions.
    k : int
        Number of neighbours with the point itself, at most n.

    Returns
    -------
    Tensor, shape (n, k)
        Slots of the neighbours.
    Tensor, shape (m,)
        Points for which they were not found: where very many distances are nearly equal.
    """
    cloud = _Bounds(points)
    nearest = torch.empty(len(points), k, dtype=torch.long)
    missing = [torch.empty(0, dtype=torch.long)]
    for rows in torch.arange(len(points)).split(_ROWS):
        found = _candidates(cloud, rows, k)
        if found is None:
            missing.append(rows)
            continue
        candidates, counts = found
        many = counts > _MAX_ORDERED
        nearest[rows[~many]] = _ordered(points, rows[~many], candidates, counts, many, k)
        missing.append(rows[many])
    return nearest, torch.cat(missing)


class _Bounds:
    """Bounds of squared distances by one matrix product, ``[-2 x, x^2, 1] . [y, 1, y^2]``.

    A product of float32 numbers of size `s` with D terms has an error of at most ``D 2^-24 s``.
    With the squares ``x^2`` and ``y^2`` reduced by more than that, the product is a lower bound.
    """

    def __init__(self, points: Tensor) -> None:
        exact = torch.get_float32_matmul_precision() == "highest"
        x = (points - points.mean(0)).to(torch.float32 if exact else torch.float64)
        self.square = x.square().sum(1)
        self.error = (x.shape[1] + 8) * _ROUNDING
        self.x = x
        self.query = self._factors(-2 * x, 1)
        self.point = self._factors(x, 0).t()

    def _factors(self, x: Tensor, order: int) -> Tensor:
        lower = ((1 - self.error) * self.square).unsqueeze(1)
        pair = [lower, torch.ones_like(lower)]
        return torch.cat([x, *(pair if order else pair[::-1])], 1).contiguous()

    def lower(self, rows: Tensor, columns: Tensor | slice, out: Tensor | None = None) -> np.ndarray:
        """Lower bounds (R, C) for some points, of consecutive `rows`."""
        own = self.query[int(rows[0]) : int(rows[-1]) + 1]
        point = self.point[:, columns]
        if out is not None:
            out = out[: own.shape[0] * point.shape[1]].view(own.shape[0], -1)
        return torch.mm(own, point, out=out).numpy()

    def gap(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Difference of upper and lower bound for pairs of points."""
        square = self.square.numpy()
        return 2 * self.error * (square[rows] + square[columns])


def _candidates(cloud: _Bounds, rows: Tensor, k: int) -> tuple[np.ndarray, Tensor] | None:
    """Points that may be among the nearest `k` of each of the `rows`.

    Returns
    -------
    ndarray, shape (M,)
        Candidates of all rows, one row after the other, in no order.
    Tensor, shape (R,)
        Number of candidates of each row, at least `k`.
    """
    limit = _limits_by_sample(cloud, rows, k)
    first = int(rows[0])
    parts: list[tuple[np.ndarray, ...]] = []
    total = 0
    for row, column, low in _below(cloud, rows, limit):
        parts.append((row, column, low))
        total += len(row)
        if total > _MAX_CANDIDATES * len(rows):
            return None
    row, column, low = (np.concatenate(values) for values in zip(*parts, strict=True))
    # bits of a positive float32 have the order of the numbers
    key = np.maximum(low, 0).astype(np.float32).view(np.int32) | (row.astype(np.int64) << 32)
    order = np.argsort(key)
    row, column, low = row[order], column[order], low[order]
    start = np.searchsorted(row, np.arange(len(rows)))
    nearest = start[:, None] + np.arange(k)
    own = np.arange(first, first + len(rows))[:, None]
    upper = (low[nearest] + cloud.gap(own, column[nearest])).max(1)
    near = low <= (np.maximum(upper, 0) * (1 + _ROUNDING))[row]
    counts = np.bincount(row[near], minlength=len(rows))
    return column[near], torch.from_numpy(counts)


def _limits_by_sample(cloud: _Bounds, rows: Tensor, k: int) -> np.ndarray:
    """Squared distance (R, 1) within which each row has `k` points at least."""
    n = len(cloud.x)
    size = min(n, max(min(_SAMPLE_POINTS, n // _SAMPLE_SHARE), k))
    low = cloud.lower(rows, torch.arange(size) * n // size)
    low.partition(k - 1, axis=1)
    own = cloud.square[rows].numpy()
    upper = low[:, k - 1] + 2 * cloud.error * (own + float(cloud.square.max()))
    limit: np.ndarray = np.maximum(upper, 0)[:, None] * (1 + _ROUNDING)
    return limit


def _below(
    cloud: _Bounds, rows: Tensor, limit: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Row, column and lower bound of the pairs that may be closer than `limit`."""
    n = len(cloud.x)
    buffer = cloud.x.new_empty(len(rows) * _COLUMNS)
    mask = np.empty(len(rows) * _COLUMNS, dtype=bool)
    for start in range(0, n, _COLUMNS):
        low = cloud.lower(rows, slice(start, min(start + _COLUMNS, n)), buffer)
        is_near = mask[: low.size].reshape(low.shape)
        np.less_equal(low, limit, out=is_near)
        pair = np.flatnonzero(is_near)
        row, column = np.divmod(pair, low.shape[1])
        yield row, column + start, low.reshape(-1)[pair]


def _ordered(
    points: Tensor, rows: Tensor, candidates: np.ndarray, counts: Tensor, many: Tensor, k: int
) -> Tensor:
    """Nearest `k` of the candidates of each of the `rows`, in the order of neighbours."""
    kept = candidates[np.repeat(~many.numpy(), counts.numpy())]
    counts = counts[~many]
    size = int(counts.max()) if len(counts) else k
    mask = torch.arange(size) < counts.unsqueeze(1)
    slots = torch.full(mask.shape, len(points))
    slots[mask] = torch.from_numpy(kept)
    slots = slots.sort(1).values  # of equal distances, the first slot is first; the rest at the end
    other = points[slots.clamp(max=len(points) - 1)]
    squares = rounded((points[rows].unsqueeze(1) - other).square().sum(-1))
    squares = squares.masked_fill(slots == len(points), torch.inf)
    squares = squares.masked_fill(slots == rows.unsqueeze(1), -1.0)  # self first
    order = squares.sort(dim=1, stable=True).indices
    return slots.gather(1, order[:, :k])
