"""MLP with batch normalisation for very many rows, such as the pairs of particles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.attention.pair_mlp_kernel import normed_mlp
from pcloud.nn.numerics.batch_norm import same_mode
from pcloud.nn.numerics.derivatives import kernel_allowed

__all__ = ["NormedMLP"]


class NormedMLP(nn.Module):
    """Batch normalisation of the inputs, then linear map, normalisation and GELU for each layer.

    The kernel is not used if the inputs require a gradient, because it does not compute one.

    Parameters
    ----------
    channels : sequence of int
        Width of the inputs and of each layer.
    bias : bool
        Linear maps with a constant term, which the normalisation after it makes superfluous.
    """

    def __init__(self, channels: Sequence[int], bias: bool = True) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b, bias) for a, b in itertools.pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm1d(c) for c in channels)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (M, C) from rows ``x (M, F)``."""
        if self._use_kernel(x):
            return normed_mlp(x, [*self.linears], [*self.norms])
        x = self.norms[0](x)
        for linear, norm in zip(self.linears, self.norms[1:], strict=True):
            x = F.gelu(norm(linear(x)))
        return x

    def _use_kernel(self, x: Tensor) -> bool:
        return kernel_allowed(x) and not x.requires_grad and len(x) > 1 and same_mode(self.norms)
