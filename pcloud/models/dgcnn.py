"""DGCNN: the dynamic graph network for point clouds, on jets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths
from pcloud.nn.graph.coordinates import Coordinates, coordinates_named, eta_phi
from pcloud.nn.graph.edge_conv import EdgeConv
from pcloud.nn.graph.knn import knn
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.pooling import max_pool, mean_pool
from pcloud.nn.representation import Representation

__all__ = ["DGCNN"]


@register_model(
    "dgcnn", paper="1801.07829", year=2018, use="point clouds in general", inputs="x and p4"
)
class DGCNN(nn.Module):
    """DGCNN: four EdgeConv layers, concatenated, pooled by maximum and mean.

    As in the authors' code, a particle is one of its own k neighbours. In a jet of fewer than k
    particles, a missing neighbour is replaced by the particle itself: this repeats its message to
    itself, which does not change the maximum over the messages.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    k : int
        Number of neighbours, the particle itself included.
    widths : sequence of int
        Width of each EdgeConv layer.
    embed_width : int
        Width of the layer applied to each particle before the pooling.
    head_widths : sequence of int
        Widths of the hidden layers of the head.
    dropout : float
        Dropout probability after each hidden layer of the head.
    coordinates : callable or str
        Map from `p4` to positions for the first neighbour search; the others use the features.
    backend : {"torch", "torch_cluster"}
        Implementation of the neighbour search.

    References
    ----------
    Wang et al., Dynamic Graph CNN for Learning on Point Clouds, https://arxiv.org/abs/1801.07829.

    Examples
    --------
    >>> model = DGCNN(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        k: int = 20,
        widths: Sequence[int] = (64, 64, 128, 256),
        embed_width: int = 1024,
        head_widths: Sequence[int] = (512, 256),
        dropout: float = 0.5,
        coordinates: Coordinates | str = eta_phi,
        backend: str = "torch",
    ) -> None:
        super().__init__()
        widths = layer_widths("widths", widths, required=True)
        head_widths = layer_widths("head_widths", head_widths)
        self.k = k
        self.backend = backend
        self.coordinates = coordinates_named(coordinates)
        self.convs = nn.ModuleList(
            EdgeConv(a, b) for a, b in itertools.pairwise([in_features, *widths])
        )
        self.particle_width = embed_width
        self.embed = nn.Sequential(
            nn.Linear(sum(widths), embed_width, bias=False),
            nn.BatchNorm1d(embed_width),
            nn.LeakyReLU(0.2),
        )
        self.head = _head([2 * embed_width, *head_widths], num_outputs, dropout)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV or positions, ``batch (N,)``."""
        return self.head(self.pool(self.particles(x, p4, batch, layout)))

    def particles(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Representation:
        """Representation of each particle, from the arguments of `forward`."""
        layout = as_layout(batch, layout, p4)
        pos = self.coordinates(p4, layout)
        levels = []
        for conv in self.convs:
            x = pos = conv(x, self._neighbors(pos, layout))
            levels.append(x)
        return Representation(self.embed(torch.cat(levels, dim=-1)), layout)

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return torch.cat([max_pool(h.rows, h.layout), mean_pool(h.rows, h.layout)], dim=-1)

    def _neighbors(self, pos: Tensor, layout: RaggedLayout) -> Tensor:
        neighbors = knn(pos, layout, self.k, loop=True, backend=self.backend)
        itself = neighbors[:, :1]
        return torch.where(neighbors < pos.shape[0], neighbors, itself)


def _head(widths: Sequence[int], num_outputs: int, dropout: float) -> Head:
    """Head of the authors' code: only the first hidden layer has no bias."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        layers += [
            nn.Linear(a, b, bias=i > 0),
            nn.BatchNorm1d(b),
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
        ]
    return Head(layers, widths[-1], num_outputs)
