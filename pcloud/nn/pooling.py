"""Pooling: one row per jet from one row per particle, by sum, mean or maximum."""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.errors import MissingExtraError, UnknownNameError
from pcloud.nn.layout import RaggedLayout

__all__ = ["max_by_index", "max_pool", "mean_pool", "sum_by_index", "sum_pool"]


def sum_pool(x: Tensor, layout: RaggedLayout, *, backend: str = "torch") -> Tensor:
    """Sum of ``x (N, F)`` over the particles of each jet, shape (B, F); 0 for an empty jet.

    Half precision is summed in float32. `backend` is ``"torch"`` or ``"torch_scatter"`` (extra
    ``ext``).

    Examples
    --------
    >>> layout = RaggedLayout.from_batch(torch.tensor([0, 0, 1]))
    >>> sum_pool(torch.tensor([[1.0], [2.0], [4.0]]), layout)
    tensor([[3.],
            [4.]])
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    if backend == "torch_scatter":
        return _segment_csr()(x, layout.ptr, reduce="sum")
    if backend != "torch":
        raise UnknownNameError("pooling", backend, ["torch", "torch_scatter"])
    return sum_by_index(x, layout.batch, layout.num_jets)


def mean_pool(x: Tensor, layout: RaggedLayout, *, backend: str = "torch") -> Tensor:
    """Mean of ``x (N, F)`` over the particles of each jet, shape (B, F); 0 for an empty jet.

    Examples
    --------
    >>> layout = RaggedLayout.from_batch(torch.tensor([0, 0, 1]))
    >>> mean_pool(torch.tensor([[1.0], [3.0], [5.0]]), layout)
    tensor([[2.],
            [5.]])
    """
    total = sum_pool(x, layout, backend=backend)
    return total / layout.counts.clamp(min=1).unsqueeze(-1)


def max_pool(x: Tensor, layout: RaggedLayout, *, backend: str = "torch") -> Tensor:
    """Maximum of ``x (N, F)`` over the particles of each jet, shape (B, F); 0 for an empty jet.

    Examples
    --------
    >>> layout = RaggedLayout.from_batch(torch.tensor([0, 0, 1]))
    >>> max_pool(torch.tensor([[1.0], [3.0], [2.0]]), layout)
    tensor([[3.],
            [2.]])
    """
    if backend == "torch_scatter":
        return _segment_csr()(x, layout.ptr, reduce="max")
    if backend != "torch":
        raise UnknownNameError("pooling", backend, ["torch", "torch_scatter"])
    return max_by_index(x, layout.batch, layout.num_jets)


def sum_by_index(x: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum of the rows of ``x (N, ...)`` with the same ``index (N,)``, shape (size, ...).

    Examples
    --------
    >>> sum_by_index(torch.tensor([[1.0], [3.0], [2.0]]), torch.tensor([0, 1, 0]), 2)
    tensor([[3.],
            [3.]])
    """
    return x.new_zeros(size, *x.shape[1:]).index_add(0, index, x)


def max_by_index(x: Tensor, index: Tensor, size: int) -> Tensor:
    """Maximum of the rows of ``x (N, ...)`` with the same ``index (N,)``, shape (size, ...); else 0.

    Examples
    --------
    >>> max_by_index(torch.tensor([[1.0], [3.0], [2.0]]), torch.tensor([0, 0, 1]), 2)
    tensor([[3.],
            [2.]])
    """
    index = index.view(-1, *[1] * (x.dim() - 1)).expand_as(x)
    start = x.new_zeros(size, *x.shape[1:])
    return start.scatter_reduce(0, index, x, reduce="amax", include_self=False)


def _segment_csr():  # type: ignore[no-untyped-def]  # torch_scatter has no types
    try:
        from torch_scatter import segment_csr
    except ImportError as error:
        raise MissingExtraError("backend='torch_scatter'", "torch-scatter", "ext") from error
    return segment_csr
