"""ParticleNet: dynamic graph network on the neighbours of each particle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pcloud.models.registry import register_model
from pcloud.nn.graph.coordinates import Coordinates, coordinates_named, eta_phi
from pcloud.nn.graph.edge_conv import EdgeBlock
from pcloud.nn.graph.knn import knn
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.pooling import mean_pool

__all__ = ["ParticleNet", "particlenet_lite"]


@register_model("particlenet", paper="1902.08570", year=2019, use="the standard", inputs="x and p4")
class ParticleNet(nn.Module):
    """ParticleNet: three EdgeConv blocks, mean over particles, one hidden layer.

    Neighbours are sought in `coordinates` for the first block and in the features for the others.
    Every jet has k messages per particle: where it has too few particles the missing neighbours
    count as ``x_j = 0``, the rule with which the official weights were trained.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_classes : int
        Classes C.
    blocks : sequence of (int, sequence of int)
        For each EdgeConv block the number of neighbours and the widths of its MLP.
    hidden : int
        Width of the hidden layer.
    dropout : float
        After the hidden layer.
    coordinates : callable or str
        Map from `p4` to positions for the first search: ``eta_phi`` for jets, ``identity`` for
        clouds that pass positions in the place of `p4`.
    backend : {"torch", "torch_cluster"}
        Of the neighbour search.

    References
    ----------
    Qu and Gouskos, ParticleNet: Jet Tagging via Particle Clouds,
    https://arxiv.org/abs/1902.08570.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        blocks: Sequence[tuple[int, Sequence[int]]] = (
            (16, (64, 64, 64)),
            (16, (128, 128, 128)),
            (16, (256, 256, 256)),
        ),
        hidden: int = 256,
        dropout: float = 0.1,
        coordinates: Coordinates | str = eta_phi,
        backend: str = "torch",
    ) -> None:
        super().__init__()
        widths = [in_features, *(channels[-1] for _, channels in blocks)]
        self.coordinates = coordinates_named(coordinates)
        self.backend = backend
        self.neighbors = [k for k, _ in blocks]
        self.norm = nn.BatchNorm1d(in_features)
        self.convs = nn.ModuleList(
            EdgeBlock(width, channels) for width, (_, channels) in zip(widths, blocks, strict=False)
        )
        self.head = nn.Sequential(
            nn.Linear(widths[-1], hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV or positions, ``batch (N,)``."""
        layout = as_layout(batch, layout)
        pos = self.coordinates(p4, layout)
        x = self.norm(x)
        for k, conv in zip(self.neighbors, self.convs, strict=True):
            neighbors = knn(pos, layout, k, backend=self.backend)
            x = pos = conv(x, neighbors)
        return self.head(mean_pool(x, layout))


@register_model(
    "particlenet_lite",
    paper="1902.08570",
    year=2019,
    use="a fast start, triggers",
    inputs="x and p4",
)
def particlenet_lite(in_features: int, num_classes: int = 2, **options: Any) -> ParticleNet:
    """ParticleNet-Lite: two EdgeConv blocks of 32 and 64 channels with 7 neighbours."""
    lite: dict[str, Any] = {"blocks": ((7, (32, 32, 32)), (7, (64, 64, 64))), "hidden": 128}
    return ParticleNet(in_features, num_classes, **lite | options)
