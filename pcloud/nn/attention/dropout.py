"""Dropout with fast random numbers on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.numerics.derivatives import kernel_allowed

__all__ = ["Dropout", "apply_mask_", "bernoulli_mask", "random_mask_"]


def bernoulli_mask(shape: Sequence[int], p: float) -> Tensor:
    """Mask of type int8 on the CPU: 1 with probability ``1 - p``, else 0.

    Each random integer gives eight entries. PyTorch draws a number for each entry, which takes
    longer than the matrix products of a transformer (15 ns instead of 2 ns per entry). One byte
    represents probabilities in steps of 1/256. Therefore one of the two multiples of 1/256 next to
    `p` is drawn for the whole tensor, with `p` as the mean.

    Parameters
    ----------
    shape : sequence of int
        Shape of the mask.
    p : float
        Probability of 0.
    """
    size = torch.Size(shape)
    low = math.floor(256 * p)
    dropped = low + int(torch.rand(()).item() < 256 * p - low)
    words = torch.empty((size.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int8)[: size.numel()].view(size).ge_(dropped - 128)


def random_mask_(x: Tensor, p: float) -> Tensor | None:
    """Set entries of `x`, on the CPU, to 0 with probability `p`, and return the mask.

    The other entries are not scaled: if a linear function follows, it is cheaper to scale its
    result.

    Returns
    -------
    Tensor or None
        Mask from :func:`bernoulli_mask`; None if `p` is 0.
    """
    if p == 0:
        return None
    mask = bernoulli_mask(x.shape, p)
    apply_mask_(x, mask)
    return mask


def apply_mask_(x: Tensor, mask: Tensor | None) -> Tensor:
    """Multiply `x` in place by `mask`, if there is one."""
    # The product with a tensor of type int8 would be ten times slower.
    return x if mask is None else x.mul_(mask.to(x.dtype))


class Dropout(nn.Module):
    """Dropout in training mode.

    Parameters
    ----------
    p : float
        Probability that an entry is set to 0; the others are multiplied by ``1 / (1 - p)``.

    Raises
    ------
    ValueError
        If `p` is not in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to `x` of any shape."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or not kernel_allowed(x):
            return F.dropout(x, self.p)
        return x * bernoulli_mask(x.shape, self.p).to(x.dtype).div_(1 - self.p)

    def extra_repr(self) -> str:
        """Options shown when the module is printed."""
        return f"p={self.p}"
