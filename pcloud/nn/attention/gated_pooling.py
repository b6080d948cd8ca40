"""Pooling of particles with learned weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.precision import at_least_float32
from pcloud.nn.pooling import max_by_index, sum_pool

__all__ = ["GatedPooling"]


class GatedPooling(nn.Module):
    """Mean of the particles of a jet with weights that are a softmax of a learned gate.

    An empty jet has zeros.

    Parameters
    ----------
    width : int
        Features per particle D.

    Examples
    --------
    >>> layout = RaggedLayout.from_batch(torch.tensor([0, 0, 1]))
    >>> GatedPooling(width=4)(torch.randn(3, 4), layout).shape
    torch.Size([2, 4])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 1)

    def forward(self, x: Tensor, layout: RaggedLayout) -> Tensor:
        """Features (B, D) of the jets from ``x (N, D)``."""
        logits = self.gate(x).to(at_least_float32(x))  # (N, 1)
        highest = max_by_index(logits.detach(), layout.batch, layout.num_jets)
        weights = (logits - highest[layout.batch]).exp()
        total = sum_pool(weights, layout).clamp(min=torch.finfo(weights.dtype).tiny)
        return sum_pool(weights * x, layout) / total
