"""Attention among the particles of each jet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pcloud.nn.attention.dropout import apply_mask_, random_mask_
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import first_derivative, kernel_allowed, outside_transforms
from pcloud.nn.numerics.precision import at_least_float32, without_autocast

__all__ = ["ClassAttention", "SelfAttention", "padding_bias"]

_WEIGHTS = 2**18  # attention weights worked on at a time on a CPU: a second-level cache
_LEAST = -60.0  # exponents below it count as this: 1e-26
_SMALL = 1e-16  # a sum of exponentials above it has all its digits nevertheless


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


@dataclass(frozen=True)
class HeadBlock:
    """Where the heads of the particles in a dense block stand, as rows of d channels.

    Attributes
    ----------
    mask : Tensor, shape (b, 1, P, 1)
        True where the slot holds a particle.
    source : Tensor, shape (b heads P,)
        Row in ``(N, heads)``; an empty slot repeats the first particle of its jet.
    qkv_source : Tensor, shape (3 b heads P,)
        Row in ``(N, 3, heads)``, for query, key and value.
    rows : slice
        Rows in the concatenation of all blocks.
    """

    mask: Tensor
    source: Tensor
    qkv_source: Tensor
    rows: slice

    def gather(self, x: Tensor, source: Tensor) -> Tensor:
        """Flat ``x (N, ..., d)`` at `source`, shape (..., P, d), in single precision at least."""
        x = x.view(-1, x.shape[-1]).index_select(0, source)
        return x.view(-1, self.mask.shape[2], x.shape[-1]).to(at_least_float32(x))

    def place(self, dense: Tensor) -> Tensor:
        """The rows of this block in ``dense (rows, d)``, shape (b heads, P, d)."""
        return dense[self.rows].unflatten(0, (-1, self.mask.shape[2]))


@dataclass(frozen=True)
class HeadSlots:
    """Where the particles stand while their heads attend to each other; made once per batch.

    Attributes
    ----------
    layout : RaggedLayout
        The blocks in which attention works, and in which it expects its bias: on a CPU small ones,
        whose P x P weights stay in the cache.
    blocks : tuple of HeadBlock
        The same with heads.
    target : Tensor, shape (N heads,)
        Row of each particle and head in the concatenation of all blocks.
    qkv_target : Tensor, shape (N 3 heads,)
        Row of query, key and value of each in the stack of three such concatenations.
    """

    layout: RaggedLayout
    blocks: tuple[HeadBlock, ...]
    target: Tensor
    qkv_target: Tensor

    @property
    def num_rows(self) -> int:
        """Rows in the concatenation of all blocks."""
        return self.blocks[-1].rows.stop

    @classmethod
    @torch.compiler.disable
    @outside_transforms
    def of(cls, layout: RaggedLayout, heads: int) -> HeadSlots:
        """The slots of `heads` heads per particle."""
        device = layout.ptr.device
        if device.type == "cpu":
            layout = RaggedLayout.from_ptr(layout.ptr, spread=1.1, pairs=_WEIGHTS // heads)
        head = torch.arange(heads, device=device)
        kind = torch.arange(3, device=device)
        blocks, targets, start = [], [layout.position.new_empty(0, heads)], 0
        for block in layout.blocks:
            particle = block.index.unsqueeze(1)  # (b, 1, P)
            source = heads * particle + head.unsqueeze(1)  # (b, heads, P)
            qkv_source = source + 2 * heads * particle + heads * kind.view(3, 1, 1, 1)
            rows = slice(start, start + source.numel())
            mask = block.mask[:, None, :, None]
            blocks.append(HeadBlock(mask, source.flatten(), qkv_source.flatten(), rows))
            place = torch.arange(rows.start, rows.stop, device=device).view(source.shape)
            targets.append(place.mT.flatten(0, 1))
            start = rows.stop
        target = torch.cat(targets)[layout.position]  # (N, heads)
        qkv_target = target.unsqueeze(1) + start * kind.unsqueeze(1)
        return cls(layout, tuple(blocks), target.flatten(), qkv_target.flatten())


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

    def forward(self, x: Tensor, slots: HeadSlots, bias: Sequence[Tensor]) -> Tensor:
        """Features (N, C).

        Parameters
        ----------
        x : Tensor, shape (N, C)
            Features of the particles.
        slots : HeadSlots
            Where they stand.
        bias : sequence of Tensor, shape (b, heads, P, P) or (b, 1, 1, P)
            Of each block, added to the logits of query and key; -inf for empty slots as keys.
        """
        qkv = self.qkv(x).unflatten(1, (3, self.heads, -1))
        return self.project(attend(qkv, slots, bias, self.dropout if self.training else 0.0))


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
        logits = logits.to(at_least_float32(q))
        weights = (logits - _maximum(logits.detach(), jet, len(q)).index_select(0, jet)).exp()
        total, out = (_sum(t, jet, len(q)) for t in (weights, weights * v))
        return self.project((out / total).flatten(1).to(x.dtype))


def _maximum(x: Tensor, jet: Tensor, jets: int) -> Tensor:
    index = jet.view(-1, 1, 1).expand_as(x)
    return x.new_empty(jets, *x.shape[1:]).scatter_reduce(0, index, x, "amax", include_self=False)


def _sum(x: Tensor, jet: Tensor, jets: int) -> Tensor:
    return x.new_zeros(jets, *x.shape[1:]).index_add(0, jet, x)


@torch.compiler.disable  # eager is faster here, and each layout of blocks would be compiled anew
def attend(qkv: Tensor, slots: HeadSlots, bias: Sequence[Tensor], dropout: float) -> Tensor:
    """Attention of queries to keys and values ``qkv (N, 3, heads, d)``, shape (N, heads d)."""
    if len(qkv) == 0:
        return qkv[:, 0].flatten(1)
    if not kernel_allowed(qkv, *bias):
        with sdpa_kernel(SDPBackend.MATH):  # the others have neither jvp nor second derivatives
            return _plain(qkv, slots, bias, dropout)
    if qkv.device.type != "cpu":
        return _plain(qkv, slots, bias, dropout)
    with without_autocast(qkv):
        return _Attention.apply(qkv, slots, dropout, *bias)


def _plain(qkv: Tensor, slots: HeadSlots, bias: Sequence[Tensor], dropout: float) -> Tensor:
    dense = []
    for block, b in zip(slots.layout.blocks, bias, strict=True):
        q, k, v = block.gather(qkv).permute(2, 0, 3, 1, 4)  # (b, heads, P, d)
        out = F.scaled_dot_product_attention(q, k, v, b.to(q.dtype), dropout)
        dense.append(out.transpose(1, 2).flatten(2))
    return slots.layout.flatten(dense).to(qkv.dtype)


def _scores(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """Logits (b heads, P, P) of ``q, k (b heads, P, d)``."""
    bias = bias.to(q.dtype).expand(-1, len(q) // len(bias), -1, -1).flatten(0, 1)
    # MKL multiplies many small matrices at half the speed if the second is transposed.
    return torch.baddbmm(bias, q, k.mT.contiguous(), alpha=q.shape[-1] ** -0.5)


def _exp(scores: Callable[[], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Exponentials of `scores` up to a factor per row, their sums over keys, and the sums' logs.

    The factor is 1 unless exponentials would overflow, or those of a whole row vanish: to look for
    the maximum of every row takes longer than everything else. Exponents are bounded from below
    because the exponential of -inf, too, is slow, and products with denormal numbers are.
    """
    weights, shift = scores(), None
    if weights.amax() < -_LEAST:
        total = weights.clamp_(min=_LEAST).exp_().sum(-1, keepdim=True)
        if total.min() > _SMALL:
            return weights, total, total.log()
    weights = scores()
    shift = weights.amax(-1, keepdim=True)
    total = weights.sub_(shift).clamp_(min=_LEAST).exp_().sum(-1, keepdim=True)
    return weights, total, total.log().add_(shift)


class _Attention(torch.autograd.Function):
    """Attention on a CPU, block by block.

    The weights are computed again in the backward pass: all that is kept of them are their sums
    over keys and, where there is dropout, a byte each. PyTorch's own kernel for the CPU knows
    neither dropout nor a gradient of the bias, and its plain form writes all weights ten times.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, slots: HeadSlots, dropout: float, *bias: Tensor) -> Tensor:
        dense = qkv.new_empty(slots.num_rows, qkv.shape[3], dtype=at_least_float32(qkv))
        logs, keeps = [], []
        for block, b in zip(slots.blocks, bias, strict=True):
            q, k, v = block.gather(qkv, block.qkv_source).chunk(3)
            weights, total, log = _exp(partial(_scores, q, k, b))
            keeps.append(random_mask_(weights, dropout))
            torch.bmm(weights, v, out=block.place(dense)).div_(total * (1 - dropout))
            logs.append(log)
        out = dense.index_select(0, slots.target).view(len(qkv), -1).to(qkv.dtype)
        ctx.save_for_backward(qkv, out, *bias, *logs, *keeps)
        ctx.slots, ctx.dropout = slots, dropout
        return out

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slots, dropout, n = ctx.slots, ctx.dropout, len(ctx.slots.blocks)
        qkv, out, *rest = ctx.saved_tensors
        bias, logs, keeps = rest[:n], rest[n : 2 * n], rest[2 * n :]
        grad = grad.unflatten(1, qkv.shape[2:])
        total = (grad * out.view(grad.shape)).sum(-1, keepdim=True)
        dense = qkv.new_empty(3, slots.num_rows, qkv.shape[3], dtype=at_least_float32(qkv))
        d_bias: list[Tensor | None] = []
        for i, block in enumerate(slots.blocks):
            q, k, v = block.gather(qkv, block.qkv_source).chunk(3)
            d_out = block.gather(grad, block.source).div_(1 - dropout)
            log = logs[i].unflatten(0, (len(block.mask), -1))
            # infinite for an empty slot: no query is there
            log = log.masked_fill(~block.mask, torch.inf).flatten(0, 1)
            weights = _scores(q, k, bias[i]).sub_(log).clamp_(min=_LEAST).exp_()
            d_scores = apply_mask_(torch.bmm(d_out, v.mT.contiguous()), keeps[i])
            d_scores.sub_(block.gather(total, block.source)).mul_(weights)
            d_q, d_k, d_v = (block.place(part) for part in dense)
            scale = q.shape[-1] ** -0.5
            torch.baddbmm(d_q, d_scores, k, beta=0, alpha=scale, out=d_q)
            torch.baddbmm(d_k, d_scores.mT, q, beta=0, alpha=scale, out=d_k)
            torch.bmm(apply_mask_(weights, keeps[i]).mT, d_out, out=d_v)
            d_bias.append(_summed(d_scores, bias[i]) if ctx.needs_input_grad[3 + i] else None)
        d_qkv = dense.flatten(0, 1).index_select(0, slots.qkv_target).view(qkv.shape)
        return d_qkv.to(qkv.dtype), None, None, *d_bias


def _summed(d_scores: Tensor, bias: Tensor) -> Tensor:
    """Gradient of `bias` from that of the logits."""
    return d_scores.unflatten(0, (len(bias), -1)).sum_to_size(bias.shape).to(bias.dtype)
