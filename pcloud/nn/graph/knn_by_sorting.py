"""Kernel of :func:`~pcloud.nn.graph.knn.knn` on a CPU: nearest neighbours by sorting integers.

The bits of a positive float64 number, read as an integer, have the order of the numbers. A key
consists of the bits of a rounded squared distance, with the slot of the neighbour in the bits that
are free after rounding. One sort of the keys gives distances and slots together. The sort uses vector
instructions, whereas `topk` compares one number at a time.
"""

from __future__ import annotations

import numpy as np
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
        lost = block.gather(self.lost).unsqueeze(-1).numpy()
        if not block.full:
            empty = ~block.mask.numpy()
            point.numpy()[empty, -1] = np.inf
            lost[empty] = -np.inf
        point = point.mT
        nearest = np.empty((b, size, k), dtype=np.int64)
        rows = min(size, max(_MIN_CHUNK_ROWS, _CHUNK_KEYS // size))
        jets = min(b, max(1, _CHUNK_KEYS // (rows * size)))
        for i in range(0, b, jets):
            whole = jets == b
            q = query if whole else query[i : i + jets]
            x = point if whole else point[i : i + jets]
            for j in range(0, size, rows):
                part = np.s_[i : i + jets, j : j + rows]
                square = torch.bmm(q if rows == size else q[:, j : j + rows], x).numpy()
                self._sort(square, lost[part], block, part, k)
                nearest[part] = square.view(np.int64)[..., :k]
        nearest &= _SLOT_BITS
        return torch.from_numpy(nearest)

    def _sort(
        self,
        square: np.ndarray,
        lost: np.ndarray,
        block: DenseBlock,
        part: tuple[slice, slice],
        k: int,
    ) -> None:
        """Replace squared distances by keys, of which the smallest `k` of a row are sorted.

        In numpy, whose calls take a fifth of the time of those of PyTorch.

        Parameters
        ----------
        square : ndarray, shape (b, R, P), float64
            Squared distances of the points of the rows and all points of their jet.
        lost : ndarray, shape (b, R, 1)
            Squared distances below which too many digits have cancelled.
        block : DenseBlock
            Jets.
        part : tuple of two slices
            Jets and rows of `square` in the block.
        k : int
            Number of keys.
        """
        b, rows, size = square.shape
        start = part[1].start
        itself = square.reshape(b, rows * size)[:, start :: size + 1]
        itself[:] = np.inf
        inaccurate = square <= lost
        if inaccurate.any():
            pairs = torch.from_numpy(inaccurate)
            self._recompute(torch.from_numpy(square), pairs, block.index[part[0]], start)
        slot = np.arange(size)
        keys = square.view(np.int64)
        keys += HALF_DIGIT
        keys &= DISTANCE_BITS
        keys |= slot
        # The point itself is first even if others coincide with it or it is not finite.
        itself.view(np.int64)[:] = slot[start : start + rows] + _SELF_BIT
        if size > _MAX_SORTED_KEYS:
            keys.partition(k - 1, axis=-1)
            keys = keys[..., :k]
        keys.sort(axis=-1)

    def _recompute(self, square: Tensor, inaccurate: Tensor, index: Tensor, start: int) -> None:
        """Compute the `inaccurate` squared distances again from differences, in place."""
        for pairs in inaccurate.nonzero().split(_CHUNK_PAIRS):
            jet, row, slot = pairs.unbind(1)
            a, b = (self.pos.index_select(0, index[jet, s]) for s in (row + start, slot))
            square[jet, row, slot] = (a - b).square_().sum(1)


def _first_of_jet(x: Tensor, layout: RaggedLayout) -> Tensor:
    """Position (N, D) of the first particle in the jet of each particle, 0 if it is not finite."""
    return x.index_select(0, layout.ptr.index_select(0, layout.batch)).nan_to_num(0, 0, 0)
