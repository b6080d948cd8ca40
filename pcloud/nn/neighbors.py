"""Search for the nearest neighbours of each particle in its own jet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.errors import MissingExtraError, UnknownNameError
from pcloud.nn.layout import DenseBlock, RaggedLayout

__all__ = ["knn", "knn_graph"]

_PAIRS = 2**24  # distances held at a time for one very long jet: 64 MiB of float32
_LONG = 2000  # points from which a k-d tree is ten times faster than all pairs, in two dimensions
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
    return layout.flatten([_nearest_in_block(pos, block, k) for block in layout.blocks])


def _nearest_in_block(pos: Tensor, block: DenseBlock, k: int) -> Tensor:
    x = block.gather(pos)  # (b, P, D)
    (b, size, _), missing = x.shape, pos.shape[0]
    if _suits_tree(x):
        points = zip(
            x.unbind(), block.mask.sum(1).tolist(), block.index[:, 0].tolist(), strict=True
        )
        trees = [_nearest_in_tree(cloud[:n], k, first, missing) for cloud, n, first in points]
        return torch.stack([F.pad(t, (0, 0, 0, size - len(t))) for t in trees])
    most = k if k <= size else size  # `min` and `len` would fix the size of an exported network
    if b * size * size <= _PAIRS:
        slots = _nearest_slots(x, block, 0, size, most)  # (b, P, k)
    else:
        rows = max(1, _PAIRS // (b * size))
        parts = [_nearest_slots(x, block, i, rows, most) for i in range(0, size, rows)]
        slots = torch.cat(parts, 1)
    index = block.index.unsqueeze(1).expand(b, size, size).gather(2, slots.clamp(max=size - 1))
    index = torch.where(slots < size, index, missing)
    return index if k <= size else F.pad(index, (0, k - size), value=missing)


def _nearest_slots(x: Tensor, block: DenseBlock, start: int, rows: int, k: int) -> Tensor:
    """Slots of the `k` nearest to each of some `rows` of a block, self first; P where there is none."""
    size = x.shape[1]
    query = x[:, start : start + rows]
    distance = _comparable_distances(query, x).abs_()  # (b, R, P); rounding leaves signs
    if not block.full:
        distance.masked_fill_(~block.mask.unsqueeze(1), torch.inf)
    itself = torch.arange(start, start + query.shape[1], device=x.device)
    # Self first even when others coincide with it, and even when its position is not finite.
    distance.scatter_(2, itself.view(1, -1, 1).expand(x.shape[0], -1, 1), -torch.inf)
    nearest = _least_keys if _suits_keys(distance) else _topk
    distance, slots = nearest(distance, k)
    return slots if block.full else torch.where(distance < torch.inf, slots, size)


def _suits_keys(distance: Tensor) -> bool:
    """Whether numpy may sort, which takes vector instructions and half the time of `topk`."""
    return (
        not torch.compiler.is_compiling()  # first: what follows cannot be compiled
        and not torch.onnx.is_in_onnx_export()
        and distance.device.type == "cpu"
        and distance.dtype == torch.float32
        and type(distance) is Tensor
        and not torch._C._functorch.is_functorch_wrapped_tensor(distance)
    )


def _topk(distance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` smallest of each row, and their slots."""
    return distance.topk(k, dim=-1, largest=False)


def _least_keys(distance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same; what is equally far comes in the order of its slots, beside whichever jets it is.

    A key is the bits of a distance, which as whole numbers have the order of the distances (-inf is
    the only negative one), before those of its slot.
    """
    keys = distance.contiguous().view(torch.int32).long().bitwise_left_shift_(32)
    keys.bitwise_or_(torch.arange(distance.shape[-1]))
    array = keys.numpy()
    array.partition(k - 1, axis=-1)
    found = torch.from_numpy(np.sort(array[..., :k], axis=-1))
    return (found >> 32).int().view(torch.float32), found & 0xFFFFFFFF


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


def _suits_tree(x: Tensor) -> bool:
    """Whether to search ``x (b, P, D)`` by trees, which know no infinite positions."""
    _, size, dimensions = x.shape
    return (
        size >= _LONG
        and dimensions <= _FEW
        and x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.onnx.is_in_onnx_export()
        and bool(x.isfinite().all())
    )


def _nearest_in_tree(cloud: Tensor, k: int, first: int, missing: int) -> Tensor:
    """Self, then the nearest others of ``cloud (P, D)``, whose points are `first` and following."""
    from scipy.spatial import KDTree

    n = len(cloud)
    _, found = KDTree(cloud.numpy()).query(cloud.numpy(), k=range(1, k + 1))  # n where none is left
    slots, itself = torch.from_numpy(found), torch.arange(n).unsqueeze(1)
    # Self first. It may be absent, where more than k points coincide: then the farthest gives way.
    rank = torch.where(slots == itself, -1, torch.arange(k))
    rank[:, -1] = torch.where((rank < 0).any(1), rank[:, -1], -1)
    slots = slots.gather(1, rank.argsort(dim=1, stable=True))
    slots[:, :1] = itself
    return torch.where(slots < n, slots + first, missing)


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
