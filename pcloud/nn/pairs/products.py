"""Products of particles and pairs: scalar products of all pairs, and weighted sums over pairs.

The derivative of each of the three functions is given by the other two, so that derivatives of any
order exist. The kernel writes the results of all dense blocks to one tensor; the plain formula, an
`einsum` for each block, concatenates them. They are in the same module because the backward pass of
each kernel calls the other two functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pcloud.nn.numerics.derivatives import kernel_allowed
from pcloud.nn.pairs.blocks import PairBlocks

__all__ = ["pairwise_dot", "sum_receivers", "sum_senders"]


@torch.compiler.disable
def pairwise_dot(receiver: Tensor, sender: Tensor, pairs: PairBlocks) -> Tensor:
    """``r_i . s_jk`` for all pairs, (M, K), from ``receiver (S, D)`` and ``sender (S, K, D)``."""
    if kernel_allowed(receiver, sender):
        return _PairwiseDot.apply(receiver.contiguous(), sender.contiguous(), pairs)
    blocks = _einsum(
        "bid,bjkd->bijk", pairs.by_block(receiver.contiguous()), pairs.by_block(sender.contiguous())
    )
    return torch.cat([sender.new_empty(0, sender.shape[1]), *(b.flatten(0, 2) for b in blocks)])


@torch.compiler.disable
def sum_senders(weight: Tensor, sender: Tensor, pairs: PairBlocks) -> Tensor:
    """``sum_jk w_ijk s_jk``, (S, D), from ``weight (M, K)`` and ``sender (S, K, D)``."""
    if kernel_allowed(weight, sender):
        return _SumSenders.apply(weight.contiguous(), sender.contiguous(), pairs)
    weights = pairs.pairs_by_block(weight.contiguous())
    blocks = _einsum("bijk,bjkd->bid", weights, pairs.by_block(sender.contiguous()))
    return torch.cat([sender[:0, 0], *(b.flatten(0, 1) for b in blocks)])


@torch.compiler.disable
def sum_receivers(weight: Tensor, receiver: Tensor, pairs: PairBlocks) -> Tensor:
    """``sum_i w_ijk r_i``, (S, K, D), from ``weight (M, K)`` and ``receiver (S, D)``."""
    if kernel_allowed(weight, receiver):
        return _SumReceivers.apply(weight.contiguous(), receiver.contiguous(), pairs)
    weights = pairs.pairs_by_block(weight.contiguous())
    blocks = _einsum("bijk,bid->bjkd", weights, pairs.by_block(receiver.contiguous()))
    empty = receiver.new_empty(0, weight.shape[1], receiver.shape[1])
    return torch.cat([empty, *(b.flatten(0, 1) for b in blocks)])


def _einsum(equation: str, a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    return [torch.einsum(equation, x, y) for x, y in zip(a, b, strict=True)]


class _PairwiseDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, receiver: Tensor, sender: Tensor, pairs: PairBlocks) -> Tensor:
        ctx.save_for_backward(receiver, sender)
        ctx.pairs = pairs
        out = receiver.new_empty(pairs.num_pairs, sender.shape[1])
        for o, r, s in _blocks(pairs, out, receiver, sender):
            torch.bmm(r, s.mT, out=o)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        receiver, sender = ctx.saved_tensors
        need_receiver, need_sender, _ = ctx.needs_input_grad
        return (
            sum_senders(grad, sender, ctx.pairs) if need_receiver else None,
            sum_receivers(grad, receiver, ctx.pairs) if need_sender else None,
            None,
        )


class _SumSenders(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, sender: Tensor, pairs: PairBlocks) -> Tensor:
        ctx.save_for_backward(weight, sender)
        ctx.pairs = pairs
        out = sender.new_empty(sender.shape[0], sender.shape[2])
        for w, o, s in _blocks(pairs, weight, out, sender):
            torch.bmm(w, s, out=o)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, sender = ctx.saved_tensors
        need_weight, need_sender, _ = ctx.needs_input_grad
        return (
            pairwise_dot(grad, sender, ctx.pairs) if need_weight else None,
            sum_receivers(weight, grad, ctx.pairs) if need_sender else None,
            None,
        )


class _SumReceivers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, receiver: Tensor, pairs: PairBlocks) -> Tensor:
        ctx.save_for_backward(weight, receiver)
        ctx.pairs = pairs
        out = receiver.new_empty(receiver.shape[0], weight.shape[1], receiver.shape[1])
        for w, r, o in _blocks(pairs, weight, receiver, out):
            torch.bmm(w.mT, r, out=o)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, receiver = ctx.saved_tensors
        need_weight, need_receiver, _ = ctx.needs_input_grad
        return (
            pairwise_dot(receiver, grad, ctx.pairs) if need_weight else None,
            sum_senders(weight, grad, ctx.pairs) if need_receiver else None,
            None,
        )


def _blocks(
    pairs: PairBlocks, of_pairs: Tensor, receiver: Tensor, sender: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Views ``(b, P, P K)``, ``(b, P, D)`` and ``(b, P K, D)`` for each dense block."""
    views = pairs.pairs_by_block(of_pairs), pairs.by_block(receiver), pairs.by_block(sender)
    for weight, r, s in zip(*views, strict=True):
        yield weight.flatten(2), r, s.flatten(1, 2)
