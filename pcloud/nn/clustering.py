"""Sequential recombination of the particles of each jet: clustering trees and exclusive axes.

The generalised-kT distance of two particles is ``min(pT_i^2p, pT_j^2p) dR_ij^2`` with dR in rapidity
and azimuth. There is no distance to the beam: all particles of a jet are merged into one tree, as if
its constituents were clustered again with a very large radius.

All jets of a chunk are clustered at the same time. They are sorted by decreasing length. A jet
starts to merge when the longer jets have been reduced to its length. Therefore all jets that take
part in a step have the same number of momenta, and no masks or padding are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud import kinematics
from pcloud.errors import InputError, UnknownNameError
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
"""Exponent p of each algorithm."""

_CHUNK_PAIRS = 2**21  # distances computed at a time: 16 MiB, more is not faster
_MIN_PT2 = 1e-30  # GeV^2, before a negative power
_MIN_PT = 1e-30  # GeV, of a denominator
_MAX_RAPIDITY = 1e5  # of a massless particle along the beam, as in FastJet

Recombination = Callable[[Tensor, Tensor], Tensor]
"""``(p4_i, p4_j) -> p4`` of shapes (..., 4)."""


def e_scheme(a: Tensor, b: Tensor) -> Tensor:
    """Sum of four-momenta (..., 4)."""
    return a + b


def winner_take_all(a: Tensor, b: Tensor) -> Tensor:
    """Momentum (..., 4) in the direction of the harder of two, with the sum of their pT.

    References
    ----------
    Larkoski, Neill and Thaler, Jet Shapes with the Broadening Axis,
    https://arxiv.org/abs/1401.2158.
    """
    pt_a = kinematics.pt(a).unsqueeze(-1)
    pt_b = kinematics.pt(b).unsqueeze(-1)
    harder = torch.where(pt_a >= pt_b, a, b)
    return harder * ((pt_a + pt_b) / torch.maximum(pt_a, pt_b).clamp(min=_MIN_PT))


@dataclass(frozen=True)
class ClusteringTrees:
    """Binary trees of all jets of a batch, level by level.

    The first N nodes are the particles. The other nodes, one for each merging, are sorted by their
    height, the largest number of mergings between the node and a particle. Nodes of the same height
    can be computed together, after those of lower height.

    Attributes
    ----------
    children : Tensor, shape (M, 2)
        Nodes that are merged into node ``N + i``, the one of larger pT first.
    batch : Tensor, shape (N + M,)
        Jet of each node.
    levels : tuple of int
        Number of mergings of height 1, 2, ...
    root : Tensor, shape (B,)
        Root node of each jet: the particle itself in a jet of one particle, -1 for an empty jet.
    """

    children: Tensor
    batch: Tensor
    levels: tuple[int, ...]
    root: Tensor

    @torch.compiler.disable  # trees of other heights would be compiled again
    def fold(self, leaves: Tensor, merge: Callable[[Tensor, Tensor, slice], Tensor]) -> Tensor:
        """Values of all nodes from those of the particles, computed height by height.

        Parameters
        ----------
        leaves : Tensor, shape (N, F)
            Values of the particles.
        merge : callable
            Function ``merge(first, second, rows)`` that returns the values (m, F) of the nodes
            `rows` of one height from the values of their children.

        Returns
        -------
        Tensor, shape (N + M, F)
        """
        values = leaves
        start = 0
        for size in self.levels:
            first, second = self.children[start : start + size].unbind(-1)
            rows = slice(len(values), len(values) + size)
            values = torch.cat([values, merge(values[first], values[second], rows)])
            start += size
        return values

    @torch.no_grad()
    @torch.compiler.disable
    def leaves(self) -> Tensor:
        """Particles (N,) jet by jet in the order of the leaves of its tree, first children first."""
        number = len(self.batch) - len(self.children)
        ones = self.children.new_ones(number, 1)
        sizes = self.fold(ones, lambda a, b, _: a + b)[:, 0]  # particles below each node
        places = torch.zeros_like(sizes)  # first particle of each node, in its jet
        stop = len(self.batch)
        for size in reversed(self.levels):
            rows = slice(stop - size, stop)
            first, second = self.children[stop - size - number : stop - number].unbind(-1)
            start = places[rows].clone()
            places[first] = start
            places[second] = start + sizes[first]
            stop -= size
        order = torch.argsort(places[:number], stable=True)
        return order[torch.argsort(self.batch[:number][order], stable=True)]

    def momenta(self, p4: Tensor) -> Tensor:
        """Four-momenta (N + M, 4) of all nodes from those of the particles (N, 4); differentiable."""
        return self.fold(p4, lambda a, b, _: a + b)


@torch.no_grad()
@torch.compiler.disable
@outside_transforms
def clustering_trees(p4: Tensor, layout: RaggedLayout, algorithm: str = "kt") -> ClusteringTrees:
    """Clustering trees of the particles of each jet, with recombination in the E scheme.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV; distances are computed in float64.
    layout : RaggedLayout
        Jets of the batch.
    algorithm : {"kt", "cambridge_aachen", "antikt"}
        Name of the algorithm, see `ALGORITHMS`.

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
    p4: Tensor, layout: RaggedLayout, algorithm: str, recombine: Recombination, max_subjets: int = 0
) -> tuple[ClusteringTrees, list[Tensor]]:
    """Trees, and the nodes of the 1, 2, ..., `max_subjets` exclusive subjets of each jet.

    The children of a node are in the order of the arguments of `recombine`. The nodes of n subjets
    have the shape (B, n). In a jet of fewer than n particles the subjets are the particles, with
    the first one repeated; in an empty jet all nodes are -1.
    """
    if algorithm not in ALGORITHMS:
        raise UnknownNameError("clustering algorithm", algorithm, ALGORITHMS)
    if layout.row_length is not None:
        raise InputError(
            "it clusters the particles of each jet, a loop of its own that the exporter of PyTorch "
            "cannot record"
        )
    num_nodes = layout.num_particles
    node = torch.arange(num_nodes, device=p4.device)
    root = torch.full_like(layout.counts, -1)
    root[layout.batch] = node
    subjets = [root.new_full((layout.num_jets, n), -1) for n in range(1, max_subjets + 1)]
    pairs, heights, jets = [], [], []
    for jet, index, counts in _jet_chunks(layout):
        ids = node[index]
        height = torch.zeros_like(index)
        for n, subjet in enumerate(subjets, start=1):  # for jets of at most n particles
            # Empty slots of `index` have the index of the first particle.
            subjet[jet, : index.shape[1]] = ids[:, :n]
            subjet[jet, index.shape[1] :] = ids[:, :1]
        for step in _merges(p4[index], counts, ALGORITHMS[algorithm], recombine):
            pair = torch.stack([step.first, step.second], dim=-1)
            rows = step.rows.unsqueeze(-1)
            pairs.append(ids[rows, pair])
            heights.append(height[rows, pair].amax(-1) + 1)
            jets.append(jet[: len(rows)])
            new = torch.arange(num_nodes, num_nodes + len(rows), device=p4.device)
            root[jets[-1]] = new
            step.replace(ids, new)
            step.replace(height, heights[-1])
            num_nodes += len(rows)
            if step.left <= max_subjets:
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
    """Trees with the nodes sorted by height, and subjets with the new numbers of their nodes."""
    num_leaves = layout.num_particles
    order = torch.argsort(heights, stable=True)
    new_number = torch.arange(num_leaves + len(order) + 1, device=order.device)
    new_number[num_leaves + order] = new_number[num_leaves:-1].clone()
    new_number[-1] = -1  # of the root of an empty jet, which is -1 before, too
    trees = ClusteringTrees(
        new_number[pairs[order]],
        torch.cat([layout.batch, jets[order]]),
        tuple(torch.bincount(heights)[1:].tolist()),
        new_number[root],
    )
    return trees, [new_number[nodes] for nodes in subjets]


@torch.compiler.disable
def exclusive_axes(
    p4: Tensor,
    layout: RaggedLayout,
    max_subjets: int,
    *,
    algorithm: str = "kt",
    recombine: Recombination = winner_take_all,
) -> list[Tensor]:
    """Momenta of the 1, 2, ..., `max_subjets` exclusive subjets of each jet.

    The result is differentiable with respect to `p4` with a fixed sequence of mergings. It is
    discontinuous where another pair becomes the closest one.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    layout : RaggedLayout
        Jets of the batch.
    max_subjets : int
        Largest number of subjets.
    algorithm : {"kt", "cambridge_aachen", "antikt"}
        Name of the algorithm, see `ALGORITHMS`.
    recombine : callable
        Recombination scheme: :func:`winner_take_all` or :func:`e_scheme`.

    Returns
    -------
    list of Tensor, shapes (B, 1, 4), (B, 2, 4), ..., float64
        In a jet of fewer particles, the subjets are the particles, with the first one repeated; an
        empty jet has zeros.

    Raises
    ------
    UnknownNameError
        If there is no such algorithm.

    Examples
    --------
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0]])
    >>> one, two = exclusive_axes(p4, RaggedLayout.from_batch(torch.tensor([0, 0])), 2)
    >>> one.shape, two.shape
    (torch.Size([1, 1, 4]), torch.Size([1, 2, 4]))
    """
    p4 = p4.double()
    with torch.no_grad():
        trees, subjets = _cluster(p4, layout, algorithm, recombine, max_subjets)
    momenta = trees.fold(p4, lambda a, b, _: recombine(a, b))
    momenta = F.pad(momenta, (0, 0, 0, 1))  # zeros for an empty jet, whose node is -1
    return [momenta[nodes] for nodes in subjets]


def _jet_chunks(layout: RaggedLayout) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Jets (b,) sorted by decreasing length, their particles (b, P), and their lengths (b,)."""
    counts, order = torch.sort(layout.counts, descending=True, stable=True)
    lengths = counts.tolist()
    start = 0
    stop = sum(n > 0 for n in lengths)
    while start < stop:
        longest = lengths[start]
        end = min(start + max(1, _CHUNK_PAIRS // longest**2), stop)
        jet = order[start:end]
        count = counts[start:end]
        slot = torch.arange(longest, device=order.device)
        slot = torch.where(slot < count.unsqueeze(-1), slot, 0)
        yield jet, layout.ptr[jet].unsqueeze(-1) + slot, count
        start = end


@dataclass(frozen=True)
class _Merging:
    """One merging in each of the first b jets of a chunk."""

    rows: Tensor  # (b,), jets
    first: Tensor  # (b,), slot of one of the pair, which then contains the merged momentum
    second: Tensor  # (b,), slot of the other, larger than `first`
    left: int  # number of momenta after the merging
    p4: Tensor  # (b', P, 4), momenta after the merging

    def replace(self, values: Tensor, new: Tensor) -> None:
        """Replace the pair in ``values (b', P, ...)`` by the merged value `new` (b, ...).

        The last value moves to the slot of the second of the pair.
        """
        values[self.rows, self.first] = new
        values[self.rows, self.second] = values[self.rows, self.left]


def _merges(
    p4: Tensor, counts: Tensor, power: float, recombine: Recombination
) -> Iterator[_Merging]:
    """Merge the closest pair of every jet until one momentum is left; `p4` is overwritten.

    The nearest neighbour of each momentum in rapidity and azimuth is stored. For the closest pair,
    the one with the smaller weight ``pT^2p`` has the other as its nearest neighbour, so that the
    pair is found at the minimum of ``pT^2p dR^2`` over the stored neighbours. Few neighbours change
    in a merging, and a jet of n particles needs of order n^2 operations.

    Parameters
    ----------
    p4 : Tensor, shape (b, P, 4), float64
        Momenta of jets, sorted by decreasing length.
    counts : Tensor, shape (b,)
        Lengths of the jets; the first is P.
    power : float
        Exponent p.
    recombine : callable
        Recombination scheme.

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
        first = torch.minimum(closest, other)
        second = torch.maximum(closest, other)
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
    """Update the nearest neighbours after a merging, in place."""
    rows = step.rows
    left = step.left
    first = step.first.unsqueeze(-1)
    second = step.second.unsqueeze(-1)
    old = near[: len(rows), : left + 1]
    lost = (old == first) | (old == second)  # the neighbour has been merged
    step.replace(lost, torch.ones_like(rows, dtype=torch.bool))
    step.replace(near, step.first)
    step.replace(near_distance, near_distance[rows, step.first])
    near_distance = near_distance[: len(rows), :left]
    near = near[: len(rows), :left]
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
    """Rapidity and azimuth of momenta (..., 4)."""
    return kinematics.rapidity(p4).clamp(-_MAX_RAPIDITY, _MAX_RAPIDITY), kinematics.phi(p4)


def _weight(p4: Tensor, power: float) -> Tensor:
    """``pT^2p`` of momenta (..., 4)."""
    return kinematics.pt2(p4).clamp(min=_MIN_PT2) ** power


def _distance2(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Squared distance in rapidity and azimuth, bit-equal under exchange of `a` and `b`."""
    dphi = (a[1] - b[1]).abs_()
    dphi = torch.minimum(dphi, 2 * math.pi - dphi)
    return (a[0] - b[0]).square_().add_(dphi.square_())
