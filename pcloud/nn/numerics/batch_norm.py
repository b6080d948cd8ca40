"""What batch normalisation does beside normalising, for layers that normalise on their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["folded", "track"]


def folded(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) that `norm` amounts to with its running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


@torch.no_grad()
def track(norm: nn.BatchNorm1d, mean: Tensor, var: Tensor, count: int) -> None:
    """Update the running statistics of `norm` from mean and biased variance (C,) of `count` rows."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    unbiased = var * (count / max(count - 1, 1))
    norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
    norm.running_var.lerp_(unbiased.to(norm.running_var), norm.momentum)
