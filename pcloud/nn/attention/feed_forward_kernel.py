"""Kernel of :class:`~pcloud.nn.attention.feed_forward.FeedForward` on a CPU.

Rows are processed in chunks that fit into the cache. Of the five wide tensors, only the one before
the activation function is stored for the backward pass and, with dropout, one byte per entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.attention.dropout import apply_mask_, random_mask_
from pcloud.nn.numerics.chunks import chunks
from pcloud.nn.numerics.derivatives import first_derivative
from pcloud.nn.numerics.precision import at_least_float32, product_dtype, without_autocast

__all__ = ["feed_forward"]


def feed_forward(
    x: Tensor,
    norm: nn.LayerNorm,
    expand: nn.Linear,
    inner_norm: nn.LayerNorm,
    contract: nn.Linear,
    dropout: float,
) -> Tensor:
    """Features (N, C) of :class:`~pcloud.nn.attention.feed_forward.FeedForward` from ``x (N, C)``.

    Parameters
    ----------
    x : Tensor, shape (N, C)
        Features.
    norm, expand, inner_norm, contract : Module
        Layers of the network.
    dropout : float
        Dropout probability.
    """
    parameters = [p for m in (norm, expand, inner_norm, contract) for p in (m.weight, m.bias)]
    eps = (norm.eps, inner_norm.eps)
    store = torch.is_grad_enabled()
    dtype = product_dtype(x)  # that of autocast
    with without_autocast(x):
        return _FeedForward.apply(x, dtype, dropout, eps, store, *parameters)


class _FeedForward(torch.autograd.Function):
    """Feed-forward network in chunks of rows.

    The inner normalisation is merged with the linear map after it. The scale is multiplied into the
    weights, and the mean over the inputs is subtracted from the weights of each output. Then the
    outputs only have to be divided by the standard deviation of the inputs, and the mapped shift
    is part of the bias.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dtype: torch.dtype,
        dropout: float,
        eps: tuple[float, float],
        store: bool,
        *parameters: Tensor,
    ) -> Tensor:
        scale, shift, expand, bias, *inner = parameters
        expand = expand.to(dtype)
        bias = bias.to(dtype)
        contract, out_bias = _contraction(inner, dtype)
        out = x.new_empty(len(x), len(contract), dtype=dtype)
        stored: list[Tensor | None] = []
        for rows in _row_chunks(x, expand):
            h = F.layer_norm(x[rows], scale.shape, scale, shift, eps[0])
            z = torch.addmm(bias, h.to(dtype), expand.t())
            h = F.gelu(z)
            inner_mask = random_mask_(h, dropout)
            # The factor 1 / (1 - p) cancels in the normalisation, except for its eps.
            mean, rstd = _moments(h, eps[1] * (1 - dropout) ** 2)
            y = (h @ contract.t()).mul_(rstd).add_(out_bias)
            mask = random_mask_(y, dropout)
            torch.div(y, 1 - dropout, out=out[rows])
            if store:
                stored += [z, mean, rstd, inner_mask, mask]
        ctx.save_for_backward(x, out, *parameters, *stored)
        ctx.dropout = dropout
        ctx.eps = eps[0]
        return out

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, out, *rest = ctx.saved_tensors
        (scale, shift, expand, bias, *inner), stored = rest[:8], rest[8:]
        expand = expand.to(out.dtype)
        contract, out_bias = _contraction(inner, out.dtype)
        d_x = torch.empty_like(x)
        sums = [torch.zeros_like(p) for p in (scale, shift, expand, bias, *inner[2:])]
        for i, rows in enumerate(_row_chunks(x, expand)):
            z, mean, rstd, inner_mask, mask = stored[5 * i : 5 * i + 5]
            h = apply_mask_(F.gelu(z), inner_mask)
            d = apply_mask_(grad[rows].to(out_bias.dtype) / (1 - ctx.dropout), mask)
            d_out_bias = d.sum(0)
            # Component of the gradient along the normalised rows, computed from the outputs.
            along = (grad[rows] * out[rows]).sum(-1, keepdim=True) - (d @ out_bias).unsqueeze(1)
            along *= rstd.square() / h.shape[1]
            d = (d * rstd).to(out.dtype)
            d_contract = d.t() @ h
            d = (d @ contract).addcmul_(h, along, value=-1).add_(mean * along)
            d = torch.ops.aten.gelu_backward(apply_mask_(d, inner_mask), z)

            h, *moments = torch.ops.aten.native_layer_norm(
                x[rows], scale.shape, scale, shift, ctx.eps
            )
            d_expand = d.t() @ h.to(d)
            d_bias = d.sum(0)
            d_x[rows], d_scale, d_shift = torch.ops.aten.native_layer_norm_backward(
                (d @ expand).to(x), x[rows], scale.shape, *moments, scale, shift, [True] * 3
            )
            gradients = d_scale, d_shift, d_expand, d_bias, d_contract, d_out_bias
            for total, gradient in zip(sums, gradients, strict=True):
                total += gradient
        return d_x, *[None] * 4, *sums[:4], *_contraction_gradients(*sums[4:], *inner[:3])


def _row_chunks(x: Tensor, expand: Tensor) -> Iterator[slice]:
    return chunks(len(x), len(expand) * expand.element_size(), x.device)


def _contraction(inner: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear map that includes the normalisation before it.

    Parameters
    ----------
    inner : sequence of Tensor
        Scale and shift of the normalisation, weight and bias of the linear map.
    dtype : torch.dtype
        Type of the weight.
    """
    scale, shift, weight, bias = inner
    scaled = weight * scale
    centred = scaled - scaled.mean(1, keepdim=True)
    return centred.to(dtype), torch.addmv(bias, weight, shift)


def _contraction_gradients(
    d_contract: Tensor, d_out_bias: Tensor, scale: Tensor, shift: Tensor, weight: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of the arguments of :func:`_contraction` from those of its results."""
    d_scaled = d_contract - d_contract.mean(1, keepdim=True)
    d_weight = torch.addr(d_scaled * scale, d_out_bias, shift)
    return (d_scaled * weight).sum(0), d_out_bias @ weight, d_weight, d_out_bias


def _moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation of each row, (N, 1), at least float32."""
    mean = x.mean(-1, keepdim=True, dtype=at_least_float32(x))
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=at_least_float32(x))
    var = norm.square() / x.shape[-1] - mean.square()
    return mean, var.clamp_(min=0).add_(eps).rsqrt_()
