"""EdgeConv: messages along the edges of the neighbour graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["EdgeConv", "EdgeLinear", "gather_neighbors"]


def gather_neighbors(x: Tensor, neighbors: Tensor) -> Tensor:
    """Rows of ``x (N, F)`` at ``neighbors (N, k)``, shape (N, k, F); zeros where one is missing."""
    return F.pad(x, (0, 0, 0, 1))[neighbors]


class EdgeLinear(nn.Module):
    """Linear map of ``[x_i, x_j - x_i]`` for every edge, computed per particle.

    ``W1 x_i + W2 (x_j - x_i) = (W1 - W2) x_i + W2 x_j``: two products of N rows in the place of
    one of N k rows. A missing neighbour has ``x_j = 0``.

    Parameters
    ----------
    in_channels, out_channels : int
        Features per particle and per edge.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 2 * in_channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor, neighbors: Tensor) -> Tensor:
        """Edge features (N, k, out) from ``x (N, in)`` and ``neighbors (N, k)``."""
        own, other = self.weight.chunk(2, dim=1)
        center = F.linear(x, own - other)  # (N, out)
        return center.unsqueeze(1) + gather_neighbors(F.linear(x, other), neighbors)


class EdgeConv(nn.Module):
    """EdgeConv block: an MLP on ``[x_i, x_j - x_i]``, aggregated over the neighbours j.

    Every linear map is without bias and followed by batch normalisation over all edges of the
    batch, then by the activation.

    Parameters
    ----------
    in_channels : int
        Features per particle.
    channels : sequence of int
        Widths of the message MLP.
    aggregate : callable
        Neighbour axis 1 of messages (N, k, C) to (N, C).
    activation : callable
        Applied after every normalisation.
    shortcut : bool
        Whether the input is added to the aggregate before one more activation, through a linear
        map and normalisation where the widths differ: a block of ParticleNet.

    References
    ----------
    Wang et al., Dynamic Graph CNN for Learning on Point Clouds, https://arxiv.org/abs/1801.07829;
    Qu and Gouskos, ParticleNet, https://arxiv.org/abs/1902.08570.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        *,
        aggregate: Callable[[Tensor], Tensor] = lambda messages: messages.mean(1),
        activation: Callable[[Tensor], Tensor] = F.relu,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        self.edge = EdgeLinear(in_channels, channels[0])
        self.linears = nn.ModuleList(
            nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(c) for c in channels)
        self.aggregate = aggregate
        self.activation = activation
        self.shortcut = _shortcut(in_channels, channels[-1]) if shortcut else None

    def forward(self, x: Tensor, neighbors: Tensor) -> Tensor:
        """Particle features (N, C) from ``x (N, F)`` and ``neighbors (N, k)``, `N` for missing."""
        edges = self.edge(x, neighbors)  # (N, k, C)
        n, k, _ = edges.shape
        edges = self.activation(self.norms[0](edges.flatten(0, 1)))
        for linear, norm in zip(self.linears, self.norms[1:], strict=True):
            edges = self.activation(norm(linear(edges)))
        out = self.aggregate(edges.view(n, k, -1))
        return out if self.shortcut is None else self.activation(out + self.shortcut(x))


def _shortcut(in_channels: int, out_channels: int) -> nn.Module:
    if in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Linear(in_channels, out_channels, bias=False), nn.BatchNorm1d(out_channels)
    )
