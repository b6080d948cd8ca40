"""Velocity of each particle of a cloud, by layers between the particles and the cloud."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.attention.attention import SelfAttention, padding_bias
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_pool

__all__ = ["CloudLayer", "VelocityNetwork"]

_FREQUENCIES = 8
_LOG_RANGES = (-2.0, 4.0)  # of the factors a of the heads at the start
_MAX_SCORE = 15.0  # e^15 weights of 10^4 particles stay far from the limits of float32


class CloudLayer(nn.Module):
    """Layer that updates a cloud by its particles, and the particles by each other and the cloud.

    The particles attend to each other. The cloud collects means of the particles with learned
    weights, one set for each head, and each particle is updated by an MLP of itself and the cloud.
    Permutations of the particles commute with it.

    Parameters
    ----------
    width : int
        Width of particles and cloud D.
    num_heads : int
        Number of sets of weights H, and of heads of the attention, which divides the width.

    References
    ----------
    Buhmann et al., EPiC-GAN: Equivariant Point Cloud Generation for Particle Jets,
    https://arxiv.org/abs/2301.08128; learned weights and attention are ours.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, num_heads, head_scale=False)
        self.norm = nn.LayerNorm(width)
        self.values = nn.Linear(width, width)
        self.scores = nn.Linear(width, num_heads)
        self.cloud_norm = nn.LayerNorm(2 * width)
        self.cloud = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        self.hidden = nn.Linear(width, 2 * width)
        self.of_cloud = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(2 * width, width)

    def forward(
        self, h: Tensor, g: Tensor, slots: HeadSlots, bias: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Updated particles ``h (N, D)`` and clouds ``g (B, D)``.

        Parameters
        ----------
        h : Tensor, shape (N, D)
            Particles.
        g : Tensor, shape (B, D)
            Clouds.
        slots : HeadSlots
            Layout of particles and heads.
        bias : sequence of Tensor, each of shape (b, H, P, P)
            Bias of the attention.
        """
        layout = slots.layout
        h = h + self.attention(self.attention_norm(h), slots, bias)
        x = self.norm(h)
        pooled = self._pooled(x, layout)
        g = g + self.cloud(self.cloud_norm(torch.cat([g, pooled.to(g)], dim=-1)))
        hidden = self.hidden(x) + self.of_cloud(g).index_select(0, layout.batch)
        return h + self.output(F.silu(hidden)), g

    def _pooled(self, x: Tensor, layout: RaggedLayout) -> Tensor:
        """Means (B, D) of the particles with learned weights."""
        weights = self.scores(x).float().clamp(-_MAX_SCORE, _MAX_SCORE).exp()  # (N, H)
        values = self.values(x).unflatten(-1, (self.num_heads, -1))  # (N, H, D / H)
        total = sum_pool((values * weights.unsqueeze(-1)).flatten(1), layout)
        norm = sum_pool(weights, layout).clamp(min=torch.finfo(torch.float32).tiny)
        return (total.unflatten(-1, (self.num_heads, -1)) / norm.unsqueeze(-1)).flatten(1)


class VelocityNetwork(nn.Module):
    """Velocity of each particle at a time between noise (0) and jet (1), given a condition.

    Permuted particles have permuted velocities. Attention between two particles is weaker by
    ``exp(-a d^2)`` with their distance d in all coordinates but the first; each head has a learned
    a, so that some heads see only near particles.

    Parameters
    ----------
    in_features : int
        Number of coordinates of a particle F.
    num_conditions : int
        Width of the condition of a cloud K.
    width : int
        Width of particles and cloud.
    num_layers, num_heads : int
        Number of layers, and of heads of each.
    """

    frequencies: Tensor
    ranges: Tensor

    def __init__(
        self, in_features: int, num_conditions: int, width: int, num_layers: int, num_heads: int
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.register_buffer(
            "frequencies", math.pi * 0.5 * 2.0 ** torch.arange(_FREQUENCIES), persistent=False
        )
        self.condition = nn.Sequential(
            nn.Linear(num_conditions + 1 + 2 * _FREQUENCIES, width),
            nn.SiLU(),
            nn.Linear(width, width),
        )
        self.embed = nn.Linear(in_features, width)
        self.of_condition = nn.Linear(width, width, bias=False)
        ranges = torch.linspace(*_LOG_RANGES, num_heads).exp()
        self.register_buffer("ranges", ranges, persistent=False)
        self.layers = nn.ModuleList(CloudLayer(width, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, in_features)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor, layout: RaggedLayout) -> Tensor:
        """Velocities (N, F).

        Parameters
        ----------
        x : Tensor, shape (N, F)
            Coordinates at the time of the jet.
        time : Tensor, shape (B,)
            Time of each jet.
        condition : Tensor, shape (B, K)
            Condition of each jet.
        layout : RaggedLayout
            Jets of the batch.
        """
        phase = time.unsqueeze(-1) * self.frequencies
        inputs = torch.cat([condition, time.unsqueeze(-1), phase.sin(), phase.cos()], dim=-1)
        g = self.condition(inputs)  # (B, D)
        h = self.embed(x) + self.of_condition(g).index_select(0, layout.batch)
        slots = HeadSlots.of(layout, self.num_heads)
        bias = self._bias(x, slots.layout)
        for layer in self.layers:
            h, g = layer(h, g, slots, bias)
        return self.output(self.norm(h)).float()

    def _bias(self, x: Tensor, layout: RaggedLayout) -> list[Tensor]:
        """Bias (b, H, P, P) of the attention for each block."""
        places = x[:, 1:]
        found = []
        for block, padding in zip(layout.blocks, padding_bias(x, layout), strict=True):
            slots = block.gather(places)
            distance2 = (slots.unsqueeze(2) - slots.unsqueeze(1)).square().sum(-1)  # (b, P, P)
            found.append(padding - self.ranges.view(1, -1, 1, 1) * distance2.unsqueeze(1))
        return found
