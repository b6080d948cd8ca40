"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Dropout", "kept"]


def kept(shape: Sequence[int], p: float) -> Tensor:
    """1 with probability ``1 - p``, else 0, as int8 on the CPU.

    Eight decisions from one random integer: a number for each, as PyTorch draws them, costs more
    than the matrix products of a transformer (15 ns against 2 ns a decision). One byte knows
    probabilities in steps of 1/256, so one of the two steps beside `p` is drawn for the whole
    tensor, such that their mean is `p`.
    """
    size = torch.Size(shape)
    low = math.floor(256 * p)
    dropped = low + int(torch.rand(()).item() < 256 * p - low)
    words = torch.empty((size.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int8)[: size.numel()].view(size).ge_(dropped - 128)


class Dropout(nn.Module):
    """Dropout while training.

    Parameters
    ----------
    p : float
        Probability of an entry to become zero; the others grow by ``1 / (1 - p)``.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """`x` with entries dropped."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        return x * scaled(kept(x.shape, self.p), self.p, x.dtype)

    def extra_repr(self) -> str:
        """Shown with the module."""
        return f"p={self.p}"


def scaled(keep: Tensor, p: float, dtype: torch.dtype) -> Tensor:
    """What dropout multiplies with: 0, or ``1 / (1 - p)`` where kept.

    A product with the int8 itself would be ten times slower.
    """
    return keep.to(dtype).mul_(1 / (1 - p))
