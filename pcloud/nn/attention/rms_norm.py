"""Normalisation by the root mean square."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcloud.nn.numerics.precision import at_least_float32

__all__ = ["RMSNorm"]


class RMSNorm(nn.Module):
    """Divide each row by its root mean square, and multiply by a weight for each channel.

    Unlike that of PyTorch it is computed in at least float32, also under autocast, where the
    regularising constant of bfloat16 would be 0.008.

    Parameters
    ----------
    channels : int
        Width of the rows C.

    References
    ----------
    Zhang and Sennrich, Root Mean Square Layer Normalization, https://arxiv.org/abs/1910.07467.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., C) from rows ``x (..., C)``."""
        precise = x.to(at_least_float32(x))
        mean_square = precise.square().mean(-1, keepdim=True)
        scale = (mean_square + torch.finfo(precise.dtype).eps).rsqrt()
        return (precise * scale * self.weight).to(x.dtype)
