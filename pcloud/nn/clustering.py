"""Sequential recombination of the particles of each jet: clustering trees and exclusive axes.

The generalised-kT distance of two particles is ``min(pT_i^2p, pT_j^2p) dR_ij^2`` with dR in rapidity
and azimuth. There is no distance to the beam: all particles of a jet end in one tree, as where its
constituents are clustered again with a very large radius.

All jets of a chunk are clustered in lockstep. The jets stand in order of falling length, and a
jet begins to merge when the longer ones have come down to its length, so that in every step
all jets that take part have the same number of particles: nothing is masked or padded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud import kinematics
from pcloud.errors import UnknownNameError
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import outside_transforms

__all__ = [
    "ALGORITHMS",
    "ClusteringTrees",
    "clustering_trees",
    "e_scheme",
    "exclusive_axes",
    "winner_take_all",
]

ALGORITHMS = {"kt": 1.0, "cambridge_aachen": 0.0, "antikt": -1.0}
"""The exponent p of each algorithm."""

_PAIRS = 2**21  # entries of the distances of a chunk: 16 MiB, more is no faster
_TINY = 1e-30  # GeV^2: floor of pT^2 under a negative power
_MAX_RAPIDITY = 1e5  # of a massless particle on the beam, as in FastJet

Recombination = Callable[[Tensor, Tensor], Tensor]
"""``(p4_i, p4_j) -> p4`` of shapes (..., 4)."""


def e_scheme(a: Tensor, b: Tensor) -> Tensor:
    """Sum of four-momenta (..., 4)."""
    return a + b


def winner_take_all(a: Tensor, b: Tensor) -> Tensor:
    """Momentum (..., 4) along the harder of two, with the sum of their pT.

    References
    ----------
    Larkoski, Neill and Thaler, Jet Shapes with the Broadening Axis,
    https://arxiv.org/abs/1401.2158.
    """
    pt_a, pt_b = kinematics.pt(a).unsqueeze(-1), kinematics.pt(b).unsqueeze(-1)
    harder = torch.where(pt_a >= pt_b, a, b)
    return harder * ((pt_a + pt_b) / torch.maximum(pt_a, pt_b).clamp(min=_TINY))


@dataclass(frozen=True)
class ClusteringTrees:
    """The binary trees of all jets of a batch, level by level.

    The first N nodes are the particles. The others, one for each merging, follow in order of
    height: a node of height h stands above at most h mergings, so that those of one height can be
    computed together once the lower ones are known.

    Attributes
    ----------
    children : Tensor, shape (M, 2)
        Nodes that merge into node ``N + i``, the one of larger pT first.
    batch : Tensor, shape (N + M,)
        Jet of each node.
    levels : tuple of int
        Number of mergings of height 1, 2, ...
    root : Tensor, shape (B,)
        Node at the top of each jet: of a single particle itself, of an empty jet -1.
    """

    children: Tensor
    batch: Tensor
    levels: tuple[int, ...]
    root: Tensor

    @torch.compiler.disable  # trees of other heights would be compiled anew
    def fold(self, leaves: Tensor, merge: Callable[[Tensor, Tensor, slice], Tensor]) -> Tensor:
        """Values of all nodes from those of the particles, one step per height.

        Parameters
        ----------
        leaves : Tensor, shape (N, F)
            Values of the particles.
        merge : callable
            ``merge(first, second, rows)``: the values (m, F) of the nodes `rows` of one height from
            those of their children.

        Returns
        -------
        Tensor, shape (N + M, F)
        """
        values, start = leaves, 0
        for size in self.levels:
            first, second = self.children[start : start + size].unbind(-1)
            rows = slice(len(values), len(values) + size)
            values = torch.cat([values, merge(values[first], values[second], rows)])
            start += size
        return values

    def momenta(self, p4: Tensor) -> Tensor:
        """Four-momenta (N + M, 4) of all nodes, differentiable in those of the particles (N, 4)."""
        return self.fold(p4, lambda a, b, _: a + b)


@torch.no_grad()
@torch.compiler.disable
@outside_transforms
def clustering_trees(p4: Tensor, layout: RaggedLayout, algorithm: str = "kt") -> ClusteringTrees:
    """Trees in which the particles of each jet merge, pair by pair, in the E scheme.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV; distances are computed in float64.
    layout : RaggedLayout
        The jets.
    algorithm : {"kt", "cambridge_aachen", "antikt"}
        Which pair is next, see `ALGORITHMS`.

    Raises
    ------
    UnknownNameError
        If there is no such algorithm.

    References
    ----------
    Cacciari, Salam and Soyez, FastJet user manual, https://arxiv.org/abs/1111.6097.
    """
    trees, _ = _cluster(p4.double(), layout, algorithm, e_scheme)
    pt2 = kinematics.pt2(trees.momenta(p4.double()))[trees.children]  # (M, 2)
    swap = pt2[:, :1] < pt2[:, 1:]
    return replace(trees, children=torch.where(swap, trees.children.flip(-1), trees.children))


def _cluster(
    p4: Tensor, layout: RaggedLayout, algorithm: str, recombine: Recombination, most: int = 0
) -> tuple[ClusteringTrees, list[Tensor]]:
    """Trees, and the nodes that are the 1, 2, ..., `most` exclusive subjets of each jet.

    The children of a node are in the order in which `recombine` got them. The nodes of n subjets
    have the shape (B, n); a jet of fewer particles has these, the first one repeated, and an empty
    jet has -1.
    """
    if algorithm not in ALGORITHMS:
        raise UnknownNameError("clustering algorithm", algorithm, ALGORITHMS)
    made = layout.num_particles
    node = torch.arange(made, device=p4.device)
    root = torch.full_like(layout.counts, -1)
    root[layout.batch] = node
    subjets = [root.new_full((layout.num_jets, n), -1) for n in range(1, most + 1)]
    pairs, heights, jets = [], [], []
    for jet, index, counts in _chunks(layout):
        ids, height = node[index], torch.zeros_like(index)
        for n, subjet in enumerate(subjets, start=1):  # for jets with n particles or less
            # beyond its last particle a jet of `index` has its first one
            subjet[jet, : index.shape[1]] = ids[:, :n]
            subjet[jet, index.shape[1] :] = ids[:, :1]
        for step in _merges(p4[index], counts, ALGORITHMS[algorithm], recombine):
            pair = torch.stack([step.first, step.second], dim=-1)
            rows = step.rows.unsqueeze(-1)
            pairs.append(ids[rows, pair])
            heights.append(height[rows, pair].amax(-1) + 1)
            jets.append(jet[: len(rows)])
            root[jets[-1]] = new = torch.arange(made, made + len(rows), device=p4.device)
            step.replace(ids, new)
            step.replace(height, heights[-1])
            made += len(rows)
            if step.left <= most:
                subjets[step.left - 1][jets[-1]] = ids[: len(rows), : step.left]
    if not pairs:
        return ClusteringTrees(root.new_zeros(0, 2), layout.batch, (), root), subjets
    return _by_height(torch.cat(pairs), torch.cat(heights), torch.cat(jets), root, layout, subjets)


def _by_height(
    pairs: Tensor,
    heights: Tensor,
    jets: Tensor,
    root: Tensor,
    layout: RaggedLayout,
    subjets: list[Tensor],
) -> tuple[ClusteringTrees, list[Tensor]]:
    """Trees with mergings in order of height, and subjets, with their nodes renamed accordingly."""
    num_leaves = layout.num_particles
    order = torch.argsort(heights, stable=True)
    name = torch.arange(num_leaves + len(order) + 1, device=order.device)
    name[num_leaves + order] = name[num_leaves:-1].clone()
    name[-1] = -1  # what the root of an empty jet keeps
    trees = ClusteringTrees(
        name[pairs[order]],
        torch.cat([layout.batch, jets[order]]),
        tuple(torch.bincount(heights)[1:].tolist()),
        name[root],
    )
    return trees, [name[nodes] for nodes in subjets]


@torch.compiler.disable
def exclusive_axes(
    p4: Tensor,
    layout: RaggedLayout,
    most: int,
    *,
    algorithm: str = "kt",
    recombine: Recombination = winner_take_all,
) -> list[Tensor]:
    """Momenta of the 1, 2, ..., `most` exclusive subjets of each jet.

    Differentiable in `p4` with the history of mergings held fixed: the axes follow the particles
    that they are made of. The momenta themselves jump where another pair becomes the closest.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    layout : RaggedLayout
        The jets.
    most : int
        Largest number of subjets.
    algorithm : {"kt", "cambridge_aachen", "antikt"}
        Which pair merges next.
    recombine : callable
        Momentum of a pair: :func:`winner_take_all` or :func:`e_scheme`.

    Returns
    -------
    list of Tensor, shapes (B, 1, 4), (B, 2, 4), ..., float64
        A jet of fewer particles has them as its subjets, the first one repeated; an empty jet
        has zeros.
    """
    p4 = p4.double()
    with torch.no_grad():
        trees, subjets = _cluster(p4, layout, algorithm, recombine, most)
    momenta = trees.fold(p4, lambda a, b, _: recombine(a, b))
    momenta = F.pad(momenta, (0, 0, 0, 1))  # zeros for an empty jet, whose node is -1
    return [momenta[nodes] for nodes in subjets]


def _chunks(layout: RaggedLayout) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Jets (b,) in order of falling length, their particles (b, P), and their lengths (b,)."""
    counts, order = torch.sort(layout.counts, descending=True, stable=True)
    lengths = counts.tolist()
    start, stop = 0, sum(n > 0 for n in lengths)
    while start < stop:
        longest = lengths[start]
        end = min(start + max(1, _PAIRS // longest**2), stop)
        jet, count = order[start:end], counts[start:end]
        slot = torch.arange(longest, device=order.device)
        slot = torch.where(slot < count.unsqueeze(-1), slot, 0)
        yield jet, layout.ptr[jet].unsqueeze(-1) + slot, count
        start = end


@dataclass(frozen=True)
class _Merging:
    """In each of the first b jets of a chunk a pair has become one, which leaves `left` momenta.

    ``rows (b,)`` are the jets; ``first (b,)`` and ``second (b,)``, the larger, the slots of the pair;
    ``p4 (b', P, 4)`` the momenta after it, the merged one in the slot `first`.
    """

    rows: Tensor
    first: Tensor
    second: Tensor
    left: int
    p4: Tensor

    def replace(self, values: Tensor, new: Tensor) -> None:
        """Put the values `new` (b, ...) of the merged into ``values (b', P, ...)``, close the gap."""
        values[self.rows, self.first] = new
        values[self.rows, self.second] = values[self.rows, self.left]


def _merges(
    p4: Tensor, counts: Tensor, power: float, recombine: Recombination
) -> Iterator[_Merging]:
    """Merge the closest pair of every jet until one momentum is left; `p4` changes on the way.

    Each momentum keeps its nearest neighbour in the plane. The softer of the closest pair has the
    other as that neighbour, so that ``pT^2p dR^2`` to it has its minimum there; few neighbours
    change in a merging, and a jet of n particles takes of order n^2 operations.

    Parameters
    ----------
    p4 : Tensor, shape (b, P, 4), float64
        Momenta of jets of falling length.
    counts : Tensor, shape (b,)
        Their lengths, the first one P.

    References
    ----------
    Cacciari and Salam, Dispelling the N^3 myth for the kt jet-finder,
    https://arxiv.org/abs/hep-ph/0512210.
    """
    plane = [x.contiguous() for x in _plane(p4)]  # rapidity and azimuth, (b, P)
    weight = _weight(p4, power)
    near_distance, near = _nearest(plane, counts)
    lengths = counts.tolist()
    jets = torch.arange(len(p4), device=p4.device)
    b = 0
    for left in range(p4.shape[1] - 1, 0, -1):
        while b < len(lengths) and lengths[b] > left:
            b += 1
        rows = jets[:b]
        closest = (weight[:b, : left + 1] * near_distance[:b, : left + 1]).argmin(-1)
        other = near[rows, closest]
        first, second = torch.minimum(closest, other), torch.maximum(closest, other)
        merged = recombine(p4[rows, first], p4[rows, second])
        step = _Merging(rows, first, second, left, p4)
        step.replace(p4, merged)
        yield step
        if left == 1:
            return
        step.replace(weight, _weight(merged, power))
        for coordinate, new in zip(plane, _plane(merged), strict=True):
            step.replace(coordinate, new)
        _update_nearest(near_distance, near, plane, step)


def _nearest(plane: list[Tensor], counts: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance and slot (b, P) of the nearest neighbour of each momentum in its jet."""
    distance = _distance2([x.unsqueeze(2) for x in plane], [x.unsqueeze(1) for x in plane])
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    slots = torch.arange(distance.shape[1], device=distance.device)
    empty = slots >= counts.unsqueeze(-1)
    return distance.masked_fill_(empty.unsqueeze(1), torch.inf).min(-1)


def _update_nearest(
    near_distance: Tensor, near: Tensor, plane: list[Tensor], step: _Merging
) -> None:
    """Nearest neighbours after a merging, changed in place."""
    rows, left = step.rows, step.left
    first, second = step.first.unsqueeze(-1), step.second.unsqueeze(-1)
    old = near[: len(rows), : left + 1]
    lost = (old == first) | (old == second)  # neighbours that are no more
    step.replace(lost, torch.ones_like(rows, dtype=torch.bool))
    step.replace(near, step.first)
    step.replace(near_distance, near_distance[rows, step.first])
    near_distance, near = near_distance[: len(rows), :left], near[: len(rows), :left]
    live = [x[: len(rows), :left] for x in plane]

    to_new = _distance2(live, [x.gather(1, first) for x in live])
    to_new.scatter_(1, first, torch.inf)
    nearer = to_new < near_distance
    near_distance.copy_(torch.where(nearer, to_new, near_distance))
    near.copy_(torch.where(nearer, first, torch.where(near == left, second, near)))

    jet, slot = lost[:, :left].nonzero(as_tuple=True)
    distance = _distance2([x[jet] for x in live], [x[jet, slot].unsqueeze(-1) for x in live])
    distance.scatter_(1, slot.unsqueeze(-1), torch.inf)
    near_distance[jet, slot], near[jet, slot] = distance.min(-1)


def _plane(p4: Tensor) -> tuple[Tensor, Tensor]:
    """Rapidity and azimuth (...)."""
    return kinematics.rapidity(p4).clamp(-_MAX_RAPIDITY, _MAX_RAPIDITY), kinematics.phi(p4)


def _weight(p4: Tensor, power: float) -> Tensor:
    return kinematics.pt2(p4).clamp(min=_TINY) ** power


def _distance2(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Squared distance in rapidity and azimuth; the same for both orders, to the bit."""
    dphi = (a[1] - b[1]).abs_()
    dphi = torch.minimum(dphi, 2 * math.pi - dphi)
    return (a[0] - b[0]).square_().add_(dphi.square_())
