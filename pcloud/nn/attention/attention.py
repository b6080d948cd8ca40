"""Attention among the particles of each jet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pcloud.nn.attention.attention_kernel import attend_in_blocks
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import kernel_allowed
from pcloud.nn.numerics.precision import at_least_float32
from pcloud.nn.pooling import max_by_index, sum_by_index

__all__ = ["ClassAttention", "SelfAttention", "attend", "padding_bias"]


def padding_bias(x: Tensor, layout: RaggedLayout) -> list[Tensor]:
    """Bias (b, 1, 1, P) for each block of `layout`: -inf for empty slots as keys, else 0; like `x`."""
    masks = (block.mask[:, None, None, :] for block in layout.blocks)
    return [x.new_zeros(mask.shape).masked_fill(~mask, -torch.inf) for mask in masks]


class _Heads(nn.Module):
    """Linear maps of multi-head attention, and a factor for each head.

    The factors multiply the channels of the output map, as in the authors' code.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be divided among {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.head_scale = nn.Parameter(torch.ones(heads))

    def project(self, x: Tensor) -> Tensor:
        scale = self.head_scale.repeat_interleave(len(self.out.bias) // self.heads)
        return F.linear(x, self.out.weight * scale.unsqueeze(1), self.out.bias * scale)


class SelfAttention(_Heads):
    """Multi-head attention between all particles of a jet.

    Parameters
    ----------
    channels : int
        Features per particle.
    heads : int
        Number of heads.
    dropout : float
        Dropout probability of the attention weights.

    Raises
    ------
    ValueError
        If `channels` is not a multiple of `heads`.
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
            Layout of the particles and heads.
        bias : sequence of Tensor, shape (b, heads, P, P) or (b, 1, 1, P)
            Bias of each block, added to the logits of query and key; -inf for empty slots as keys.
        """
        qkv = self.qkv(x).unflatten(1, (3, self.heads, -1))
        return self.project(attend(qkv, slots, bias, self.dropout if self.training else 0.0))


class ClassAttention(_Heads):
    """Multi-head attention of one class token per jet to itself and to the particles of the jet.

    In an empty jet the token attends only to itself.

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
            Query vectors.
        token : Tensor, shape (B, C)
            Class token, the first key.
        x : Tensor, shape (N, C)
            Particle embeddings, the other keys.
        layout : RaggedLayout
            Jets of the batch.
        """
        width = x.shape[1]
        heads = (self.heads, -1)
        q = F.linear(query, self.qkv.weight[:width], self.qkv.bias[:width]).unflatten(1, heads)
        kv = F.linear(torch.cat([token, x]), self.qkv.weight[width:], self.qkv.bias[width:])
        k, v = kv.unflatten(1, (2, *heads)).unbind(1)  # (B + N, heads, d)
        jets = q.shape[0]  # `len` would be constant in an exported network
        jet = torch.cat([torch.arange(jets, device=q.device), layout.batch])
        logits = (q.index_select(0, jet) * k).sum(-1, keepdim=True) * q.shape[-1] ** -0.5
        logits = logits.to(at_least_float32(q))
        maximum = max_by_index(logits.detach(), jet, jets)
        weights = (logits - maximum.index_select(0, jet)).exp()
        out = sum_by_index(weights * v, jet, jets) / sum_by_index(weights, jet, jets)
        return self.project(out.flatten(1).to(x.dtype))


@torch.compiler.disable  # eager is faster here, and each layout of blocks would be compiled again
def attend(qkv: Tensor, slots: HeadSlots, bias: Sequence[Tensor], dropout: float) -> Tensor:
    """Scaled dot-product attention among the particles of each jet.

    Parameters
    ----------
    qkv : Tensor, shape (N, 3, heads, d)
        Queries, keys and values.
    slots : HeadSlots
        Layout of the particles and heads.
    bias : sequence of Tensor, shape (b, heads, P, P) or (b, 1, 1, P)
        Bias of each block, added to the logits; -inf for empty slots as keys.
    dropout : float
        Dropout probability of the attention weights.

    Returns
    -------
    Tensor, shape (N, heads d)
    """
    if qkv.shape[0] == 0:
        return qkv[:, 0].flatten(1)
    if not kernel_allowed(qkv, *bias):
        with sdpa_kernel(SDPBackend.MATH):  # the others have neither jvp nor second derivatives
            return _plain_attention(qkv, slots, bias, dropout)
    if qkv.device.type == "cpu":
        return attend_in_blocks(qkv, slots, bias, dropout)
    return _plain_attention(qkv, slots, bias, dropout)


def _plain_attention(
    qkv: Tensor, slots: HeadSlots, bias: Sequence[Tensor], dropout: float
) -> Tensor:
    dense = []
    for block, b in zip(slots.layout.blocks, bias, strict=True):
        q, k, v = block.gather(qkv).permute(2, 0, 3, 1, 4)  # (b, heads, P, d)
        if torch.compiler.is_compiling():  # ONNX, which has no such function
            weights = (q * q.shape[-1] ** -0.5) @ k.mT + b.to(q.dtype)
            out = weights.softmax(-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, b.to(q.dtype), dropout)
        dense.append(out.transpose(1, 2).flatten(2))
    return slots.layout.flatten(dense).to(qkv.dtype)
