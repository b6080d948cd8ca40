"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.numerics.derivatives import kernel_allowed

__all__ = ["Dropout", "apply_mask_", "bernoulli_mask", "random_mask_"]


def bernoulli_mask(shape: Sequence[int], p: float) -> Tensor:
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


def random_mask_(x: Tensor, p: float) -> Tensor | None:
    """Set entries of `x`, on the CPU, to zero with probability `p`; what is kept, as :func:`kept`.

    The others do not grow: where a linear function follows, it is cheaper to scale its result.
    """
    if p == 0:
        return None
    keep = bernoulli_mask(x.shape, p)
    apply_mask_(x, keep)
    return keep


def apply_mask_(x: Tensor, keep: Tensor | None) -> Tensor:
    """`x` in place, with zeros where `keep` has them."""
    # A product with the int8 itself would be ten times slower.
    return x if keep is None else x.mul_(keep.to(x.dtype))


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
        if x.device.type != "cpu" or not kernel_allowed(x):
            return F.dropout(x, self.p)
        return x * bernoulli_mask(x.shape, self.p).to(x.dtype).div_(1 - self.p)

    def extra_repr(self) -> str:
        """Shown with the module."""
        return f"p={self.p}"
