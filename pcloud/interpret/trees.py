"""Figure of the clustering tree of a jet, in the plane of eta and phi or as a dendrogram."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import InputError
from pcloud.evaluation.figures.style import INK, figure_style, new_figure
from pcloud.nn.clustering import ALGORITHMS, ClusteringTrees, clustering_trees
from pcloud.nn.layout import RaggedLayout
from pcloud.typing import Floats

__all__ = ["FORMS", "Form", "merging_distances", "tree_figure"]

Form = Literal["plane", "dendrogram"]
FORMS: tuple[Form, ...] = ("plane", "dendrogram")
"""Forms of the figure."""

_MIN_PT = 1e-6  # GeV, of a logarithmic scale of colours
_TINY = 1e-12  # distance of an axis if all particles coincide
_MIN_DISTANCE = 1e-4  # of the axis of a dendrogram, relative to the largest distance
_DISTANCES = {
    "kt": r"$\min(p_{T,i}, p_{T,j})\ \Delta R_{ij}$ [GeV]",
    "cambridge_aachen": r"$\Delta R_{ij}$",
    "antikt": r"$\Delta R_{ij}\ /\ \max(p_{T,i}, p_{T,j})$ [1/GeV]",
}


def merging_distances(p4: Tensor, trees: ClusteringTrees, algorithm: str) -> Tensor:
    """Distance at which the two children of each merging are merged, the root of that of the paper.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta of the particles in GeV.
    trees : ClusteringTrees
        Trees of the particles.
    algorithm : str
        Name of the algorithm in `ALGORITHMS`.

    Returns
    -------
    Tensor, shape (M,)
        In GeV for kT, without unit for Cambridge/Aachen and in 1/GeV for anti-kT.
    """
    first, second = trees.momenta(p4.double())[trees.children].unbind(1)  # (M, 4)
    drapidity = kinematics.rapidity(first) - kinematics.rapidity(second)
    distance = torch.hypot(drapidity, kinematics.delta_phi(first, second))
    weights = [
        kinematics.pt(p).clamp(min=_MIN_PT) ** ALGORITHMS[algorithm] for p in (first, second)
    ]
    return torch.minimum(*weights) * distance


@figure_style()
def tree_figure(
    p4: Tensor, algorithm: str = "cambridge_aachen", *, form: Form = "plane", title: str = ""
) -> Figure:
    """Draw the clustering tree of one jet; the colour of an edge is the pT of what it merges.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta of the particles in GeV.
    algorithm : {"kt", "cambridge_aachen", "antikt"}
        Name of the algorithm.
    form : {"plane", "dendrogram"}
        Particles at their eta and phi relative to the jet, with an area that grows with their pT; or
        particles side by side, merged at the height of their distance.
    title : str
        Text above the figure.

    Raises
    ------
    InputError
        If there are fewer than two particles.
    UnknownNameError
        If there is no such algorithm.
    """
    if len(p4) < 2:
        raise InputError(f"a clustering tree needs at least 2 particles, got {len(p4)}")
    p4 = p4.double()
    trees = clustering_trees(p4, RaggedLayout.from_ptr(torch.tensor([0, len(p4)])), algorithm)
    nodes = trees.momenta(p4)
    pt = kinematics.pt(nodes).clamp(min=_MIN_PT).numpy()
    draw = _plane if form == "plane" else _dendrogram
    segments, places = draw(p4, nodes, trees, algorithm)
    child = trees.children.flatten().numpy()
    order = np.argsort(pt[child])  # the hardest edges on top
    figure, (axes,) = new_figure(4.6)
    edges = LineCollection(
        list(segments[order]),
        array=pt[child][order],
        norm=LogNorm(pt[: len(p4)].min(), max(pt.max(), 1.01 * pt[: len(p4)].min())),
        cmap="viridis_r",
        linewidths=1 + 2 * np.sqrt(pt[child][order] / pt.max()),
        capstyle="round",
    )
    axes.add_collection(edges)
    leaves = pt[: len(p4)]
    if form == "plane":
        size = 4 + 400 * leaves / leaves.sum()
        axes.scatter(places[:, 0], places[:, 1], s=size, color=INK, alpha=0.5, lw=0)
        axes.set_xlabel(r"$\Delta\eta$")
        axes.set_ylabel(r"$\Delta\phi$ [rad]")
        axes.set_aspect("equal", adjustable="datalim")
    else:
        axes.set_yscale("log")
        axes.set_xlabel("particle, in the order of the tree")
        axes.set_ylabel(_DISTANCES[algorithm])
        axes.set_xlim(-1, len(p4))
    axes.autoscale_view(scalex=form == "plane")
    if title:
        axes.set_title(title, fontsize=10)
    figure.colorbar(edges, label=r"$p_T$ [GeV]")
    return figure


def _plane(
    p4: Tensor, nodes: Tensor, trees: ClusteringTrees, algorithm: str
) -> tuple[Floats, Floats]:
    """Edges (2 M, 2, 2) in the plane, and places (N, 2) of the particles."""
    axis = p4.sum(0)
    eta = kinematics.finite_eta(nodes) - kinematics.finite_eta(axis)
    place = torch.stack([eta, kinematics.delta_phi(nodes, axis.expand_as(nodes))], dim=-1)
    parents = torch.arange(len(p4), len(nodes)).repeat_interleave(2)
    edges = torch.stack([place[parents], place[trees.children.flatten()]], dim=1)
    return edges.numpy(), place[: len(p4)].numpy()


def _dendrogram(
    p4: Tensor, nodes: Tensor, trees: ClusteringTrees, algorithm: str
) -> tuple[Floats, Floats]:
    """Edges (2 M, 3, 2), each a bend, and places (N, 2) of the particles."""
    distance = merging_distances(p4, trees, algorithm)
    lowest = (_MIN_DISTANCE * distance.max()).clamp(min=_TINY)
    lowest = torch.maximum(distance.min() / 2, lowest)
    height = torch.cat([lowest.expand(len(p4)), distance.clamp(min=lowest)])
    order = trees.leaves()
    leaf = torch.empty(len(p4), 1, dtype=torch.float64)
    leaf[order, 0] = torch.arange(len(p4), dtype=torch.float64)
    across = trees.fold(leaf, lambda a, b, _: (a + b) / 2)[:, 0]
    parents = torch.arange(len(p4), len(nodes)).repeat_interleave(2)
    child = trees.children.flatten()
    top, bottom = height[parents], height[child]
    bends = [(across[parents], top), (across[child], top), (across[child], bottom)]
    edges = torch.stack([torch.stack(point, dim=-1) for point in bends], dim=1)
    return edges.numpy(), torch.stack([leaf[:, 0], height[: len(p4)]], dim=-1).numpy()
