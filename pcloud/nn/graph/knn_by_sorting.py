"""Kernel of :func:`~pcloud.nn.graph.knn.knn` on a CPU: nearest neighbours by sorting integers.

The bits of a positive float64 number, read as an integer, have the order of the numbers. A key
consists of the bits of a rounded squared distance, with the slot of the neighbour in the bits that
are free after rounding. One sort of the keys gives distances and slots together. The sort uses vector
instructions, whereas `topk` compares one number at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.nn.graph.distances import DISTANCE_BITS, HALF_DIGIT
from pcloud.nn.layout import DenseBlock, RaggedLayout

__all__ = ["NeighborKeys"]

_CHUNK_KEYS = 2**17  # processed at a time: one megabyte, a second-level cache
_MIN_CHUNK_ROWS = 16
_MAX_SORTED_KEYS = 256  # per point; with more, it is faster to partition first
_MAX_POSITION_DIM = 8  # up to which the points are shifted: positions can be far from the origin
_CHUNK_PAIRS = 2**14  # whose distance is recomputed at a time
_SLOT_BITS = torch.iinfo(torch.long).max - DISTANCE_BITS
_SELF_BIT = torch.iinfo(torch.long).min


class NeighborKeys:
    """Points of a batch, prepared for the search.

    Squared distances are computed as a matrix product, ``[-2 x, x^2, 1] . [y, 1, y^2]``, in
    float64. For the few pairs of points that are so close that digits cancel, the distance is
    computed again from the difference of the points.

    Parameters
    ----------
    pos : Tensor, shape (N, D)
        Positions.
    layout : RaggedLayout
        Jets of the batch.
    """

    def __init__(self, pos: Tensor, layout: RaggedLayout) -> None:
        n, self.dim = pos.shape
        self.pos = pos.double()
        x = self.pos
        if self.dim <= _MAX_POSITION_DIM:
            x = x - _first_of_jet(x, layout)
        square = x.square().sum(-1)
        # The error of the product is at most D 2^-53 x^2. It must be below 2^-26 of the distance.
        self.lost = square * ((self.dim + 2) * 2.0**-26)
        self.factors = x.new_empty(n, 2, self.dim + 2)
        torch.mul(x, -2, out=self.factors[:, 0, : self.dim])
        self.factors[:, 0, self.dim] = square
        self.factors[:, 0, self.dim + 1] = 1
        self.factors[:, 1, : self.dim] = x
        self.factors[:, 1, self.dim] = 1
        self.factors[:, 1, self.dim + 1] = square

    def nearest(self, block: DenseBlock, k: int) -> Tensor:
        """Slots (b, P, k) of the nearest points: the point itself, then its neighbours in order.

        `k` is at most P. Missing neighbours are empty slots.
        """
        b, size = block.index.shape
        query, point = block.gather(self.factors).unbind(2)
        lost = block.gather(self.lost).unsqueeze(-1)
        if not block.full:
            point[..., -1].masked_fill_(~block.mask, torch.inf)
            lost.masked_fill_(~block.mask.unsqueeze(-1), -torch.inf)
        nearest = block.index.new_empty(b, size, k)
        slot = torch.arange(size)
        itself = slot + _SELF_BIT
        rows = min(size, max(_MIN_CHUNK_ROWS, _CHUNK_KEYS // size))
        jets = min(b, max(1, _CHUNK_KEYS // (rows * size)))
        scratch = query.new_empty(jets, rows, size)
        for i in range(0, b, jets):
            x = point[i : i + jets]
            index = block.index[i : i + jets]
            for j in range(0, size, rows):
                q = query[i : i + jets, j : j + rows]
                square = torch.bmm(q, x.mT, out=scratch[: q.shape[0], : q.shape[1]])
                square.diagonal(j, 1, 2).fill_(torch.inf)
                inaccurate = square <= lost[i : i + jets, j : j + rows]
                if inaccurate.any():
                    self._recompute(square, inaccurate, index, j)
                keys = square.view(torch.long).add_(HALF_DIGIT).bitwise_and_(DISTANCE_BITS)
                keys.bitwise_or_(slot)
                # The point itself is first even if others coincide with it or it is not finite.
                keys.diagonal(j, 1, 2).copy_(itself[j : j + rows])
                nearest[i : i + jets, j : j + rows] = _smallest(keys, k)
        return nearest.bitwise_and_(_SLOT_BITS)

    def _recompute(self, square: Tensor, inaccurate: Tensor, index: Tensor, start: int) -> None:
        """Compute the `inaccurate` squared distances again from differences, in place."""
        for pairs in inaccurate.nonzero().split(_CHUNK_PAIRS):
            jet, row, slot = pairs.unbind(1)
            a, b = (self.pos.index_select(0, index[jet, s]) for s in (row + start, slot))
            square[jet, row, slot] = (a - b).square_().sum(1)


def _first_of_jet(x: Tensor, layout: RaggedLayout) -> Tensor:
    """Position (N, D) of the first particle in the jet of each particle, 0 if it is not finite."""
    return x.index_select(0, layout.ptr.index_select(0, layout.batch)).nan_to_num(0, 0, 0)


def _smallest(keys: Tensor, k: int) -> Tensor:
    """Smallest `k` keys of each row, sorted; `keys` are overwritten."""
    array = keys.numpy()
    if keys.shape[-1] > _MAX_SORTED_KEYS:
        array.partition(k - 1, axis=-1)
        array = array[..., :k]
    array.sort(axis=-1)
    return keys[..., :k]
