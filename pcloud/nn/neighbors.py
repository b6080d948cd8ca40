"""Search for the nearest neighbours of each particle in its own jet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.errors import MissingExtraError, UnknownNameError
from pcloud.nn.layout import DenseBlock, RaggedLayout
from pcloud.nn.neighbor_keys import NeighborKeys

__all__ = ["knn", "knn_graph"]

_PAIRS = 2**24  # distances held at a time for one very long jet: 64 MiB of float32
_LONG = 2000  # points from which a k-d tree is twice as fast as all pairs, in two dimensions
_FEW = 8  # dimensions up to which it is faster at all


@torch.no_grad()
def knn(
    pos: Tensor, layout: RaggedLayout, k: int, *, loop: bool = False, backend: str = "torch"
) -> Tensor:
    """Indices of the `k` nearest neighbours of each particle in its own jet, nearest first.

    A particle is never its own neighbour, even when another coincides with it, unless `loop`. A jet
    of n < k + 1 particles has n - 1 neighbours for each; the missing ones are `N`, one past the
    last particle, so that a gather from features with a row of zeros appended gives zeros for them.

    Parameters
    ----------
    pos : Tensor, shape (N, D)
        Coordinates. Distances are Euclidean and computed in float32 at least.
    layout : RaggedLayout
        Jets of the batch.
    k : int
        Number of neighbours.
    loop : bool
        Whether a particle counts as its own nearest neighbour.
    backend : {"torch", "torch_cluster"}
        ``"torch"`` measures all pairs of a jet in blocks, in memory that grows with the number of
        particles and not with its square; on a CPU, clouds of 2000 points and more in up to 8
        dimensions are searched by a k-d tree. ``"torch_cluster"`` (extra ``ext``) uses its own.

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
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if backend not in _BACKENDS:
        raise UnknownNameError("neighbour search", backend, _BACKENDS)
    pos = pos.detach()
    if pos.dtype in (torch.float16, torch.bfloat16):
        pos = pos.float()  # half precision merges neighbours
    neighbors = _BACKENDS[backend](pos, layout, k if loop else k + 1)
    return neighbors if loop else _without_self(neighbors)


def knn_graph(
    pos: Tensor, batch: Tensor, k: int, *, loop: bool = False, backend: str = "torch"
) -> Tensor:
    """Edges from the `k` nearest neighbours of each particle in its own jet.

    The edge list of :func:`knn`, for PyG layers; it takes ``batch (N,)`` and leaves out missing
    neighbours.

    Returns
    -------
    Tensor, shape (2, E)
        Edges ``(source, target)``, messages flowing from neighbour to particle.
    """
    source = knn(pos, RaggedLayout.from_batch(batch), k, loop=loop, backend=backend)
    target = torch.arange(len(source), device=source.device).unsqueeze(1).expand_as(source)
    real = source < len(source)
    return torch.stack([source[real], target[real]])


def _without_self(neighbors: Tensor) -> Tensor:
    """Of ``neighbors (N, k + 1)``, self always first, the others."""
    return neighbors[:, 1:]


def _all_pairs(pos: Tensor, layout: RaggedLayout, k: int) -> Tensor:
    """Self, then the nearest others, from masked distances, one dense block at a time."""
    if not layout.blocks:
        return torch.empty(0, k, dtype=torch.long, device=pos.device)
    nearest = NeighborKeys(pos, layout).nearest if _suits_keys(pos) else partial(_by_topk, pos)
    dense = [_nearest_in_block(pos, block, k, nearest) for block in layout.blocks]
    slots, first = layout.flatten(dense), layout.ptr[:-1].index_select(0, layout.batch)
    count = layout.counts.index_select(0, layout.batch)  # (N,)
    exists = slots < count.unsqueeze(1)
    return torch.where(exists, slots + first.unsqueeze(1), pos.shape[0])


def _nearest_in_block(
    pos: Tensor, block: DenseBlock, k: int, nearest: Callable[[DenseBlock, int], Tensor]
) -> Tensor:
    """Slots (b, P, k); where there is none, some empty slot."""
    if _suits_tree(pos, block):
        return _by_trees(pos, block, k)
    size = block.index.shape[1]
    if k <= size:  # `min` and `len` would fix the size of an exported network
        return nearest(block, k)
    return F.pad(nearest(block, size), (0, k - size), value=size)


def _suits_keys(pos: Tensor) -> bool:
    """Whether numpy may sort, which takes vector instructions and a fifth of the time of `topk`."""
    return (
        not torch.compiler.is_compiling()  # first: what follows cannot be compiled
        and not torch.onnx.is_in_onnx_export()
        and pos.device.type == "cpu"
        and pos.dtype == torch.float32
        and type(pos) is Tensor
        and not torch._C._functorch.is_functorch_wrapped_tensor(pos)
    )


def _by_topk(pos: Tensor, block: DenseBlock, k: int) -> Tensor:
    """Slots (b, P, k) of the nearest: on any device, in any precision, and without values."""
    x = block.gather(pos)  # (b, P, D)
    b, size, _ = x.shape
    if b * size * size <= _PAIRS:
        return _rows_by_topk(x, block, 0, size, k)
    rows = max(1, _PAIRS // (b * size))
    return torch.cat([_rows_by_topk(x, block, i, rows, k) for i in range(0, size, rows)], 1)


def _rows_by_topk(x: Tensor, block: DenseBlock, start: int, rows: int, k: int) -> Tensor:
    """The same (b, R, k) for some `rows` of a block."""
    query = x[:, start : start + rows]
    distance = _comparable_distances(query, x).abs_()  # (b, R, P); rounding leaves signs
    if not block.full:
        distance.masked_fill_(~block.mask.unsqueeze(1), torch.inf)
    itself = torch.arange(start, start + query.shape[1], device=x.device)
    # Self first even when others coincide with it, and even when its position is not finite.
    distance.scatter_(2, itself.view(1, -1, 1).expand(x.shape[0], -1, 1), -torch.inf)
    return distance.topk(k, dim=-1, largest=False).indices


def _comparable_distances(query: Tensor, x: Tensor) -> Tensor:
    """Distances (b, R, P), or their squares in many dimensions, of ``query (b, R, D)`` to `x`.

    A matrix product in float32 misorders close neighbours far from the origin. In float64 it does
    not, and in many dimensions it takes half the time of differences in float32, or a third.
    """
    if x.shape[-1] <= _FEW:
        return torch.cdist(query, x, compute_mode="donot_use_mm_for_euclid_dist")
    q, y = query.double(), x.double()
    squares = y.square().sum(-1).unsqueeze(1)
    distance = torch.baddbmm(squares, q, y.mT, alpha=-2).add_(q.square().sum(-1, keepdim=True))
    return distance.to(x.dtype)  # rounding makes equal distances equal again


def _suits_tree(pos: Tensor, block: DenseBlock) -> bool:
    """Whether to search the jets of a block by trees, which know no infinite positions."""
    return (
        block.index.shape[1] >= _LONG
        and pos.shape[1] <= _FEW
        and pos.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.onnx.is_in_onnx_export()
        and bool(block.gather(pos).isfinite().all())
    )


def _by_trees(pos: Tensor, block: DenseBlock, k: int) -> Tensor:
    """Slots (b, P, k) of the nearest, from a tree for each jet."""
    x, lengths = block.gather(pos), block.mask.sum(1).tolist()
    trees = [_nearest_in_tree(jet[:n], k) for jet, n in zip(x.unbind(), lengths, strict=True)]
    return torch.stack([F.pad(t, (0, 0, 0, x.shape[1] - len(t))) for t in trees])


def _nearest_in_tree(jet: Tensor, k: int) -> Tensor:
    """Self, then the nearest others of ``jet (n, D)``; n where none is left."""
    from scipy.spatial import KDTree

    _, found = KDTree(jet.numpy()).query(jet.numpy(), k=range(1, k + 1))
    slots, itself = torch.from_numpy(found), torch.arange(len(jet)).unsqueeze(1)
    # Self first. It may be absent, where more than k points coincide: then the farthest gives way.
    rank = torch.where(slots == itself, -1, torch.arange(k))
    rank[:, -1] = torch.where((rank < 0).any(1), rank[:, -1], -1)
    slots = slots.gather(1, rank.argsort(dim=1, stable=True))
    slots[:, :1] = itself
    return slots


def _torch_cluster(pos: Tensor, layout: RaggedLayout, k: int) -> Tensor:
    """The same from `torch_cluster`, whose edge list is brought to self first and (N, k)."""
    try:
        from torch_cluster import knn as cluster_knn
    except ImportError as error:
        raise MissingExtraError("backend='torch_cluster'", "torch-cluster", "ext") from error
    n = len(pos)
    if n == 0:
        return torch.empty(0, k, dtype=torch.long, device=pos.device)
    target, source = cluster_knn(pos, pos, k, layout.batch, layout.batch)
    others = source != target  # self may be absent where more than k particles coincide
    target, source = target[others], source[others]
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
