"""ParticleNet of several collections, such as CMS's tagger of small-radius jets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.models.head import mlp_head, with_jet_features
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths, nested_widths
from pcloud.nn.collections import CollectionEmbedding
from pcloud.nn.graph.coordinates import Coordinates, coordinates_named, eta_phi
from pcloud.nn.graph.edge_conv import EdgeBlock
from pcloud.nn.graph.knn import knn
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.pooling import mean_pool
from pcloud.nn.representation import Representation

__all__ = ["CollectionParticleNet"]


@register_model(
    "particlenet_collections",
    paper="1902.08570",
    year=2019,
    use="particles and vertices as one cloud",
    inputs="x and p4",
)
class CollectionParticleNet(nn.Module):
    """ParticleNet on the union of collections, whose outputs of all blocks a fusion layer joins.

    It is the network of CMS's ParticleNet tagger of small-radius jets: each collection is embedded by
    a map of its own, neighbours are found among all rows, and a linear map with normalisation
    joins the outputs of the EdgeConv blocks. In a jet of too few rows, a missing neighbour counts as
    ``x_j = 0``.

    Parameters
    ----------
    in_features : int
        Features of a row F, the number of the widest collection.
    num_outputs : int
        Number of outputs, one for each class (C).
    collections : sequence of int, optional
        Number of features of each collection, the largest of which is F; by default one collection.
    embed_width : int
        Common width of the embedded collections.
    k : int
        Number of neighbours.
    widths : sequence of sequence of int
        For each EdgeConv block the widths of the layers of its MLP.
    fusion_width : int
        Width of the layer that joins the blocks.
    head_widths : sequence of int
        Widths of the hidden layers of the head.
    dropout : float
        Dropout probability after each hidden layer of the head.
    coordinates : callable or str
        Map from `p4` to positions for the first search, unless `pos` is given.

    num_jet_features : int
        Number of features of jets G, which the head gets beside the pooled particles.

    References
    ----------
    Qu and Gouskos, ParticleNet: Jet Tagging via Particle Clouds,
    https://arxiv.org/abs/1902.08570; its use in CMS: https://github.com/cms-data/RecoBTag-Combined.
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        collections: Sequence[int] | None = None,
        embed_width: int = 32,
        k: int = 8,
        widths: Sequence[Sequence[int]] = ((64, 64, 64), (96, 96, 96), (128, 128, 128)),
        fusion_width: int = 256,
        head_widths: Sequence[int] = (128,),
        dropout: float = 0.1,
        coordinates: Coordinates | str = eta_phi,
        num_jet_features: int = 0,
    ) -> None:
        super().__init__()
        widths = nested_widths("widths", widths)
        head_widths = layer_widths("head_widths", head_widths)
        sizes = layer_widths("collections", (in_features,) if collections is None else collections)
        if max(sizes) != in_features:
            raise InputError(
                f"the widest of the collections has {in_features} features, and collections are "
                f"{list(sizes)}"
            )
        in_widths = [embed_width, *(block[-1] for block in widths)]
        self.k = k
        self.coordinates = coordinates_named(coordinates)
        self.embed = CollectionEmbedding(sizes, embed_width)
        self.convs = nn.ModuleList(map(EdgeBlock, in_widths, widths))
        self.fusion = nn.Sequential(
            nn.Linear(sum(in_widths[1:]), fusion_width, bias=False),
            nn.BatchNorm1d(fusion_width),
            nn.ReLU(),
        )
        self.num_jet_features = num_jet_features
        self.particle_width = fusion_width
        self.head = mlp_head([fusion_width + num_jet_features, *head_widths], num_outputs, dropout)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
        pos: Tensor | None = None,
        collection: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``.

        Parameters
        ----------
        x : Tensor, shape (N, F)
            Features of all rows; those of narrower collections end in zeros.
        p4 : Tensor, shape (N, 4)
            Four-momenta in GeV; not used if `pos` is given.
        batch : Tensor, shape (N,), optional
            Jet of each row.
        layout : RaggedLayout, optional
            Layout of the batch, which can carry `u`, `pos` and `collection`.
        u : Tensor, shape (B, G), optional
            Features of the jets.
        pos : Tensor, shape (N, 2), optional
            Positions (eta, phi) of the rows relative to the jet.
        collection : Tensor, shape (N,), optional
            Collection of each row.
        """
        h = self.particles(x, p4, batch, layout, u=u, pos=pos, collection=collection)
        return self.head(self.pool(h))

    def particles(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
        pos: Tensor | None = None,
        collection: Tensor | None = None,
    ) -> Representation:
        """Representation of each particle, from the arguments of `forward`."""
        layout = as_layout(batch, layout, x).with_u(u)
        pos = layout.pos if pos is None else pos
        pos = self.coordinates(p4, layout) if pos is None else pos
        x = self.embed(x, layout.collection if collection is None else collection)
        outputs = []
        for conv in self.convs:
            x = pos = conv(x, knn(pos, layout, self.k))
            outputs.append(x)
        return Representation(self.fusion(torch.cat(outputs, dim=-1)), layout)

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return with_jet_features(mean_pool(h.rows, h.layout), h.layout, None, self.num_jet_features)
