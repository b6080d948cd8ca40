"""Kernel of attention among the particles of each jet, on a CPU.

The attention weights are computed block by block, and computed again in the backward pass. Only the
sums of the exponentials over the keys are stored and, with dropout, one byte per weight. PyTorch's
fused kernel for CPUs supports neither dropout nor a gradient of the bias. Its plain formula writes
all weights to memory about ten times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.attention.random_mask import apply_mask_, random_mask_
from pcloud.nn.numerics.derivatives import first_derivative
from pcloud.nn.numerics.precision import at_least_float32, without_autocast

__all__ = ["attend_in_blocks"]

_MIN_EXPONENT = -60.0  # smaller exponents are replaced by it: exp(-60) = 1e-26
_MIN_SUM = 1e-16  # sums of exponentials above it are accurate despite this replacement


def attend_in_blocks(
    qkv: Tensor, slots: HeadSlots, bias: Sequence[Tensor], dropout: float
) -> Tensor:
    """Attention of queries to keys and values ``qkv (N, 3, heads, d)``, shape (N, heads d)."""
    with without_autocast(qkv):
        return _Attention.apply(qkv, slots, dropout, *bias)


def _logits(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """Logits (b heads, P, P) of ``q, k (b heads, P, d)``."""
    bias = bias.to(q.dtype).expand(-1, len(q) // len(bias), -1, -1).flatten(0, 1)
    # MKL multiplies many small matrices at half the speed if the second is transposed.
    return torch.baddbmm(bias, q, k.mT.contiguous(), alpha=q.shape[-1] ** -0.5)


def _exponentials(q: Tensor, k: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Exponentials of the logits, up to a factor per row.

    The factor is 1 unless exponentials overflow or all of a row vanish, because computing the
    maximum of every row takes longer than everything else. Exponents have a lower bound: the
    exponential of -inf and products with denormal numbers are slow.

    Returns
    -------
    Tensor, shape (b heads, P, P)
        Exponentials.
    Tensor, shape (b heads, P, 1)
        Their sums over keys.
    Tensor, shape (b heads, P, 1)
        Logarithms of the sums without the factor.
    """
    weights = _logits(q, k, bias)
    if weights.amax() < -_MIN_EXPONENT:
        total = weights.clamp_(min=_MIN_EXPONENT).exp_().sum(-1, keepdim=True)
        if total.min() > _MIN_SUM:
            return weights, total, total.log()
    weights = _logits(q, k, bias)
    shift = weights.amax(-1, keepdim=True)
    total = weights.sub_(shift).clamp_(min=_MIN_EXPONENT).exp_().sum(-1, keepdim=True)
    return weights, total, total.log().add_(shift)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, slots: HeadSlots, dropout: float, *bias: Tensor) -> Tensor:
        dense = qkv.new_empty(slots.num_rows, qkv.shape[3], dtype=at_least_float32(qkv))
        logs, masks = [], []
        for block, b in zip(slots.blocks, bias, strict=True):
            q, k, v = block.gather(qkv, block.qkv_source).chunk(3)
            weights, total, log = _exponentials(q, k, b)
            masks.append(random_mask_(weights, dropout))
            torch.bmm(weights, v, out=block.view(dense)).div_(total * (1 - dropout))
            logs.append(log)
        out = dense.index_select(0, slots.target).view(len(qkv), -1).to(qkv.dtype)
        ctx.save_for_backward(qkv, out, *bias, *logs, *masks)
        ctx.slots = slots
        ctx.dropout = dropout
        return out

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slots = ctx.slots
        dropout = ctx.dropout
        n = len(slots.blocks)
        qkv, out, *rest = ctx.saved_tensors
        bias, logs, masks = rest[:n], rest[n : 2 * n], rest[2 * n :]
        grad = grad.unflatten(1, qkv.shape[2:])
        total = (grad * out.view(grad.shape)).sum(-1, keepdim=True)
        dense = qkv.new_empty(3, slots.num_rows, qkv.shape[3], dtype=at_least_float32(qkv))
        d_bias: list[Tensor | None] = []
        for i, block in enumerate(slots.blocks):
            q, k, v = block.gather(qkv, block.qkv_source).chunk(3)
            d_out = block.gather(grad, block.source).div_(1 - dropout)
            log = logs[i].unflatten(0, (len(block.mask), -1))
            # Infinite for an empty slot, so that its weights as a query are 0.
            log = log.masked_fill(~block.mask, torch.inf).flatten(0, 1)
            weights = _logits(q, k, bias[i]).sub_(log).clamp_(min=_MIN_EXPONENT).exp_()
            d_logits = apply_mask_(torch.bmm(d_out, v.mT.contiguous()), masks[i])
            d_logits.sub_(block.gather(total, block.source)).mul_(weights)
            d_q, d_k, d_v = (block.view(part) for part in dense)
            scale = q.shape[-1] ** -0.5
            torch.baddbmm(d_q, d_logits, k, beta=0, alpha=scale, out=d_q)
            torch.baddbmm(d_k, d_logits.mT, q, beta=0, alpha=scale, out=d_k)
            torch.bmm(apply_mask_(weights, masks[i]).mT, d_out, out=d_v)
            d_bias.append(
                _bias_gradient(d_logits, bias[i]) if ctx.needs_input_grad[3 + i] else None
            )
        d_qkv = dense.flatten(0, 1).index_select(0, slots.qkv_target).view(qkv.shape)
        return d_qkv.to(qkv.dtype), None, None, *d_bias


def _bias_gradient(d_logits: Tensor, bias: Tensor) -> Tensor:
    """Gradient of `bias`, summed over the axes along which it was broadcast."""
    return d_logits.unflatten(0, (len(bias), -1)).sum_to_size(bias.shape).to(bias.dtype)
