"""ParticleNet: dynamic graph network on the neighbours of each particle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.models.head import mlp_head, with_jet_features
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths, nested_widths
from pcloud.nn.graph.coordinates import Coordinates, coordinates_named, eta_phi
from pcloud.nn.graph.edge_conv import EdgeBlock
from pcloud.nn.graph.knn import knn
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.pooling import mean_pool
from pcloud.nn.representation import Representation
from pcloud.words import number_of

__all__ = ["ParticleNet", "particlenet_lite"]


@register_model(
    "particlenet", paper="1902.08570", year=2019, use="standard of comparison", inputs="x and p4"
)
class ParticleNet(nn.Module):
    """ParticleNet: three EdgeConv blocks, mean over particles, one hidden layer.

    Neighbours are found in `coordinates` for the first block and in the features for the others.
    Every particle receives k messages: in a jet of too few particles, a missing neighbour counts as
    ``x_j = 0``, the rule with which the official weights were trained.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    k : int or sequence of int
        Number of neighbours, of each block if a sequence.
    widths : sequence of sequence of int
        For each EdgeConv block the widths of the layers of its MLP.
    head_widths : sequence of int
        Widths of the hidden layers of the head.
    dropout : float
        Dropout probability after each hidden layer of the head.
    coordinates : callable or str
        Map from `p4` to positions for the first search: ``eta_phi`` for jets, ``identity`` for
        clouds that have positions in place of `p4`.
    backend : {"torch", "torch_cluster"}
        Implementation of the neighbour search.
    num_jet_features : int
        Number of features of jets G, which the head gets beside the pooled particles.

    References
    ----------
    Qu and Gouskos, ParticleNet: Jet Tagging via Particle Clouds,
    https://arxiv.org/abs/1902.08570.

    Examples
    --------
    >>> model = ParticleNet(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    edge_block: ClassVar[type[EdgeBlock]] = EdgeBlock
    """Blocks of edge convolutions."""

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        k: int | Sequence[int] = 16,
        widths: Sequence[Sequence[int]] = ((64, 64, 64), (128, 128, 128), (256, 256, 256)),
        head_widths: Sequence[int] = (256,),
        dropout: float = 0.1,
        coordinates: Coordinates | str = eta_phi,
        backend: str = "torch",
        num_jet_features: int = 0,
    ) -> None:
        super().__init__()
        widths = nested_widths("widths", widths)
        head_widths = layer_widths("head_widths", head_widths)
        self.k = [k] * len(widths) if isinstance(k, int) else layer_widths("k", k)
        if len(self.k) != len(widths):
            raise InputError(
                f"k has {number_of(len(self.k), 'value')} for {number_of(len(widths), 'block')}"
            )
        in_widths = [in_features, *(block[-1] for block in widths)]
        self.coordinates = coordinates_named(coordinates)
        self.backend = backend
        self.norm = nn.BatchNorm1d(in_features)
        self.convs = nn.ModuleList(map(self.edge_block, in_widths, widths))
        self.num_jet_features = num_jet_features
        self.particle_width = in_widths[-1]
        self.head = mlp_head([in_widths[-1] + num_jet_features, *head_widths], num_outputs, dropout)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV or positions, ``batch (N,)``.

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
        layout = as_layout(batch, layout, p4).with_u(u)
        pos = self.coordinates(p4, layout)
        x = self.norm(x)
        for k, conv in zip(self.k, self.convs, strict=True):
            x = pos = conv(x, knn(pos, layout, k, backend=self.backend))
        return Representation(x, layout)

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return with_jet_features(mean_pool(h.rows, h.layout), h.layout, None, self.num_jet_features)


@register_model(
    "particlenet_lite",
    paper="1902.08570",
    year=2019,
    use="fast training, triggers",
    inputs="x and p4",
)
def particlenet_lite(in_features: int, num_outputs: int = 2, **options: Any) -> ParticleNet:
    """ParticleNet-Lite: two EdgeConv blocks of 32 and 64 channels with 7 neighbours.

    Examples
    --------
    >>> model = particlenet_lite(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """
    lite: dict[str, Any] = {"k": 7, "widths": ((32,) * 3, (64,) * 3), "head_widths": (128,)}
    return ParticleNet(in_features, num_outputs, **lite | options)
