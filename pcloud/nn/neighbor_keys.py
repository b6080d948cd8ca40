"""The nearest neighbours of points on a CPU, by sorting whole numbers.

A key is the bits of a squared distance in float64, which as whole numbers have the order of the
distances, with the slot of the neighbour in place of the last of them. What is left of the distance
has the digits of float32. One sort of the keys gives distances and slots together, by vector
instructions, where `topk` compares one by one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.nn.layout import DenseBlock, RaggedLayout
from pcloud.nn.pooling import mean_pool

__all__ = ["NeighborKeys"]

_KEYS = 2**17  # of a chunk: a megabyte, a second-level cache
_ROWS = 16  # of a chunk at least
_WHOLE = 256  # keys of a point up to which it is faster to sort all than to part the least first
_FEW = 8  # dimensions that are positions rather than features, and may be far from the origin
_SLOT = 2**29 - 1  # the bits beyond the digits of float32
_DISTANCE = (
    torch.iinfo(torch.long).max - _SLOT
)  # the others, without the sign, which rounding leaves
_ITSELF = torch.iinfo(torch.long).min


class NeighborKeys:
    """Points of a batch, prepared for the search.

    Squared distances are a matrix product, ``[-2 x, x^2, 1] . [y, 1, y^2]``. In float64 and from
    the middle of the jet this loses no digits that float32 positions have.

    Parameters
    ----------
    pos : Tensor, shape (N, D)
        Positions, float32.
    layout : RaggedLayout
        Jets of the batch.
    """

    def __init__(self, pos: Tensor, layout: RaggedLayout) -> None:
        n, d = pos.shape
        x = pos.double()
        if d <= _FEW:
            middle = mean_pool(x.nan_to_num(0, 0, 0), layout)
            x = x - middle.index_select(0, layout.batch)
        square = x.square().sum(-1)
        half = 1 + 2.0**-25  # half of the last digit, so that to cut a key is to round it
        self.factors = x.new_empty(n, 2, d + 2)
        torch.mul(x, -2 * half, out=self.factors[:, 0, :d])
        self.factors[:, 0, d] = half * square
        self.factors[:, 0, d + 1] = half
        self.factors[:, 1, :d] = x
        self.factors[:, 1, d] = 1
        self.factors[:, 1, d + 1] = square

    def nearest(self, block: DenseBlock, k: int) -> Tensor:
        """Slots (b, P, k) of the nearest points, each point itself first, then by distance and slot.

        `k` is at most P. Where there are fewer points there are empty slots.
        """
        b, size = block.index.shape
        query, point = block.gather(self.factors).unbind(2)
        if not block.full:
            point[..., -1].masked_fill_(~block.mask, torch.inf)
        nearest, slot = block.index.new_empty(b, size, k), torch.arange(size)
        itself = slot + _ITSELF
        rows = min(size, max(_ROWS, _KEYS // size))
        jets = min(b, max(1, _KEYS // (rows * size)))
        scratch = query.new_empty(jets, rows, size)
        for i in range(0, b, jets):
            x = point[i : i + jets].mT
            for j in range(0, size, rows):
                q = query[i : i + jets, j : j + rows]
                square = torch.bmm(q, x, out=scratch[: q.shape[0], : q.shape[1]])
                keys = square.view(torch.long).bitwise_and_(_DISTANCE).bitwise_or_(slot)
                # Self first even when others coincide with it, and even when it is not finite.
                keys.diagonal(j, 1, 2).copy_(itself[j : j + rows])
                nearest[i : i + jets, j : j + rows] = _least(keys, k)
        return nearest.bitwise_and_(_SLOT)


def _least(keys: Tensor, k: int) -> Tensor:
    """The `k` least of each row, in order; `keys` are overwritten."""
    array = keys.numpy()
    if keys.shape[-1] > _WHOLE:
        array.partition(k - 1, axis=-1)
        array = array[..., :k]
    array.sort(axis=-1)
    return keys[..., :k]
