"""Attention among the particles of each jet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
    """Linear maps of multi-head attention, and what is applied to the heads.

    The factors of the heads multiply the channels of the output map, as in the authors' code.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        bias: bool = True,
        head_scale: bool = True,
        qk_norm: Callable[[int], nn.Module] | None = None,
        gate: int | None = None,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be divided among {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias)
        self.out = nn.Linear(channels, channels, bias)
        self.head_scale = nn.Parameter(torch.ones(heads)) if head_scale else None
        self.query_norm = None if qk_norm is None else qk_norm(channels // heads)
        self.key_norm = None if qk_norm is None else qk_norm(channels // heads)
        self.gate = None if gate is None else nn.Linear(channels, gate, bias)

    def split(self, x: Tensor) -> Tensor:
        """Queries, keys and values (N, 3, heads, d) of ``x (N, C)``, the first two normalised."""
        qkv = self.qkv(x).unflatten(1, (3, self.heads, -1))
        if self.query_norm is None or self.key_norm is None:
            return qkv
        q, k, v = qkv.unbind(1)
        return torch.stack([self.query_norm(q), self.key_norm(k), v], dim=1)

    def gated(self, attended: Tensor, query: Tensor) -> Tensor:
        """Attended values (N, C), times the gates of the input of the queries, ``query (N, C)``."""
        if self.gate is None:
            return attended
        factors = self.gate(query).sigmoid()  # (N, heads) or (N, C)
        return (attended.unflatten(1, (factors.shape[1], -1)) * factors.unsqueeze(2)).flatten(1)

    def project(self, attended: Tensor) -> Tensor:
        if self.head_scale is None:
            return self.out(attended)
        scale = self.head_scale.repeat_interleave(self.out.out_features // self.heads)
        bias = None if self.out.bias is None else self.out.bias * scale
        return F.linear(attended, self.out.weight * scale.unsqueeze(1), bias)


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
    bias : bool
        Linear maps with a constant term.
    head_scale : bool
        Learned factor for the output of each head.
    qk_norm : callable, optional
        Normalisation of queries and keys: a function of their width that returns a module.
    gate : int, optional
        Number of gates, `heads` or `channels`: sigmoids of a linear map of the input, by which the
        outputs of the heads are multiplied before the output map.

    Raises
    ------
    ValueError
        If `channels` is not a multiple of `heads`.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0, **options: Any) -> None:
        super().__init__(channels, heads, **options)
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
        dropout = self.dropout if self.training else 0.0
        attended = attend(self.queries_keys_values(x, slots), slots, bias, dropout)
        return self.project(self.gated(attended, x))

    def queries_keys_values(self, x: Tensor, slots: HeadSlots) -> Tensor:
        """Queries, keys and values (N, 3, heads, d) from ``x (N, C)``."""
        return self.split(x)


class ClassAttention(_Heads):
    """Multi-head attention of one class token per jet to itself and to the particles of the jet.

    In an empty jet the token attends only to itself.

    Parameters
    ----------
    channels : int
        Features per particle and token.
    heads : int
        Number of heads.
    bias, head_scale, qk_norm, gate
        As in :class:`SelfAttention`.
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
        q = self._map(query, slice(width)).unflatten(1, heads)
        kv = self._map(torch.cat([token, x]), slice(width, None))
        k, v = kv.unflatten(1, (2, *heads)).unbind(1)  # (B + N, heads, d)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        jets = q.shape[0]  # `len` would be constant in an exported network
        jet = torch.cat([torch.arange(jets, device=q.device), layout.batch])
        logits = (q.index_select(0, jet) * k).sum(-1, keepdim=True) * q.shape[-1] ** -0.5
        logits = logits.to(at_least_float32(q))
        maximum = max_by_index(logits.detach(), jet, jets)
        weights = (logits - maximum.index_select(0, jet)).exp()
        out = sum_by_index(weights * v, jet, jets) / sum_by_index(weights, jet, jets)
        return self.project(self.gated(out.flatten(1).to(x.dtype), query))

    def _map(self, x: Tensor, rows: slice) -> Tensor:
        """Some rows of the map to queries, keys and values."""
        bias = None if self.qkv.bias is None else self.qkv.bias[rows]
        return F.linear(x, self.qkv.weight[rows], bias)


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
        if torch.compiler.is_compiling() and not dropout:  # ONNX, which has no such function
            weights = (q * q.shape[-1] ** -0.5) @ k.mT + b.to(q.dtype)
            out = weights.softmax(-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, b.to(q.dtype), dropout)
        dense.append(out.transpose(1, 2).flatten(2))
    return slots.layout.flatten(dense).to(qkv.dtype)
