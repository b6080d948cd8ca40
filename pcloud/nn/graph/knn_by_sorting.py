"""The nearest neighbours of points on a CPU, by sorting whole numbers.

A key is the bits of a rounded squared distance, which as whole numbers have the order of the
distances, with the slot of the neighbour in place of the digits that rounding has removed. One sort
of the keys gives distances and slots together, by vector instructions, where `topk` compares one by
one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.nn.graph.distances import DISTANCE_BITS, HALF_DIGIT
from pcloud.nn.layout import DenseBlock, RaggedLayout

__all__ = ["NeighborKeys"]

_CHUNK_KEYS = 2**17  # a megabyte, a second-level cache
_CHUNK_ROWS = 16  # at least
_SORTED_KEYS = 256  # of a point; where there are more, it is faster to part the least from them
_MAX_POSITION_DIM = (
    8  # dimensions of positions rather than features, which may be far from the origin
)
_MEASURED_PAIRS = 2**14  # measured anew at a time
_SLOT_BITS = torch.iinfo(torch.long).max - DISTANCE_BITS
_ITSELF = torch.iinfo(torch.long).min


class NeighborKeys:
    """Points of a batch, prepared for the search.

    Squared distances are a matrix product, ``[-2 x, x^2, 1] . [y, 1, y^2]``, in float64. Where two
    points are so close that it has lost digits, which are few pairs, the distance is computed anew
    from their difference.

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
        # The error of the product is D 2^-53 x^2 at most, and is to be below 2^-26 of the distance.
        self.lost = square * ((self.dim + 2) * 2.0**-26)
        self.factors = x.new_empty(n, 2, self.dim + 2)
        torch.mul(x, -2, out=self.factors[:, 0, : self.dim])
        self.factors[:, 0, self.dim] = square
        self.factors[:, 0, self.dim + 1] = 1
        self.factors[:, 1, : self.dim] = x
        self.factors[:, 1, self.dim] = 1
        self.factors[:, 1, self.dim + 1] = square

    def nearest(self, block: DenseBlock, k: int) -> Tensor:
        """Slots (b, P, k) of the nearest points: each point itself, then by the rule.

        `k` is at most P. Where there are fewer points there are empty slots.
        """
        b, size = block.index.shape
        query, point = block.gather(self.factors).unbind(2)
        lost = block.gather(self.lost).unsqueeze(-1)
        if not block.full:
            point[..., -1].masked_fill_(~block.mask, torch.inf)
            lost.masked_fill_(~block.mask.unsqueeze(-1), -torch.inf)
        nearest, slot = block.index.new_empty(b, size, k), torch.arange(size)
        itself = slot + _ITSELF
        rows = min(size, max(_CHUNK_ROWS, _CHUNK_KEYS // size))
        jets = min(b, max(1, _CHUNK_KEYS // (rows * size)))
        scratch = query.new_empty(jets, rows, size)
        for i in range(0, b, jets):
            x, index = point[i : i + jets], block.index[i : i + jets]
            for j in range(0, size, rows):
                q = query[i : i + jets, j : j + rows]
                square = torch.bmm(q, x.mT, out=scratch[: q.shape[0], : q.shape[1]])
                square.diagonal(j, 1, 2).fill_(torch.inf)
                near = square <= lost[i : i + jets, j : j + rows]
                if near.any():
                    self._measure(square, near, index, j)
                keys = square.view(torch.long).add_(HALF_DIGIT).bitwise_and_(DISTANCE_BITS)
                keys.bitwise_or_(slot)
                # Self first even when others coincide with it, and even when it is not finite.
                keys.diagonal(j, 1, 2).copy_(itself[j : j + rows])
                nearest[i : i + jets, j : j + rows] = _least(keys, k)
        return nearest.bitwise_and_(_SLOT_BITS)

    def _measure(self, square: Tensor, near: Tensor, index: Tensor, start: int) -> None:
        """Compute anew the squared distances of the pairs that are `near`."""
        for pairs in near.nonzero().split(_MEASURED_PAIRS):
            jet, row, slot = pairs.unbind(1)
            a, b = (self.pos.index_select(0, index[jet, s]) for s in (row + start, slot))
            square[jet, row, slot] = (a - b).square_().sum(1)


def _first_of_jet(x: Tensor, layout: RaggedLayout) -> Tensor:
    """Position (N, D) of the first particle of the jet of each particle, 0 where it is not finite."""
    return x.index_select(0, layout.ptr.index_select(0, layout.batch)).nan_to_num(0, 0, 0)


def _least(keys: Tensor, k: int) -> Tensor:
    """The `k` least of each row, in order; `keys` are overwritten."""
    array = keys.numpy()
    if keys.shape[-1] > _SORTED_KEYS:
        array.partition(k - 1, axis=-1)
        array = array[..., :k]
    array.sort(axis=-1)
    return keys[..., :k]
