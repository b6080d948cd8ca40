"""Attention among the particles of each jet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pcloud.nn.chunks import chunks
from pcloud.nn.dropout import kept, scaled
from pcloud.nn.layout import RaggedLayout

__all__ = ["ClassAttention", "SelfAttention", "padding_bias"]


def padding_bias(x: Tensor, layout: RaggedLayout) -> list[Tensor]:
    """For each block of `layout` 0, or -inf for empty slots as keys; (b, 1, 1, P), like `x`."""
    masks = (block.mask[:, None, None, :] for block in layout.blocks)
    return [x.new_zeros(mask.shape).masked_fill(~mask, -torch.inf) for mask in masks]


class _Heads(nn.Module):
    """The linear maps of multi-head attention, and a factor for each head of its result.

    The factors act behind the output map, on its channels, as in the authors' code.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.head_scale = nn.Parameter(torch.ones(heads))

    def project(self, x: Tensor) -> Tensor:
        scale = self.head_scale.repeat_interleave(len(self.out.bias) // self.heads)
        return F.linear(x, self.out.weight * scale.unsqueeze(1), self.out.bias * scale)


class SelfAttention(_Heads):
    """Multi-head attention of all particles of a jet to each other.

    Parameters
    ----------
    channels : int
        Features per particle.
    heads : int
        Number of heads.
    dropout : float
        Of the attention weights.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(channels, heads)
        self.dropout = dropout

    def forward(self, x: Tensor, layout: RaggedLayout, bias: Sequence[Tensor]) -> Tensor:
        """Features (N, C).

        Parameters
        ----------
        x : Tensor, shape (N, C)
            Features of the particles.
        layout : RaggedLayout
            Jets of the batch.
        bias : sequence of Tensor, shape (b, heads, P, P) or (b, 1, 1, P)
            Of each block, added to the logits of query and key; -inf for empty slots as keys.
        """
        qkv = self.qkv(x).unflatten(1, (3, self.heads, -1))
        return self.project(attend(qkv, layout, bias, self.dropout if self.training else 0.0))


class ClassAttention(_Heads):
    """Multi-head attention of one token per jet to itself and to the particles of its jet.

    In a jet without particles the token attends to itself alone.

    Parameters
    ----------
    channels : int
        Features per particle and token.
    heads : int
        Number of heads.
    """

    def forward(self, query: Tensor, token: Tensor, x: Tensor, layout: RaggedLayout) -> Tensor:
        """Features (B, C).

        Parameters
        ----------
        query : Tensor, shape (B, C)
            What asks.
        token : Tensor, shape (B, C)
            What it asks first: the token.
        x : Tensor, shape (N, C)
            And the particles.
        layout : RaggedLayout
            Jets of the batch.
        """
        width, heads = x.shape[1], (self.heads, -1)
        q = F.linear(query, self.qkv.weight[:width], self.qkv.bias[:width]).unflatten(1, heads)
        kv = F.linear(torch.cat([token, x]), self.qkv.weight[width:], self.qkv.bias[width:])
        k, v = kv.unflatten(1, (2, *heads)).unbind(1)  # (B + N, heads, d)
        jet = torch.cat([torch.arange(len(q), device=q.device), layout.batch])
        logits = (q.index_select(0, jet) * k).sum(-1, keepdim=True) * q.shape[-1] ** -0.5
        logits = logits.to(torch.promote_types(q.dtype, torch.float32))
        weights = (logits - _maximum(logits.detach(), jet, len(q)).index_select(0, jet)).exp()
        total, out = (_sum(t, jet, len(q)) for t in (weights, weights * v))
        return self.project((out / total).flatten(1).to(x.dtype))


def _maximum(x: Tensor, jet: Tensor, jets: int) -> Tensor:
    index = jet.view(-1, 1, 1).expand_as(x)
    return x.new_empty(jets, *x.shape[1:]).scatter_reduce(0, index, x, "amax", include_self=False)


def _sum(x: Tensor, jet: Tensor, jets: int) -> Tensor:
    return x.new_zeros(jets, *x.shape[1:]).index_add(0, jet, x)


@torch.compiler.disable  # eager is faster here, and each layout of blocks would be compiled anew
def attend(qkv: Tensor, layout: RaggedLayout, bias: Sequence[Tensor], dropout: float) -> Tensor:
    """Attention of queries to keys and values ``qkv (N, 3, heads, d)``, shape (N, heads d)."""
    if len(qkv) == 0:
        return qkv[:, 0].flatten(1)
    if qkv.device.type != "cpu":
        return _plain(qkv, layout, bias, dropout)
    with torch.autocast("cpu", enabled=False):
        return _Attention.apply(qkv, layout, dropout, *bias)


def _plain(qkv: Tensor, layout: RaggedLayout, bias: Sequence[Tensor], dropout: float) -> Tensor:
    dense = []
    for block, b in zip(layout.blocks, bias, strict=True):
        q, k, v = block.gather(qkv).permute(2, 0, 3, 1, 4)  # (b, heads, P, d)
        out = F.scaled_dot_product_attention(q, k, v, b.to(q.dtype), dropout)
        dense.append(out.transpose(1, 2).flatten(2))
    return layout.flatten(dense)


@dataclass
class _Part:
    """Some jets of a block, few enough for their P x P weights to stay in the cache."""

    block: int
    jets: slice
    slots: slice  # in the concatenation of all blocks
    index: Tensor  # (c, P) particle in each slot
    mask: Tensor  # (c, P)

    def dense(self, x: Tensor) -> Tensor:
        """Flat ``x (N, n, heads, d)`` as ``(n, c heads, P, d)``, in single precision at least."""
        x = x.index_select(0, self.index.flatten()).unflatten(0, self.index.shape)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x.permute(2, 0, 3, 1, 4).flatten(1, 2)

    def fill(self, slots: Tensor, x: Tensor) -> None:
        """Write ``x (n, c heads, P, d)`` to ``slots (S, n, heads, d)``."""
        out = slots[self.slots].unflatten(0, self.index.shape).permute(2, 0, 3, 1, 4)
        out.copy_(x.view(out.shape))

    def scores(self, q: Tensor, k: Tensor, bias: Sequence[Tensor]) -> Tensor:
        """Logits (c heads, P, P) of ``q, k (c heads, P, d)``."""
        b = bias[self.block][self.jets].to(q.dtype)
        b = b.expand(-1, len(q) // len(b), -1, -1).flatten(0, 1)
        # MKL multiplies many small matrices at half the speed if the second is transposed.
        return torch.baddbmm(b, q, k.mT.contiguous(), alpha=q.shape[-1] ** -0.5)

    def fill_bias(self, d_bias: Sequence[Tensor | None], d_scores: Tensor) -> None:
        """Write the gradient of the scores to that of the bias, where it is wanted."""
        out = d_bias[self.block]
        if out is not None:
            out = out[self.jets]
            out.copy_(d_scores.unflatten(0, (len(out), -1)).sum_to_size(out.shape))

    def without_padding(self, log: Tensor) -> Tensor:
        """Logs of sums (c heads, P, 1), infinite for empty slots: no query is there."""
        empty = ~self.mask[:, None, :, None]
        return log.unflatten(0, (len(empty), -1)).masked_fill(empty, torch.inf).flatten(0, 1)


def _parts(layout: RaggedLayout, heads: int) -> list[_Part]:
    parts, start = [], 0
    for i, block in enumerate(layout.blocks):
        jets, size = block.index.shape
        for rows in chunks(jets, 4 * heads * size**2, block.index.device):
            slots = slice(start + rows.start * size, start + rows.stop * size)
            parts.append(_Part(i, rows, slots, block.index[rows], block.mask[rows]))
        start += jets * size
    return parts


def _exp(scores: Callable[[], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Exponentials of `scores` up to a common factor, their sums over keys, and the sums' logs.

    One maximum for all rows is ten times faster than one for each, and enough unless a row lies so
    far below it that its exponentials vanish.
    """
    weights = scores()
    shift = weights.amax()
    total = weights.sub_(shift).exp_().sum(-1, keepdim=True)
    if total.min() < 1e-30:
        weights = scores()
        shift = weights.amax(-1, keepdim=True)
        total = weights.sub_(shift).exp_().sum(-1, keepdim=True)
    return weights, total, total.log().add_(shift)


class _Attention(torch.autograd.Function):
    """Attention on a CPU, some jets at a time.

    The weights are computed again in the backward pass: all that is kept of them are their sums
    over keys and, where there is dropout, a byte each. PyTorch's own kernel for the CPU knows
    neither dropout nor a gradient of the bias, and its plain form writes all weights ten times.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, layout: RaggedLayout, dropout: float, *bias: Tensor
    ) -> Tensor:
        parts, logs, keeps = _parts(layout, qkv.shape[2]), [], []
        slots = qkv.new_empty(parts[-1].slots.stop, 1, *qkv.shape[2:])
        for part in parts:
            q, k, v = part.dense(qkv)
            weights, total, log = _exp(partial(part.scores, q, k, bias))
            if dropout:
                keeps.append(kept(weights.shape, dropout))
                weights.mul_(scaled(keeps[-1], dropout, weights.dtype))
            part.fill(slots, torch.bmm(weights, v).div_(total))
            logs.append(log)
        out = slots.index_select(0, layout.position)
        ctx.save_for_backward(qkv, out, *bias, *logs, *keeps)
        ctx.layout, ctx.dropout = layout, dropout
        return out.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layout, dropout = ctx.layout, ctx.dropout
        qkv, out, *rest = ctx.saved_tensors
        parts, rest = _parts(layout, qkv.shape[2]), iter(rest)
        bias, logs = list(islice(rest, len(layout.blocks))), list(islice(rest, len(parts)))
        keeps = list(rest) or [None] * len(parts)
        slots = qkv.new_empty(parts[-1].slots.stop, *qkv.shape[1:])
        d_bias = [
            torch.empty_like(b) if wanted else None
            for b, wanted in zip(bias, ctx.needs_input_grad[3:], strict=True)
        ]
        grad_out = torch.cat([grad.view(out.shape), out], 1)  # (N, 2, heads, d)
        for part, log, keep in zip(parts, logs, keeps, strict=True):
            (q, k, v), (g, o) = part.dense(qkv), part.dense(grad_out)
            weights = part.scores(q, k, bias).sub_(part.without_padding(log)).exp_()
            d_weights = torch.bmm(g, v.mT.contiguous())
            dropped = weights
            if keep is not None:
                factor = scaled(keep, dropout, weights.dtype)
                dropped = weights * factor
                d_weights.mul_(factor)
            d_scores = d_weights.sub_((g * o).sum(-1, keepdim=True)).mul_(weights)
            d_q = torch.bmm(d_scores, k).mul_(q.shape[-1] ** -0.5)
            d_k = torch.bmm(d_scores.mT, q).mul_(q.shape[-1] ** -0.5)
            part.fill(slots, torch.stack([d_q, d_k, torch.bmm(dropped.mT, g)]))
            part.fill_bias(d_bias, d_scores)
        return slots.index_select(0, layout.position), None, None, *d_bias
