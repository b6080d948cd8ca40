"""The feed-forward half of a transformer block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pcloud.nn.chunks import chunks, product_dtype
from pcloud.nn.dropout import Dropout, kept, scaled

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
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return self._plain(x)
        if not torch.is_grad_enabled():
            rows = chunks(len(x), self.expand.out_features * x.element_size(), x.device)
            return torch.cat([self._plain(x[r]) for r in rows]) if len(x) else x
        dtype, dropout = product_dtype(x), self.dropout.p if self.training else 0.0
        with torch.autocast("cpu", enabled=False):
            return _FeedForward.apply(x, dtype, dropout, self.norm.eps, *self.parameters())

    def _plain(self, x: Tensor) -> Tensor:
        x = self.dropout(F.gelu(self.expand(self.norm(x))))
        return self.dropout(self.contract(self.inner_norm(x)))


class _FeedForward(torch.autograd.Function):
    """The pass with gradients: in the backward pass all but the expanded rows is computed again."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dtype: torch.dtype, dropout: float, eps: float, *parameters: Tensor
    ) -> Tensor:
        scale, shift, expand, bias, inner_scale, inner_shift, contract, out_bias = (
            p.to(dtype) if p.dim() == 2 else p for p in parameters
        )
        z = x.new_empty(len(x), len(expand), dtype=dtype)
        out = x.new_empty(len(x), len(contract), dtype=dtype)
        keeps = []
        for rows in _chunks(x, z):
            h = F.layer_norm(x[rows], scale.shape, scale, shift, eps)
            torch.addmm(bias.to(dtype), h.to(dtype), expand.t(), out=z[rows])
            h = F.gelu(z[rows])
            if dropout:
                keeps.append(kept(h.shape, dropout))
                h.mul_(scaled(keeps[-1], dropout, h.dtype))
            h = F.layer_norm(h, inner_scale.shape, inner_scale, inner_shift, eps)
            torch.addmm(out_bias.to(dtype), h, contract.t(), out=out[rows])
            if dropout:
                keeps.append(kept(out[rows].shape, dropout))
                out[rows].mul_(scaled(keeps[-1], dropout, dtype))
        ctx.save_for_backward(x, z, *parameters, *keeps)
        ctx.dropout, ctx.eps = dropout, eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, z, *rest = ctx.saved_tensors
        parameters, keeps, dropout = rest[:8], iter(rest[8:]), ctx.dropout
        scale, shift, expand, _, inner_scale, inner_shift, contract, _ = parameters
        expand, contract = expand.to(z.dtype), contract.to(z.dtype)
        d_x, gradients = torch.empty_like(x), [torch.zeros_like(p) for p in parameters]
        norm = torch.ops.aten.native_layer_norm
        for rows in _chunks(x, z):
            outer = norm(x[rows], scale.shape, scale, shift, ctx.eps)
            active, d = F.gelu(z[rows]), grad[rows]
            if dropout:
                factor = scaled(next(keeps), dropout, z.dtype)
                active.mul_(factor)
                d = d * scaled(next(keeps), dropout, z.dtype)
            inner = norm(active, inner_scale.shape, inner_scale, inner_shift, ctx.eps)
            d_contract, d_out_bias = d.t() @ inner[0], d.sum(0)
            d = d @ contract
            d, d_inner = _through_norm(d, active, inner, inner_scale, inner_shift)
            d = d.mul_(factor) if dropout else d
            d = torch.ops.aten.gelu_backward(d, z[rows])
            d_expand, d_bias = d.t() @ outer[0].to(d), d.sum(0)
            d = (d @ expand).to(x)
            d_x[rows], d_outer = _through_norm(d, x[rows], outer, scale, shift)
            found = (*d_outer, d_expand, d_bias, *d_inner, d_contract, d_out_bias)
            for total, part in zip(gradients, found, strict=True):
                total += part
        return d_x, None, None, None, *gradients


def _through_norm(
    d: Tensor, x: Tensor, normed: tuple[Tensor, ...], scale: Tensor, shift: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Gradients of the input, and of scale and shift, of a layer normalisation of `x`."""
    d_x, d_scale, d_shift = torch.ops.aten.native_layer_norm_backward(
        d, x, scale.shape, *normed[1:], scale, shift, [True] * 3
    )
    return d_x, (d_scale, d_shift)


def _chunks(x: Tensor, z: Tensor) -> Iterator[slice]:
    return chunks(len(x), z.shape[1] * z.element_size(), x.device)
