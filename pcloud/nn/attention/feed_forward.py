"""The feed-forward half of a transformer block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.attention.dropout import Dropout, apply_mask_, random_mask_
from pcloud.nn.numerics.chunks import chunks
from pcloud.nn.numerics.derivatives import first_derivative, kernel_allowed
from pcloud.nn.numerics.precision import at_least_float32, product_dtype, without_autocast

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """Normalise, expand, GELU, normalise, contract: the feed-forward network of NormFormer.

    On a CPU rows are worked on in chunks that stay in the cache, with a backward pass that keeps
    only one of the five wide tensors, and a byte for each entry that can be dropped.

    Parameters
    ----------
    channels, hidden : int
        Features outside and inside.
    dropout : float
        After the activation and at the end.

    References
    ----------
    Shleifer, Weston and Ott, NormFormer, https://arxiv.org/abs/2110.09456.
    """

    def __init__(self, channels: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.inner_norm = nn.LayerNorm(hidden)
        self.contract = nn.Linear(hidden, channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C) from ``x (N, C)``."""
        if x.device.type != "cpu" or not kernel_allowed(x):
            return self._plain(x)
        dtype, dropout = product_dtype(x), self.dropout.p if self.training else 0.0
        eps, store = (self.norm.eps, self.inner_norm.eps), torch.is_grad_enabled()
        with without_autocast(x):
            return _FeedForward.apply(x, dtype, dropout, eps, store, *self.parameters())

    def _plain(self, x: Tensor) -> Tensor:
        x = self.dropout(F.gelu(self.expand(self.norm(x))))
        return self.dropout(self.contract(self.inner_norm(x)))


class _FeedForward(torch.autograd.Function):
    """The pass in chunks; of the expanded rows those before the activation are kept.

    The inner normalisation is part of the linear map behind it: with its scale in the weights, and
    the weights of each output of mean zero over the inputs, what is left to do is to divide the
    outputs by the deviation of the inputs and to add what the shift becomes.
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
        expand, bias = expand.to(dtype), bias.to(dtype)
        contract, out_bias = _contraction(inner, dtype)
        out = x.new_empty(len(x), len(contract), dtype=dtype)
        stored: list[Tensor | None] = []
        for rows in _chunks(x, expand):
            h = F.layer_norm(x[rows], scale.shape, scale, shift, eps[0])
            z = torch.addmm(bias, h.to(dtype), expand.t())
            h = F.gelu(z)
            inner_keep = random_mask_(h, dropout)
            # Unscaled by 1 / (1 - p), which the normalisation undoes but for its eps.
            mean, rstd = _moments(h, eps[1] * (1 - dropout) ** 2)
            y = (h @ contract.t()).mul_(rstd).add_(out_bias)
            keep = random_mask_(y, dropout)
            torch.div(y, 1 - dropout, out=out[rows])
            if store:
                stored += [z, mean, rstd, inner_keep, keep]
        ctx.save_for_backward(x, out, *parameters, *stored)
        ctx.dropout, ctx.eps = dropout, eps[0]
        return out

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, out, *rest = ctx.saved_tensors
        parameters, stored = rest[:8], rest[8:]
        scale, shift, expand, bias, *inner = parameters
        expand = expand.to(out.dtype)
        contract, out_bias = _contraction(inner, out.dtype)
        d_x = torch.empty_like(x)
        sums = [torch.zeros_like(p) for p in (scale, shift, expand, bias, *inner[2:])]
        for i, rows in enumerate(_chunks(x, expand)):
            z, mean, rstd, inner_keep, keep = stored[5 * i : 5 * i + 5]
            h = apply_mask_(F.gelu(z), inner_keep)
            d = apply_mask_(grad[rows].to(out_bias.dtype) / (1 - ctx.dropout), keep)
            d_out_bias = d.sum(0)
            # component of the gradient along the normalised rows, as seen in the outputs
            along = (grad[rows] * out[rows]).sum(-1, keepdim=True) - (d @ out_bias).unsqueeze(1)
            along *= rstd.square() / h.shape[1]
            d = (d * rstd).to(out.dtype)
            d_contract = d.t() @ h
            d = (d @ contract).addcmul_(h, along, value=-1).add_(mean * along)
            d = torch.ops.aten.gelu_backward(apply_mask_(d, inner_keep), z)

            h, *moments = torch.ops.aten.native_layer_norm(
                x[rows], scale.shape, scale, shift, ctx.eps
            )
            d_expand, d_bias = d.t() @ h.to(d), d.sum(0)
            d_x[rows], d_scale, d_shift = torch.ops.aten.native_layer_norm_backward(
                (d @ expand).to(x), x[rows], scale.shape, *moments, scale, shift, [True] * 3
            )
            found = d_scale, d_shift, d_expand, d_bias, d_contract, d_out_bias
            for total, part in zip(sums, found, strict=True):
                total += part
        return d_x, *[None] * 4, *sums[:4], *_through_contraction(*sums[4:], *inner[:3])


def _chunks(x: Tensor, expand: Tensor) -> Iterator[slice]:
    return chunks(len(x), len(expand) * expand.element_size(), x.device)


def _contraction(inner: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of a normalisation and the linear map behind it, from those of both."""
    scale, shift, weight, bias = inner
    scaled = weight * scale
    centred = scaled - scaled.mean(1, keepdim=True)
    return centred.to(dtype), torch.addmv(bias, weight, shift)


def _through_contraction(
    d_contract: Tensor, d_out_bias: Tensor, scale: Tensor, shift: Tensor, weight: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of the arguments of :func:`_contraction` from those of its results."""
    d_scaled = d_contract - d_contract.mean(1, keepdim=True)
    d_weight = torch.addr(d_scaled * scale, d_out_bias, shift)
    return (d_scaled * weight).sum(0), d_out_bias @ weight, d_weight, d_out_bias


def _moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation of each row, (N, 1), in single precision at least."""
    mean = x.mean(-1, keepdim=True, dtype=at_least_float32(x))
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=at_least_float32(x))
    var = norm.square() / x.shape[-1] - mean.square()
    return mean, var.clamp_(min=0).add_(eps).rsqrt_()
