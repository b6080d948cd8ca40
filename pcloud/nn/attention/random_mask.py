"""Random masks for dropout, with fast random numbers on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcloud.nn.numerics.derivatives import kernel_allowed

__all__ = ["Dropout", "apply_mask_", "bernoulli_mask", "random_mask_"]


class Dropout(nn.Dropout):
    """Dropout whose mask on a CPU is made of random bytes, see :func:`bernoulli_mask`.

    Elsewhere, and where kernels are not allowed, it is the dropout of PyTorch. On a CPU with fast
    matrix products that draws a number for each entry: 13 % of a training step of ParT.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Values like ``x (...)``: 0 with probability p, else multiplied by ``1 / (1 - p)``."""
        is_random = self.training and 0 < self.p < 1
        if not is_random or self.inplace or x.device.type != "cpu" or not kernel_allowed(x):
            return super().forward(x)
        return x * bernoulli_mask(x.shape, self.p).to(x.dtype).div_(1 - self.p)


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
