"""DGCNN: the dynamic graph network for point clouds, on jets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcloud.models.registry import register_model
from pcloud.nn.graph.coordinates import Coordinates, coordinates_named, eta_phi
from pcloud.nn.graph.edge_conv import EdgeConv
from pcloud.nn.graph.knn import knn
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.pooling import max_pool, mean_pool

__all__ = ["DGCNN"]


@register_model(
    "dgcnn", paper="1801.07829", year=2018, use="point clouds in general", inputs="x and p4"
)
class DGCNN(nn.Module):
    """DGCNN: four EdgeConv layers, concatenated, pooled by maximum and mean.

    A particle counts among its own k neighbours, as in the authors' code, and the messages are
    aggregated by their maximum: in a jet of fewer than k particles a missing neighbour repeats the
    message of the particle to itself, which leaves the maximum as it is.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_classes : int
        Classes C.
    k : int
        Neighbours, the particle itself included.
    channels : sequence of int
        Width of each EdgeConv layer.
    embedding : int
        Width of the particle-wise layer before the pooling.
    hidden : sequence of int
        Widths of the layers after it.
    dropout : float
        After each of these.
    coordinates : callable or str
        Map from `p4` to positions for the first neighbour search; the others use the features.
    backend : {"torch", "torch_cluster"}
        Of the neighbour search.

    References
    ----------
    Wang et al., Dynamic Graph CNN for Learning on Point Clouds, https://arxiv.org/abs/1801.07829.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        k: int = 20,
        channels: Sequence[int] = (64, 64, 128, 256),
        embedding: int = 1024,
        hidden: Sequence[int] = (512, 256),
        dropout: float = 0.5,
        coordinates: Coordinates | str = eta_phi,
        backend: str = "torch",
    ) -> None:
        super().__init__()
        widths = [in_features, *channels]
        self.k = k
        self.backend = backend
        self.coordinates = coordinates_named(coordinates)
        self.convs = nn.ModuleList(EdgeConv(a, b) for a, b in itertools.pairwise(widths))
        self.embed = nn.Sequential(
            nn.Linear(sum(channels), embedding, bias=False),
            nn.BatchNorm1d(embedding),
            nn.LeakyReLU(0.2),
        )
        self.head = _head([2 * embedding, *hidden], num_classes, dropout)

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV or positions, ``batch (N,)``."""
        layout = as_layout(batch, layout)
        pos, levels = self.coordinates(p4, layout), []
        for conv in self.convs:
            x = pos = conv(x, self._neighbors(pos, layout))
            levels.append(x)
        x = self.embed(torch.cat(levels, dim=-1))
        return self.head(torch.cat([max_pool(x, layout), mean_pool(x, layout)], dim=-1))

    def _neighbors(self, pos: Tensor, layout: RaggedLayout) -> Tensor:
        neighbors = knn(pos, layout, self.k, loop=True, backend=self.backend)
        itself = neighbors[:, :1]
        return torch.where(neighbors < pos.shape[0], neighbors, itself)


def _head(widths: Sequence[int], num_classes: int, dropout: float) -> nn.Sequential:
    """Linear, normalisation, activation, dropout for each width, as the authors have it."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        layers += [
            nn.Linear(a, b, bias=i > 0),
            nn.BatchNorm1d(b),
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
        ]
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
