"""Parameters and running statistics of batch normalisation, for kernels that normalise by themselves."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["folded", "same_mode", "track"]


def folded(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) equivalent to `norm` with its running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def same_mode(norms: Iterable[nn.Module]) -> bool:
    """Return True where one of the two passes of a kernel applies to all `norms`.

    The kernels have a pass for training (batch statistics, with gradients) and a pass for inference
    (running statistics, without gradients). Neither applies where only some normalisations are
    frozen, nor where gradients are computed with running statistics.
    """
    return {norm.training for norm in norms} == {torch.is_grad_enabled()}


@torch.no_grad()
def track(norm: nn.BatchNorm1d, mean: Tensor, var: Tensor, count: int) -> None:
    """Update the running statistics of `norm` with the statistics of a batch.

    Parameters
    ----------
    norm : BatchNorm1d
        Normalisation.
    mean, var : Tensor, shape (C,)
        Mean and biased variance of the batch.
    count : int
        Number of rows.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    unbiased = var * (count / max(count - 1, 1))
    norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
    norm.running_var.lerp_(unbiased.to(norm.running_var), norm.momentum)
