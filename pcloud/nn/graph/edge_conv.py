"""EdgeConv: messages along the edges of the neighbour graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.graph.edge_conv_kernel import mean_messages
from pcloud.nn.graph.knn import gather_neighbors
from pcloud.nn.numerics.batch_norm import same_mode
from pcloud.nn.numerics.derivatives import kernel_allowed
from pcloud.nn.numerics.ranks import is_spread

__all__ = ["EdgeBlock", "EdgeConv", "EdgeLinear"]

_MIN_TRAINED_BYTES = 2**24  # of an edge tensor; below, a training step takes longer with the kernel

_leaky_relu = partial(F.leaky_relu, negative_slope=0.2)


class EdgeLinear(nn.Module):
    """Linear map of ``[x_i, x_j - x_i]`` for every edge, computed per particle.

    ``W1 x_i + W2 (x_j - x_i) = (W1 - W2) x_i + W2 x_j``: two matrix products with N rows each
    replace one with N k rows. A missing neighbour has ``x_j = 0``.

    Parameters
    ----------
    in_channels, out_channels : int
        Features per particle and per edge.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 2 * in_channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Terms of an edge from its target i and from its source j, shape (N, out) each."""
        w1, w2 = self.weight.chunk(2, dim=1)
        return F.linear(x, w1 - w2), F.linear(x, w2)


class EdgeConv(nn.Module):
    """EdgeConv layer of DGCNN: one linear map of ``[x_i, x_j - x_i]``, maximum over neighbours.

    Parameters
    ----------
    in_channels, out_channels : int
        Features per particle.
    activation : callable
        Activation function. The batch normalisation before it runs over all edges of the batch.

    References
    ----------
    Wang et al., Dynamic Graph CNN for Learning on Point Clouds, https://arxiv.org/abs/1801.07829.

    Examples
    --------
    >>> conv = EdgeConv(in_channels=3, out_channels=8)
    >>> neighbors = torch.tensor([[1], [0], [1]])
    >>> conv(torch.randn(3, 3), neighbors).shape
    torch.Size([3, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: Callable[[Tensor], Tensor] = _leaky_relu,
    ) -> None:
        super().__init__()
        self.edge: nn.Module = EdgeLinear(in_channels, out_channels)
        self.norm: nn.Module = nn.BatchNorm1d(out_channels)
        self.activation = activation

    def forward(self, x: Tensor, neighbors: Tensor) -> Tensor:
        """Particle features (N, out) from ``x (N, in)`` and ``neighbors (N, k)``."""
        center, other = self.edge(x)
        edges = center.unsqueeze(1) + gather_neighbors(other, neighbors)  # (N, k, out)
        messages = self.activation(self.norm(edges.flatten(0, 1)))
        return messages.view_as(edges).amax(1)


class EdgeBlock(nn.Module):
    """EdgeConv block of ParticleNet: an MLP on ``[x_i, x_j - x_i]``, mean over k neighbours.

    Each linear map has no bias and is followed by batch normalisation over all edges of the batch
    and by ReLU. The input is added to the mean, and another ReLU follows. Where the widths differ,
    the input passes through a linear map and a normalisation before it is added.

    Parameters
    ----------
    in_channels : int
        Features per particle.
    channels : sequence of int
        Widths of the message MLP.

    References
    ----------
    Qu and Gouskos, ParticleNet, https://arxiv.org/abs/1902.08570.

    Examples
    --------
    >>> block = EdgeBlock(in_channels=3, channels=[8, 16])
    >>> neighbors = torch.tensor([[1], [0], [1]])
    >>> block(torch.randn(3, 3), neighbors).shape
    torch.Size([3, 16])
    """

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.edge: nn.Module = EdgeLinear(in_channels, channels[0])
        self.linears = nn.ModuleList(
            nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(c) for c in channels)
        self._width = max(channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels[-1]:
            self.shortcut = nn.Sequential(
                nn.Linear(in_channels, channels[-1], bias=False), nn.BatchNorm1d(channels[-1])
            )

    def forward(self, x: Tensor, neighbors: Tensor) -> Tensor:
        """Particle features (N, C) from ``x (N, F)`` and ``neighbors (N, k)``, `N` for missing."""
        center, other = self.edge(x)
        if (
            kernel_allowed(center, other, neighbors)
            and same_mode(self.norms)
            and self._is_large(neighbors, center)
        ):
            mean = mean_messages(center, other, neighbors, [*self.linears], [*self.norms])
        else:
            mean = self._messages(center, other, neighbors).mean(1)
        return F.relu(mean + self.shortcut(x))

    def _is_large(self, neighbors: Tensor, like: Tensor) -> bool:
        """True where the kernel is faster: in inference, and in training on many edges.

        All ranks must choose alike, since the two forms exchange different sums.
        """
        if not self.training or is_spread() or like.device.type != "cpu":
            return True
        return neighbors.numel() * self._width * like.element_size() >= _MIN_TRAINED_BYTES

    def messages(self, x: Tensor, neighbors: Tensor) -> Tensor:
        """Messages on all edges (N, k, C), for attribution; `forward` takes their mean over k."""
        center, other = self.edge(x)
        return self._messages(center, other, neighbors)

    def _messages(self, center: Tensor, other: Tensor, neighbors: Tensor) -> Tensor:
        """Messages (N, k, C) from the terms of the particles (N, C')."""
        edges = (center.unsqueeze(1) + gather_neighbors(other, neighbors)).flatten(0, 1)
        edges = F.relu(self.norms[0](edges))
        for linear, norm in zip(self.linears, self.norms[1:], strict=True):
            edges = F.relu(norm(linear(edges)))
        return edges.view(*neighbors.shape, edges.shape[-1])
