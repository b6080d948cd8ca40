"""Sums over the processes (ranks) that train one network together, in forward and backward passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

__all__ = ["combined", "gathered", "is_spread", "sum_over_ranks"]


def is_spread() -> bool:
    """Return True if several processes train together."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum of a tensor over all ranks; the gradient is the sum of those of all ranks.

    All ranks must call it, in the same order and with the same shape. Without other ranks it is the
    tensor itself.
    """
    return _Sum.apply(values) if is_spread() else values


class _Sum(torch.autograd.Function):
    """Sum over ranks, which is its own transpose."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.apply(grad)


def gathered(values: Tensor) -> Tensor:
    """Rows (N, ...) of all ranks, one rank after the other; the gradient goes back to each rank."""
    if not is_spread():
        return values
    sizes = torch.zeros(distributed.get_world_size(), dtype=torch.long, device=values.device)
    sizes[distributed.get_rank()] = len(values)
    distributed.all_reduce(sizes)
    before = int(sizes[: distributed.get_rank()].sum())
    after = int(sizes.sum()) - before - len(values)
    shape = values.shape[1:]
    whole = [values.new_zeros(before, *shape), values, values.new_zeros(after, *shape)]
    return sum_over_ranks(torch.cat(whole))


def combined(mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """Mean, biased variance and number of the rows of all ranks, from those of this one.

    Parameters
    ----------
    mean, var : Tensor, shape (C,)
        Mean and biased variance of the rows; finite also if there are none.
    count : int
        Number of the rows.

    Returns
    -------
    mean, var : Tensor, shape (C,)
    count : int
        The arguments themselves without other ranks.
    """
    if not is_spread():
        return mean, var, count
    sums = sum_over_ranks(torch.cat([count * mean, mean.new_tensor([float(count)])]))
    number = max(sums[-1].detach(), sums.new_ones(()))
    whole = sums[:-1] / number
    spread = sum_over_ranks(count * (var + (mean - whole).square()))
    return whole, spread / number, round(float(sums[-1]))
