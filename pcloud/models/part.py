"""Particle Transformer: attention biased by pairwise kinematics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.models.head import mlp_head, with_jet_features
from pcloud.models.part_blocks import (
    GatedBlock,
    GatedClassBlock,
    attention_options,
    part_version,
)
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths
from pcloud.nn.attention.attention import ClassAttention, SelfAttention, padding_bias
from pcloud.nn.attention.feed_forward import FeedForward
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.attention.pair_bias import PairBias
from pcloud.nn.attention.random_mask import Dropout
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.representation import Representation

__all__ = ["ParticleTransformer", "transformer"]


class ParticleBlock(nn.Module):
    """Attention among particles and feed-forward network, each normalised before and after."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        dropout: float,
        *,
        layer: type[SelfAttention] = SelfAttention,
        **attention: Any,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = layer(width, num_heads, dropout, **attention)
        self.attention_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.feed_forward = FeedForward(width, 4 * width, dropout)
        self.residual_scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, slots: HeadSlots, bias: Sequence[Tensor]) -> Tensor:
        """Features (N, C) from ``x (N, C)`` and the attention bias of each block of `slots`."""
        x = x + self.dropout(self.attention_norm(self.attention(self.norm(x), slots, bias)))
        return self.residual_scale * x + self.feed_forward(x)

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Multiply the last map of each branch by `factor`, the authors' initialisation."""
        self.attention.out.weight *= factor
        self.feed_forward.contract.weight *= factor


class ClassBlock(nn.Module):
    """Block of the class token, which attends to itself and to the particles."""

    def __init__(self, width: int, num_heads: int, **attention: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = ClassAttention(width, num_heads, **attention)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, 4 * width)
        self.residual_scale = nn.Parameter(torch.ones(width))

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

    The score of a jet without particles depends on the class token only. Statistics of the batch
    normalisations run over particles and over unordered pairs, self-pairs included, never over
    padding.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    embed_widths : sequence of int
        Widths of the particle embedding; the last one is the width of the transformer.
    pair_widths : sequence of int or None
        Widths of the hidden layers of the pair embedding; None for no pair bias.
    num_heads : int
        Number of attention heads.
    num_layers, num_class_layers : int
        Number of particle-attention and class-attention blocks.
    head_widths : sequence of int
        Widths of the hidden layers of the head.
    dropout : float, optional
        Dropout probability in the particle blocks and after each hidden layer of the head; by default
        0.1, in version 3 it is 0.
    num_jet_features : int
        Number of features of jets G, which the head gets beside the pooled particles.
    version : {1, 2, 3}
        1 is the network of the paper. The others are those of weaver-core 0.5.3. In version 2,
        SwiGLU replaces the feed-forward networks, and the additional normalisations and scales of
        the blocks are absent. Version 3 has RMSNorm in the place of LayerNorm, linear maps without
        constant term (outside the particle embedding and the last map), and stochastic depth in
        the place of dropout.
    qk_norm : bool
        Normalise queries and keys in each head; weaver's version 3.5 is version 3 with this and
        with the gate "channels".
    gate : {"none", "heads", "channels"}
        Sigmoid gates of the attention, computed from the input of the queries: none, one for each
        head, or one for each channel.
    drop_path : float, optional
        Probability that a jet loses one of the two branches of a block while training; by default
        0, in version 3 it is 0.1. Version 1 has no stochastic depth.

    Raises
    ------
    InputError
        If there is no such version, or version 1 is to have stochastic depth.
    UnknownNameError
        If there is no gate of this name.

    References
    ----------
    Qu, Li and Qian, Particle Transformer for Jet Tagging, https://arxiv.org/abs/2202.03772.

    Examples
    --------
    >>> model = ParticleTransformer(in_features=7, num_layers=1).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    attention_layer: ClassVar[type[SelfAttention]] = SelfAttention
    """Attention of the particle blocks."""

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        embed_widths: Sequence[int] = (128, 512, 128),
        pair_widths: Sequence[int] | None = (64, 64, 64),
        num_heads: int = 8,
        num_layers: int = 8,
        num_class_layers: int = 2,
        head_widths: Sequence[int] = (),
        dropout: float | None = None,
        num_jet_features: int = 0,
        version: int = 1,
        qk_norm: bool = False,
        gate: str = "none",
        drop_path: float | None = None,
    ) -> None:
        super().__init__()
        embed_widths = layer_widths("embed_widths", embed_widths, required=True)
        head_widths = layer_widths("head_widths", head_widths)
        if pair_widths is not None:
            pair_widths = layer_widths("pair_widths", pair_widths)
        width = embed_widths[-1]
        kind = part_version(version)
        dropout = kind.dropout if dropout is None else dropout
        drop_path = kind.drop_path if drop_path is None else drop_path
        if version == 1 and drop_path:
            raise InputError("drop_path needs version 2 or 3 of the Particle Transformer")
        attention = attention_options(kind, width, num_heads, qk_norm, gate)
        block: Callable[[], ParticleBlock | GatedBlock]
        class_block: Callable[[], ClassBlock | GatedClassBlock]
        layer = self.attention_layer
        block = partial(ParticleBlock, width, num_heads, dropout, layer=layer, **attention)
        class_block = partial(ClassBlock, width, num_heads, **attention)
        if version > 1:
            common: dict[str, Any] = {"drop_path": drop_path, "attention": attention}
            block = partial(GatedBlock, width, num_heads, kind, layer, dropout=dropout, **common)
            class_block = partial(GatedClassBlock, width, num_heads, kind, **common)
        self.num_heads = num_heads
        self.embed = _embedding([in_features, *embed_widths])
        self.pair_bias = (
            None if pair_widths is None else PairBias(pair_widths, num_heads, kind.bias)
        )
        blocks = [block() for _ in range(num_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.class_blocks = nn.ModuleList(class_block() for _ in range(num_class_layers))
        self.class_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=0.02))
        self.norm = kind.norm(width)
        self.num_jet_features = num_jet_features
        self.particle_width = width
        head_inputs = width + num_jet_features
        self.head = mlp_head([head_inputs, *head_widths], num_outputs, dropout, bias=kind.bias)
        for part in (self.embed, self.blocks, self.class_blocks, self.head):
            part.apply(_xavier)
        for depth, particle_block in enumerate(blocks, 1):
            particle_block.shrink((2 * depth) ** -0.5)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``.

        ``u (B, G)`` are features of the jets, which `layout` can carry.
        """
        return self.head(self.pool(self.particles(x, p4, batch, layout, u=u)))

    def particles(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
    ) -> Representation:
        """Representation of each particle, from the arguments of `forward`."""
        layout = as_layout(batch, layout, x)
        u = layout.u if u is None else u
        slots = HeadSlots.of(layout, self.num_heads)
        x = self.embed(x)
        layout = slots.layout
        bias = self.pair_bias(p4, layout) if self.pair_bias else padding_bias(x, layout)
        return Representation(self.attended(x, slots, bias), layout.with_u(u))

    def attended(self, x: Tensor, slots: HeadSlots, bias: Sequence[Tensor]) -> Tensor:
        """Embedded particles (N, C) after all particle blocks."""
        for block in self.blocks:
            x = block(x, slots, bias)
        return x

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        token = self.class_token.expand(h.layout.num_jets, -1)
        for block in self.class_blocks:
            token = block(token, h.rows, h.layout)
        return with_jet_features(self.norm(token), h.layout, None, self.num_jet_features)


@register_model(
    "transformer", paper="2202.03772", year=2022, use="ablation: ParT without pair bias"
)
def transformer(in_features: int, num_outputs: int = 2, **options: Any) -> ParticleTransformer:
    """Plain transformer: ParT without pair bias, which uses no four-momenta.

    Examples
    --------
    >>> model = transformer(in_features=7, num_layers=1).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """
    return ParticleTransformer(in_features, num_outputs, **{"pair_widths": None} | options)


def _embedding(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.BatchNorm1d(widths[0])]
    for a, b in itertools.pairwise(widths):
        layers += [nn.LayerNorm(a), nn.Linear(a, b), nn.GELU()]
    return nn.Sequential(*layers)


def _xavier(module: nn.Module) -> None:
    """Initialise as the authors do; query, key and value maps count as three maps."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, SelfAttention | ClassAttention):
        for weight in module.qkv.weight.data.chunk(3):
            nn.init.xavier_uniform_(weight)
