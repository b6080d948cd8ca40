"""Products of particles and pairs: scalar products of all pairs, and weighted sums over pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.nn.pairs.blocks import PairBlocks

__all__ = ["pairwise_dot", "sum_senders"]


@torch.compiler.disable
def pairwise_dot(receiver: Tensor, sender: Tensor, pairs: PairBlocks) -> Tensor:
    """``r_i . s_jk`` for all pairs, (M, K), from ``receiver (S, D)`` and ``sender (S, K, D)``."""
    receivers = pairs.by_block(receiver.contiguous())
    senders = pairs.by_block(sender.contiguous())
    dots = (
        torch.einsum("bid,bjkd->bijk", r, s).flatten(0, 2)
        for r, s in zip(receivers, senders, strict=True)
    )
    return torch.cat([sender.new_empty(0, sender.shape[1]), *dots])


@torch.compiler.disable
def sum_senders(weight: Tensor, sender: Tensor, pairs: PairBlocks) -> Tensor:
    """``sum_jk w_ijk s_jk``, (S, D), from ``weight (M, K)`` and ``sender (S, K, D)``."""
    weights = pairs.pairs_by_block(weight.contiguous())
    senders = pairs.by_block(sender.contiguous())
    sums = (
        torch.einsum("bijk,bjkd->bid", w, s).flatten(0, 1)
        for w, s in zip(weights, senders, strict=True)
    )
    return torch.cat([sender[:0, 0], *sums])
