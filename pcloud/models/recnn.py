"""QCD-aware recursive network: embeddings merged along the clustering tree of a jet."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud import kinematics
from pcloud.errors import UnknownNameError
from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.nn.clustering import ALGORITHMS, clustering_trees
from pcloud.nn.dense import dense_layers, he_uniform_
from pcloud.nn.graph.coordinates import jet_momenta
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.numerics.precision import without_autocast

__all__ = ["GatedMerge", "RecNN", "SimpleMerge"]

_NODE_FEATURES = 7


class SimpleMerge(nn.Module):
    """``ReLU(W [h_1, h_2, u] + b)`` of a node and its children.

    Parameters
    ----------
    width : int
        Width q of the embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.merge = nn.Linear(3 * width, width)

    def forward(self, first: Tensor, second: Tensor, own: Tensor) -> Tensor:
        """Embeddings (m, q) from those of both children and those of the nodes' own momenta."""
        return F.relu(self.merge(torch.cat([first, second, own], dim=-1)))


class GatedMerge(nn.Module):
    """Gated mean of a candidate, both children and the node itself.

    Parameters
    ----------
    width : int
        Width q of the embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reset = nn.Linear(3 * width, 3 * width)
        self.candidate = nn.Linear(3 * width, width)
        self.update = nn.Linear(4 * width, 4 * width)

    def forward(self, first: Tensor, second: Tensor, own: Tensor) -> Tensor:
        """Embeddings (m, q) from those of both children and those of the nodes' own momenta."""
        inputs = torch.cat([first, second, own], dim=-1)
        candidate = F.relu(self.candidate(self.reset(inputs).sigmoid() * inputs))
        choices = torch.cat([candidate, inputs], dim=-1)  # (m, 4 q)
        gates = self.update(choices).unflatten(-1, (4, -1)).softmax(dim=1)
        return (gates * choices.unflatten(-1, (4, -1))).sum(1)


_MERGES = {"gated": GatedMerge, "simple": SimpleMerge}


@register_model(
    "recnn",
    paper="1702.00748",
    year=2017,
    use="clustering history of the jet",
    inputs="p4",
)
class RecNN(nn.Module):
    """QCD-aware recursive network: embeddings merge as the clustering of the jet merges momenta.

    Particles and pseudojets of the tree are described by their four-momenta only: ln pT and ln E,
    the same relative to the jet, and deltaR, deta, dphi from the jet axis, standardised over the
    training jets. The paper uses p, eta, phi, E, E/E_jet, pT and theta of preprocessed jets. The
    tree is that of exclusive clustering; the harder child comes first.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used: pseudojets have a momentum only.
    num_outputs : int
        Number of outputs, one for each class (C).
    width : int
        Width q of all layers.
    merge : {"gated", "simple"}
        Unit that merges embeddings, :class:`GatedMerge` or :class:`SimpleMerge`.
    algorithm : {"kt", "cambridge_aachen", "antikt"}
        Jet clustering algorithm.

    References
    ----------
    Louppe, Cho, Becot and Cranmer, QCD-Aware Recursive Neural Networks for Jet Physics,
    https://arxiv.org/abs/1702.00748.

    Examples
    --------
    >>> model = RecNN(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        width: int = 40,
        merge: str = "gated",
        algorithm: str = "kt",
    ) -> None:
        super().__init__()
        if merge not in _MERGES:
            raise UnknownNameError("merge", merge, _MERGES)
        if algorithm not in ALGORITHMS:
            raise UnknownNameError("clustering algorithm", algorithm, ALGORITHMS)
        self.algorithm = algorithm
        self.norm = nn.BatchNorm1d(_NODE_FEATURES, affine=False)
        self.embed = nn.Linear(_NODE_FEATURES, width)
        self.merge = _MERGES[merge](width)
        self.head = Head(dense_layers([width, width, width]), width, num_outputs)
        he_uniform_(self)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``p4 (N, 4)`` in GeV and ``batch (N,)``; `x` is not used."""
        layout = as_layout(batch, layout, p4)
        trees = clustering_trees(p4, layout, self.algorithm)
        nodes = node_features(trees.momenta(p4.double()), jet_momenta(p4, layout)[trees.batch])
        with without_autocast(p4):  # rounding errors would add up over the levels of the tree
            u = F.relu(self.embed(self.norm(nodes.to(self.embed.weight.dtype))))  # (N + M, q)
            h = trees.fold(u[: layout.num_particles], lambda a, b, rows: self.merge(a, b, u[rows]))
        root = F.pad(h, (0, 0, 0, 1))[trees.root]  # zeros for an empty jet, whose root is -1
        return self.head(root)


def node_features(p4: Tensor, jet: Tensor) -> Tensor:
    """Features (..., 7) of momenta (..., 4) in a jet of momentum (..., 4), both in GeV."""
    pt, energy = (kinematics.safe_log(f(p4)) for f in (kinematics.pt, kinematics.energy))
    jet_pt, jet_energy = (kinematics.safe_log(f(jet)) for f in (kinematics.pt, kinematics.energy))
    deta = kinematics.finite_eta(p4) - kinematics.finite_eta(jet)
    dphi = kinematics.delta_phi(p4, jet)
    delta_r = kinematics.safe_sqrt(deta**2 + dphi**2)
    return torch.stack([pt, energy, pt - jet_pt, energy - jet_energy, delta_r, deta, dphi], dim=-1)
