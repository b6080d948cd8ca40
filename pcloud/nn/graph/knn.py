"""Search for the nearest neighbours of each particle in its own jet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.errors import MissingExtraError, UnknownNameError
from pcloud.nn.graph.distances import distance_keys, rounded, squared_distances
from pcloud.nn.graph.knn_by_candidates import nearest_of_large_cloud
from pcloud.nn.graph.knn_by_sorting import NeighborKeys
from pcloud.nn.layout import DenseBlock, RaggedLayout, take_rows
from pcloud.nn.numerics.derivatives import is_recorded, kernel_allowed
from pcloud.nn.numerics.operations import counted

__all__ = ["Search", "gather_neighbors", "knn", "knn_graph", "watched_searches"]

_MAX_PAIRS = 2**23  # distances stored at a time for one very long jet: 64 MiB of float64
_MIN_TREE_POINTS = 2000  # a k-d tree is then twice as fast as all pairs, in two dimensions
_MAX_TREE_DIM = 8  # in more dimensions a k-d tree is slower than all pairs
_SPARE_NEIGHBORS = 4  # requested from a tree beyond k, to detect ties
_MIN_CANDIDATE_POINTS = 4000  # from which all pairs take longer than candidates by float32
_MAX_TREE_NEIGHBORS = 256  # requested from a tree; if more points tie, all distances are computed


def _operations(pos: Tensor, layout: RaggedLayout, *_: object, **__: object) -> int:
    """Number of operations in the products of all ordered pairs of a jet, for every backend."""
    pairs = 2 * layout.num_pairs - layout.num_particles
    return 2 * pairs * pos.shape[1]


@counted(_operations)
@torch.no_grad()
def knn(
    pos: Tensor, layout: RaggedLayout, k: int, *, loop: bool = False, backend: str = "torch"
) -> Tensor:
    """Indices of the `k` nearest neighbours of each particle in its own jet, nearest first.

    A particle is never its own neighbour, even if another one coincides with it, unless `loop` is
    True. In a jet of n < k + 1 particles each has n - 1 neighbours. The index of a missing
    neighbour is `N`, one past the last particle: :func:`gather_neighbors` gives zeros there.

    Parameters
    ----------
    pos : Tensor, shape (N, D)
        Coordinates. Distances are Euclidean and computed in float32 at least.
    layout : RaggedLayout
        Jets of the batch.
    k : int
        Number of neighbours.
    loop : bool
        If True, a particle is its own nearest neighbour.
    backend : {"torch", "torch_cluster"}
        ``"torch"`` computes all distances within a jet, in blocks: the memory is proportional to
        the number of particles, not to its square. On a CPU, clouds of 2000 points and more in up
        to 8 dimensions are searched with a k-d tree, and larger ones in more dimensions by bounds
        in float32, with the same result. ``"torch_cluster"`` (extra ``ext``) uses the
        search of that package.

    Returns
    -------
    Tensor, shape (N, k)
        Particle indices in the batch, `N` for a missing neighbour.

    Raises
    ------
    ValueError
        If `k` is not positive.
    UnknownNameError
        If there is no such backend.

    Examples
    --------
    >>> pos = torch.tensor([[0.0], [1.0], [3.0], [0.0], [2.0]])
    >>> knn(pos, RaggedLayout.from_batch(torch.tensor([0, 0, 0, 1, 1])), k=2)
    tensor([[1, 2],
            [0, 2],
            [1, 0],
            [4, 5],
            [3, 5]])
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if backend not in _BACKENDS:
        raise UnknownNameError("neighbour search", backend, _BACKENDS)
    pos = pos.detach()
    if pos.dtype in (torch.float16, torch.bfloat16):
        pos = pos.float()  # half precision merges neighbours
    if torch.compiler.is_dynamo_compiling():  # which cannot trace context variables
        search = _searched if _is_exporting() else _searched_eagerly
        return search(pos, layout, k, loop=loop, backend=backend)
    watch = _WATCH.get()
    if watch is not None:
        return watch(pos, layout, k, partial(_searched, loop=loop, backend=backend))
    return _searched(pos, layout, k, loop=loop, backend=backend)


def _is_exporting() -> bool:
    """True while a whole graph is captured, which must contain the search."""
    is_exporting = getattr(torch.compiler, "is_exporting", None)  # since PyTorch 2.7
    return is_exporting is None or is_exporting()


def _searched(
    pos: Tensor, layout: RaggedLayout, k: int, *, loop: bool = False, backend: str = "torch"
) -> Tensor:
    """Neighbours (N, k) from the search of a backend."""
    neighbors = _BACKENDS[backend](pos, layout, k if loop else k + 1)
    return neighbors if loop else _without_self(neighbors)


# The blocks of every batch would be compiled again, and the sort is faster than compiled code.
_searched_eagerly = torch.compiler.disable(_searched)


Search = Callable[[Tensor, RaggedLayout, int], Tensor]
"""Function of positions, layout and k that returns neighbours (N, k)."""

_WATCH: ContextVar[Callable[[Tensor, RaggedLayout, int, Search], Tensor] | None] = ContextVar(
    "watch", default=None
)


@contextmanager
def watched_searches(
    watch: Callable[[Tensor, RaggedLayout, int, Search], Tensor],
) -> Iterator[None]:
    """Context in which another function does the neighbour searches, to record or replace them.

    Parameters
    ----------
    watch : callable
        Function of positions, layout, k and the usual search, which returns the neighbours (N, k).
    """
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def knn_graph(
    pos: Tensor, batch: Tensor, k: int, *, loop: bool = False, backend: str = "torch"
) -> Tensor:
    """Edges from the `k` nearest neighbours of each particle in its own jet.

    The result of :func:`knn` as an edge list for PyG layers, without the missing neighbours.

    Parameters
    ----------
    pos : Tensor, shape (N, D)
        Coordinates.
    batch : Tensor, shape (N,)
        Jet of each particle, sorted.
    k, loop, backend
        As in :func:`knn`.

    Returns
    -------
    Tensor, shape (2, E)
        Edges ``(source, target)``, messages flowing from neighbour to particle.

    Examples
    --------
    >>> pos = torch.tensor([[0.0], [1.0], [3.0], [0.0], [5.0]])
    >>> knn_graph(pos, torch.tensor([0, 0, 0, 1, 1]), k=1)
    tensor([[1, 0, 1, 4, 3],
            [0, 1, 2, 3, 4]])
    """
    source = knn(pos, RaggedLayout.from_batch(batch), k, loop=loop, backend=backend)
    target = torch.arange(len(source), device=source.device).unsqueeze(1).expand_as(source)
    real = source < len(source)
    return torch.stack([source[real], target[real]])


def gather_neighbors(x: Tensor, neighbors: Tensor) -> Tensor:
    """Features of the neighbours of each particle.

    Parameters
    ----------
    x : Tensor, shape (N, F)
        Features of the particles.
    neighbors : Tensor, shape (N, k)
        Particle indices from :func:`knn`, `N` for a missing neighbour.

    Returns
    -------
    Tensor, shape (N, k, F)
        Zeros for missing neighbours.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [2.0], [3.0]])
    >>> gather_neighbors(x, torch.tensor([[1], [2], [0]])).flatten()
    tensor([2., 3., 1.])
    """
    return take_rows(F.pad(x, (0, 0, 0, 1)), neighbors)


def _without_self(neighbors: Tensor) -> Tensor:
    """Remove the first of ``neighbors (N, k + 1)``, which is always the particle itself."""
    return neighbors[:, 1:]


def _all_pairs(pos: Tensor, layout: RaggedLayout, k: int) -> Tensor:
    """Neighbours (N, k), the particle itself first, from masked distances, block by block."""
    if not layout.blocks:
        return torch.empty(0, k, dtype=torch.long, device=pos.device)
    nearest: Callable[[DenseBlock, int], Tensor] = partial(_by_topk, pos, spare=layout.spare_slots)
    spare = layout.spare_slots
    if _can_sort_keys(pos):
        nearest, spare = NeighborKeys(pos, layout).nearest, 0
    dense = [_nearest_in_block(pos, block, k, nearest, spare) for block in layout.blocks]
    slots = layout.flatten(dense)
    first = layout.ptr[:-1].index_select(0, layout.batch)
    count = layout.counts.index_select(0, layout.batch)  # (N,)
    exists = slots < count.unsqueeze(1)
    neighbors = torch.where(exists, slots + first.unsqueeze(1), pos.shape[0])
    return neighbors if layout.row_length is None else neighbors.clamp(max=pos.shape[0])


def _nearest_in_block(
    pos: Tensor,
    block: DenseBlock,
    k: int,
    nearest: Callable[[DenseBlock, int], Tensor],
    spare: int,
) -> Tensor:
    """Slots (b, P, k) of the nearest particles; an empty slot for a missing neighbour."""
    if _suits_tree(pos, block):
        return _of_each_jet(pos, block, k, _nearest_in_tree)
    if _is_large(pos, block):
        return _of_each_jet(pos, block, k, _nearest_in_large_cloud)
    size = block.index.shape[1] + spare
    if k <= size:  # with `min` or `len` the size would be constant in an exported network
        return nearest(block, k)
    return F.pad(nearest(block, size), (0, k - size), value=size)


def _can_sort_keys(pos: Tensor) -> bool:
    """True if numpy's vectorised sort can be used (about 5x faster than `topk`)."""
    return kernel_allowed(pos) and pos.device.type == "cpu"


def _by_topk(pos: Tensor, block: DenseBlock, k: int, spare: int = 0) -> Tensor:
    """Slots (b, P, k) of the nearest particles by `topk`: on any device, and in exported networks.

    There are `spare` empty slots beyond those of the block.
    """
    x = block.gather(pos).double()  # (b, P, D)
    b, size, _ = x.shape
    slot = torch.arange(size, device=x.device)
    empty = None if block.full else ~block.mask
    if is_recorded() or b * size * size <= _MAX_PAIRS:  # or the sizes of a ragged batch are unknown
        return _rows_by_topk(x, x, slot, k, empty, spare)
    chunk = max(1, _MAX_PAIRS // (b * size))
    rows = zip(x.split(chunk, 1), slot.split(chunk), strict=True)
    return torch.cat([_rows_by_topk(query, x, i, k, empty, spare) for query, i in rows], 1)


def _rows_by_topk(
    query: Tensor,
    x: Tensor,
    itself: Tensor,
    k: int,
    empty: Tensor | None = None,
    spare: int = 0,
) -> Tensor:
    """Slots (b, R, k) nearest to the points ``query (b, R, D)``, which are in slots ``itself (R,)``."""
    keys = distance_keys(squared_distances(query, x))  # (b, R, P)
    if empty is not None:
        keys = keys.masked_fill(empty.unsqueeze(1), torch.inf)
    # The point itself is first even if others coincide with it or its position is not finite.
    slot = torch.arange(x.shape[1], device=x.device)
    keys = keys.masked_fill(itself.unsqueeze(1) == slot, -torch.inf)
    if spare:
        keys = F.pad(keys, (0, spare), value=torch.inf)
    return keys.topk(k, dim=-1, largest=False).indices


def _suits_tree(pos: Tensor, block: DenseBlock) -> bool:
    """True if a k-d tree is faster for this block and all positions are finite, as it requires."""
    return (
        _can_sort_keys(pos)
        and block.index.shape[1] >= _MIN_TREE_POINTS
        and pos.shape[1] <= _MAX_TREE_DIM
        and bool(block.gather(pos).isfinite().all())
    )


def _is_large(pos: Tensor, block: DenseBlock) -> bool:
    """True if candidates by float32 are faster than all pairs, and all positions are finite."""
    return (
        _can_sort_keys(pos)  # first: the sizes of a recorded ragged batch are unknown
        and block.index.shape[1] >= _MIN_CANDIDATE_POINTS
        and bool(block.gather(pos).isfinite().all())
    )


def _of_each_jet(
    pos: Tensor, block: DenseBlock, k: int, search: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Slots (b, P, k) of the nearest particles, from a search in each jet."""
    x = block.gather(pos).double()
    lengths = block.mask.sum(1).tolist()
    found = [search(jet[:n], k) for jet, n in zip(x.unbind(), lengths, strict=True)]
    return torch.stack([F.pad(t, (0, 0, 0, x.shape[1] - len(t))) for t in found])


def _nearest_in_large_cloud(jet: Tensor, k: int) -> Tensor:
    """Neighbours (n, k) of the points ``jet (n, D)``, the point itself first; n for a missing one."""
    n = len(jet)
    slots = jet.new_full((n, k), n, dtype=torch.long)
    k = min(k, n)
    nearest, missing = nearest_of_large_cloud(jet, k)
    slots[:, :k] = nearest
    _compare_all(jet, missing, slots, k)
    return slots


def _compare_all(jet: Tensor, rows: Tensor, slots: Tensor, k: int) -> None:
    """Write the nearest `k` of some points, by all distances, to ``slots (n, k)``."""
    for chunk in rows.split(max(1, _MAX_PAIRS // len(jet))) if len(rows) else ():
        slots[chunk, :k] = _rows_by_topk(jet[chunk].unsqueeze(0), jet.unsqueeze(0), chunk, k)[0]


def _nearest_in_tree(jet: Tensor, k: int) -> Tensor:
    """Neighbours (n, k) of the points ``jet (n, D)``, the point itself first; n for a missing one."""
    from scipy.spatial import KDTree

    n = len(jet)
    tree = KDTree(jet.numpy())
    slots = jet.new_full((n, k), n, dtype=torch.long)
    rows = torch.arange(n)
    k = min(k, n)
    size = min(k + _SPARE_NEIGHBORS, n)
    while len(rows) and size <= _MAX_TREE_NEIGHBORS:
        candidates = torch.from_numpy(tree.query(jet[rows].numpy(), k=range(1, size + 1))[1])
        nearest, certain = _in_order(jet, rows, candidates, k)
        slots[rows[certain], :k] = nearest[certain]
        rows = rows[~certain]
        size = min(2 * size, n)
    _compare_all(jet, rows, slots, k)
    return slots


def _in_order(jet: Tensor, rows: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Nearest k of ``candidates (R, m)``, ordered as in :mod:`pcloud.nn.graph.distances`.

    Returns
    -------
    Tensor, shape (R, k)
        Slots.
    Tensor, shape (R,)
        True for rows in which no point outside the candidates can be among the nearest.
    """
    candidates = candidates.sort(1).values  # the sort by distance is stable
    squares = rounded((jet[rows].unsqueeze(1) - jet[candidates]).square().sum(-1))
    squares = squares.masked_fill(candidates == rows.unsqueeze(1), -1.0)  # self first
    squares, order = squares.sort(dim=1, stable=True)
    everything = candidates.shape[1] == len(jet)
    certain = (squares[:, 0] < 0) & (squares[:, k - 1] < squares[:, -1]) | everything
    return candidates.gather(1, order[:, :k]), certain


def _torch_cluster(pos: Tensor, layout: RaggedLayout, k: int) -> Tensor:
    """Neighbours (N, k), the particle itself first, from the edge list of `torch_cluster`."""
    try:
        from torch_cluster import knn as cluster_knn
    except ImportError as error:
        raise MissingExtraError("backend='torch_cluster'", "torch-cluster", "ext") from error
    n = len(pos)
    if n == 0:
        return torch.empty(0, k, dtype=torch.long, device=pos.device)
    target, source = cluster_knn(pos, pos, k, layout.batch, layout.batch)
    others = source != target  # the particle itself is absent if more than k particles coincide
    target = target[others]
    source = source[others]
    first = torch.searchsorted(target, torch.arange(n, device=pos.device))
    rank = torch.arange(len(target), device=pos.device) - first[target]
    keep = rank < k - 1
    neighbors = pos.new_full((n, k), n, dtype=torch.long)
    neighbors[:, 0] = torch.arange(n, device=pos.device)
    neighbors[target[keep], rank[keep] + 1] = source[keep]
    return neighbors


_BACKENDS: dict[str, Callable[[Tensor, RaggedLayout, int], Tensor]] = {
    "torch": _all_pairs,
    "torch_cluster": _torch_cluster,
}
