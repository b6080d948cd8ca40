"""GN2: transformer of ATLAS on the tracks of a jet, with gated attention pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcloud.models.head import Head, with_jet_features
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths
from pcloud.nn.attention.attention import SelfAttention, padding_bias
from pcloud.nn.attention.gated_pooling import GatedPooling
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.dense import dense_layers
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.representation import Representation

__all__ = ["GN2"]


class EncoderBlock(nn.Module):
    """Attention among tracks, and a dense network of each, both of normalised inputs."""

    def __init__(self, width: int, num_heads: int, dense_width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, num_heads)
        self.dense_norm = nn.LayerNorm(width)
        self.dense = nn.Sequential(
            dense_layers([width, dense_width]), nn.Linear(dense_width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, slots: HeadSlots, bias: Sequence[Tensor]) -> Tensor:
        """Features (N, C) from ``x (N, C)`` and the attention bias of each block of `slots`."""
        x = x + self.dropout(self.attention(self.norm(x), slots, bias))
        return x + self.dropout(self.dense(self.dense_norm(x)))


@register_model(
    "gn2", paper="2505.19689", year=2025, use="flavour tagging, with labels of tracks and vertices"
)
class GN2(nn.Module):
    """GN2: tracks with the features of their jet, transformer encoder, gated attention pooling.

    The sizes are those of the public configuration of ATLAS's software `salt`. Its tasks on tracks
    and on pairs of them are the objectives ``origin:classes`` and ``vertex:pairs``, which the recipe
    ``gn2`` has beside the flavour. Unlike there, the heads have learned scales, and these objectives
    do not get the pooled jet beside the tracks.

    Parameters
    ----------
    in_features : int
        Features per track F.
    num_outputs : int
        Number of outputs, one for each class (C).
    width : int
        Width of the encoder.
    num_layers, num_heads : int
        Number of blocks of the encoder, and of attention heads.
    dense_width : int
        Width of the hidden layer of the dense network of a block.
    particle_width : int
        Width of the representation of a track, the output of the encoder.
    head_widths : sequence of int
        Widths of the hidden layers of the head.
    dropout : float
        Dropout probability in the encoder.
    num_jet_features : int
        Number of features of jets G, which each track gets beside its own.

    References
    ----------
    ATLAS Collaboration, Transforming jet flavour tagging at ATLAS, https://arxiv.org/abs/2505.19689.
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        width: int = 256,
        num_layers: int = 4,
        num_heads: int = 8,
        dense_width: int = 256,
        particle_width: int = 128,
        head_widths: Sequence[int] = (128, 64, 32),
        dropout: float = 0.1,
        num_jet_features: int = 0,
    ) -> None:
        super().__init__()
        head_widths = [particle_width, *layer_widths("head_widths", head_widths)]
        self.num_heads = num_heads
        self.num_jet_features = num_jet_features
        self.particle_width = particle_width
        start = dense_layers([in_features + num_jet_features, width])
        self.embed = nn.Sequential(start, nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            EncoderBlock(width, num_heads, dense_width, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, particle_width)
        self.pooling = GatedPooling(particle_width)
        self.head = Head(dense_layers(head_widths), head_widths[-1], num_outputs)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``batch (N,)`` and ``u (B, G)``; `p4` is not used."""
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
        """Representation of each track, from the arguments of `forward`."""
        layout = as_layout(batch, layout, x).with_u(u)
        none = x.new_zeros(layout.num_jets, 0)
        of_jet = with_jet_features(none, layout, None, self.num_jet_features)  # (B, G)
        slots = HeadSlots.of(layout, self.num_heads)
        h = self.embed(with_features_of_jet(x, of_jet, layout))
        bias = padding_bias(h, slots.layout)
        for block in self.blocks:
            h = block(h, slots, bias)
        return Representation(self.out(self.norm(h)), slots.layout)

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return self.pooling(h.rows, h.layout)


def with_features_of_jet(x: Tensor, u: Tensor, layout: RaggedLayout) -> Tensor:
    """Features (N, F + G) of tracks and of their jet, from ``x (N, F)`` and ``u (B, G)``."""
    return x if u.shape[1] == 0 else torch.cat([x, u.index_select(0, layout.batch)], dim=-1)
