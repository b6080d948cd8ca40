"""Networks whose channels are partly four-vectors in local frames, for LLoCa."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.models.part import ParticleTransformer
from pcloud.models.particlenet import ParticleNet
from pcloud.nn.attention.attention import SelfAttention, attend, padding_bias
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.graph.edge_conv import EdgeBlock
from pcloud.nn.graph.knn import gather_neighbors, knn
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.lorentz.frames import lower_vectors, minkowski_inverse, transform_vectors
from pcloud.nn.representation import Representation

__all__ = ["TensorParticleNet", "TensorTransformer"]


@dataclass(frozen=True)
class _FramedSlots(HeadSlots):
    """Slots of the heads, with the transformations between jet and particle (N, 1, 1, 4, 4).

    Attributes
    ----------
    to_particle, to_jet : Tensor
        Transformations from the frame of the jet to that of the particle, and back.
    """

    to_particle: Tensor
    to_jet: Tensor

    @classmethod
    def around(cls, slots: HeadSlots, relative: Tensor) -> _FramedSlots:
        to_particle = relative[:, None, None]
        parts = slots.layout, slots.blocks, slots.target, slots.qkv_target
        return cls(*parts, to_particle, minkowski_inverse(to_particle))


class TensorAttention(SelfAttention):
    """Self-attention in the frame of the jet, of queries, keys and values in local frames.

    The products of queries and keys are those of Minkowski for channels that are four-vectors.
    """

    def forward(self, x: Tensor, slots: HeadSlots, bias: Sequence[Tensor]) -> Tensor:
        """Features (N, C) in local frames from ``x (N, C)``, see :class:`SelfAttention`."""
        assert isinstance(slots, _FramedSlots)
        dropout = self.dropout if self.training else 0.0
        attended = attend(self.queries_keys_values(x, slots), slots, bias, dropout)
        of_jet = attended.unflatten(1, (self.heads, -1))
        local = transform_vectors(of_jet, slots.to_particle.squeeze(1)).flatten(1)
        return self.project(self.gated(local, x))

    def queries_keys_values(self, x: Tensor, slots: HeadSlots) -> Tensor:
        """Queries, keys with lowered indices, and values (N, 3, heads, d) in the frame of the jet."""
        assert isinstance(slots, _FramedSlots)
        q, k, v = transform_vectors(self.split(x), slots.to_jet).unbind(1)
        return torch.stack([q, lower_vectors(k), v], dim=1)


class TensorTransformer(ParticleTransformer):
    """Transformer whose attention compares four-vectors of different local frames.

    Parameters
    ----------
    in_features, num_outputs
        As in :class:`~pcloud.models.part.ParticleTransformer`.
    **options
        Its options; there is no pair bias.
    """

    attention_layer = TensorAttention

    def __init__(self, in_features: int, num_outputs: int = 2, **options: Any) -> None:
        super().__init__(in_features, num_outputs, **options | {"pair_widths": None})

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None,
        layout: RaggedLayout | None,
        relative: Tensor,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)`` in local frames and ``relative (N, 4, 4)``."""
        return self.head(self.pool(self.particles(x, p4, batch, layout, relative)))

    def particles(  # type: ignore[override]
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None,
        layout: RaggedLayout | None,
        relative: Tensor,
    ) -> Representation:
        """Representation of each particle in its local frame, from the arguments of `forward`."""
        layout = as_layout(batch, layout, x)
        slots = _FramedSlots.around(HeadSlots.of(layout, self.num_heads), relative)
        x = self.embed(x)
        bias = padding_bias(x, slots.layout)
        return Representation(self.attended(x, slots, bias), slots.layout.with_u(layout.u))


class TensorEdgeBlock(EdgeBlock):
    """EdgeConv block whose neighbours are transformed to the frame of the receiving particle."""

    def forward(self, x: Tensor, neighbors: Tensor, relative: Tensor) -> Tensor:  # type: ignore[override]
        """Features (N, C) from ``x (N, F)``, ``neighbors (N, k)`` and ``relative (N, 4, 4)``."""
        of_jet = transform_vectors(x.unsqueeze(1), minkowski_inverse(relative).unsqueeze(1))
        others = gather_neighbors(of_jet.squeeze(1), neighbors)  # (N, k, F)
        others = transform_vectors(others, relative.unsqueeze(1))
        center, _ = self.edge(x)
        _, terms = self.edge(others.flatten(0, 1))
        edges = center.repeat_interleave(neighbors.shape[1], dim=0) + terms
        edges = F.relu(self.norms[0](edges))
        for linear, norm in zip(self.linears, self.norms[1:], strict=True):
            edges = F.relu(norm(linear(edges)))
        return F.relu(edges.view(*neighbors.shape, -1).mean(1) + self.shortcut(x))


class TensorParticleNet(ParticleNet):
    """ParticleNet whose messages are transformed from the frame of the sender to the receiver.

    Parameters
    ----------
    in_features, num_outputs
        As in :class:`~pcloud.models.particlenet.ParticleNet`.
    **options
        Its options.
    """

    edge_block = TensorEdgeBlock

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None,
        layout: RaggedLayout | None,
        relative: Tensor,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)`` in local frames, and `p4` in that of the jet."""
        return self.head(self.pool(self.particles(x, p4, batch, layout, relative)))

    def particles(  # type: ignore[override]
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None,
        layout: RaggedLayout | None,
        relative: Tensor,
    ) -> Representation:
        """Representation of each particle in its local frame, from the arguments of `forward`."""
        layout = as_layout(batch, layout, p4)
        pos = self.coordinates(p4, layout)
        x = self.norm(x)
        for k, conv in zip(self.k, self.convs, strict=True):
            x = pos = conv(x, knn(pos, layout, k, backend=self.backend), relative)
        return Representation(x, layout)
