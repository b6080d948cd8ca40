"""Particle Transformer: attention that knows how two particles relate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pcloud.models.registry import register_model
from pcloud.nn.attention.attention import ClassAttention, SelfAttention, padding_bias
from pcloud.nn.attention.dropout import Dropout
from pcloud.nn.attention.feed_forward import FeedForward
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.attention.pair_bias import PairBias
from pcloud.nn.layout import RaggedLayout, as_layout

__all__ = ["ParticleTransformer", "transformer"]


class ParticleBlock(nn.Module):
    """Attention among particles and feed-forward network, each normalised before and behind."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = SelfAttention(channels, heads, dropout)
        self.attention_norm = nn.LayerNorm(channels)
        self.dropout = Dropout(dropout)
        self.feed_forward = FeedForward(channels, 4 * channels, dropout)
        self.residual_scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, slots: HeadSlots, bias: Sequence[Tensor]) -> Tensor:
        """Features (N, C) from ``x (N, C)`` and the attention bias of each block of `slots`."""
        x = x + self.dropout(self.attention_norm(self.attention(self.norm(x), slots, bias)))
        return self.residual_scale * x + self.feed_forward(x)

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Multiply the last map of each branch, as the authors do at the start: deeper, smaller."""
        self.attention.out.weight *= factor
        self.feed_forward.contract.weight *= factor


class ClassBlock(nn.Module):
    """The same for the class token, which attends to itself and to the particles."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = ClassAttention(channels, heads)
        self.attention_norm = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, 4 * channels)
        self.residual_scale = nn.Parameter(torch.ones(channels))

    def forward(self, token: Tensor, x: Tensor, layout: RaggedLayout) -> Tensor:
        """Tokens (B, C) from ``token (B, C)`` and ``x (N, C)``; the query is not normalised."""
        attended = self.attention(token, self.norm(token), self.norm(x), layout)
        token = token + self.attention_norm(attended)
        return self.residual_scale * token + self.feed_forward(token)


@register_model(
    "part", paper="2202.03772", year=2022, use="millions of jets, fine-tuning", inputs="x and p4"
)
class ParticleTransformer(nn.Module):
    """Particle Transformer (ParT): attention biased by the pairwise kinematics of particles.

    A jet without particles is scored by the class token alone. Statistics of the batch
    normalisations are taken over particles and over unordered pairs, self-pairs included, never
    over padding.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_classes : int
        Classes C.
    embed : sequence of int
        Widths of the particle embedding; the last is that of the transformer.
    pair_embed : sequence of int or None
        Widths of the hidden layers of the pair embedding; None for no pair bias.
    heads : int
        Attention heads.
    layers, class_layers : int
        Particle blocks and class-attention blocks.
    hidden : sequence of int
        Widths of hidden layers before the last linear map.
    dropout : float
        In the particle blocks, and after each hidden layer.

    References
    ----------
    Qu, Li and Qian, Particle Transformer for Jet Tagging, https://arxiv.org/abs/2202.03772.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        embed: Sequence[int] = (128, 512, 128),
        pair_embed: Sequence[int] | None = (64, 64, 64),
        heads: int = 8,
        layers: int = 8,
        class_layers: int = 2,
        hidden: Sequence[int] = (),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        channels = embed[-1]
        self.heads = heads
        self.embed = _embedding([in_features, *embed])
        self.pair_bias = None if pair_embed is None else PairBias(pair_embed, heads)
        blocks = [ParticleBlock(channels, heads, dropout) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.class_blocks = nn.ModuleList(ClassBlock(channels, heads) for _ in range(class_layers))
        self.class_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(channels), std=0.02))
        self.norm = nn.LayerNorm(channels)
        self.head = _head([channels, *hidden], num_classes, dropout)
        for part in (self.embed, self.blocks, self.class_blocks, self.head):
            part.apply(_xavier)
        for depth, block in enumerate(blocks, 1):
            block.shrink((2 * depth) ** -0.5)

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        slots = HeadSlots.of(as_layout(batch, layout), self.heads)
        layout = slots.layout
        x = self.embed(x)
        bias = self.pair_bias(p4, layout) if self.pair_bias else padding_bias(x, layout)
        for block in self.blocks:
            x = block(x, slots, bias)
        token = self.class_token.expand(layout.num_jets, -1)
        for block in self.class_blocks:
            token = block(token, x, layout)
        return self.head(self.norm(token))


@register_model(
    "transformer", paper="2202.03772", year=2022, use="what the pair bias of ParT is worth"
)
def transformer(in_features: int, num_classes: int = 2, **options: Any) -> ParticleTransformer:
    """Plain transformer: ParT without pair bias, its ablation, which sees no four-momenta."""
    return ParticleTransformer(in_features, num_classes, **{"pair_embed": None} | options)


def _embedding(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.BatchNorm1d(widths[0])]
    for a, b in itertools.pairwise(widths):
        layers += [nn.LayerNorm(a), nn.Linear(a, b), nn.GELU()]
    return nn.Sequential(*layers)


def _head(widths: Sequence[int], num_classes: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))


def _xavier(module: nn.Module) -> None:
    """Start of the authors' code; query, key and value maps count as three."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    if isinstance(module, SelfAttention | ClassAttention):
        for weight in module.qkv.weight.data.chunk(3):
            nn.init.xavier_uniform_(weight)
