"""Kernel of :class:`~pcloud.nn.graph.edge_conv.EdgeBlock`: mean of an MLP over the neighbours.

A batch has k times more edges than particles, so most of the time and memory of a neighbour-graph
network is spent here. The plain formula writes and reads every edge tensor about ten times per
training step. This kernel processes the edges in chunks that fit into the cache, and stores only
the pre-activations of the second and later layers for the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.numerics.batch_norm import folded, moments_of, moments_of_all, track
from pcloud.nn.numerics.derivatives import first_derivative, through_relu
from pcloud.nn.numerics.precision import at_least_float32, product_dtype, without_autocast
from pcloud.nn.numerics.ranks import combined, is_spread, sum_over_ranks

__all__ = ["mean_messages"]

_MIN_DIVISOR = 1e-2  # dividing by a smaller scale of a normalisation would amplify rounding errors
_CHUNK_BYTES = 2**21  # of an edge tensor processed at a time on a CPU: a second-level cache
_NARROW_WIDTH = 64  # up to which chunks are twice as large: calls take a good part of their time


def mean_messages(
    center: Tensor,
    other: Tensor,
    neighbors: Tensor,
    linears: Sequence[nn.Linear],
    norms: Sequence[nn.BatchNorm1d],
) -> Tensor:
    """Mean over neighbours j of ``relu(norm(... relu(norm(center_i + other_j)) ...))``.

    In training, gradients are computed by a backward pass of its own. Without gradients, the
    normalisations are folded into the weights.

    Parameters
    ----------
    center, other : Tensor, shape (N, C)
        Terms of each particle in its own messages and in those of its neighbours.
    neighbors : Tensor, shape (N, k)
        Particle indices; `N` for a missing neighbour, which contributes zero.
    linears : sequence of nn.Linear
        Linear maps after the first normalisation, without bias.
    norms : sequence of nn.BatchNorm1d
        Batch normalisations over all N k edges, one more than `linears`, for which
        :func:`~pcloud.nn.numerics.batch_norm.same_mode` is true.

    Returns
    -------
    Tensor, shape (N, C')
    """
    if torch.is_grad_enabled():
        return _train(center, other, neighbors, linears, norms)
    return _infer(center, other, neighbors, linears, norms)


def _edge_chunks(particles: int, k: int, width: int, like: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of particles and of their edges; a single slice on an accelerator."""
    step = particles
    if like.device.type == "cpu":
        chunk = _CHUNK_BYTES * (2 if width <= _NARROW_WIDTH else 1)
        step = max(1, chunk // (k * width * like.element_size()))
    for start in range(0, particles, step):
        stop = min(start + step, particles)
        yield slice(start, stop), slice(start * k, stop * k)


@torch.no_grad()
def _infer(
    center: Tensor,
    other: Tensor,
    neighbors: Tensor,
    linears: Sequence[nn.Linear],
    norms: Sequence[nn.BatchNorm1d],
) -> Tensor:
    """Forward pass with running statistics, each normalisation folded into the map before it.

    The bias of a layer is not added to every edge: ``relu(z + b) = max(z, -b) + b``. The bias after
    the maximum is propagated through the next linear map, and added once to the mean at the end.
    """
    n, k = neighbors.shape
    dtype = product_dtype(center)
    scale, shift = folded(norms[0])
    center = (center * scale + shift).to(dtype)
    other = F.pad(other * scale, (0, 0, 0, 1)).to(dtype)
    bias = torch.zeros_like(shift)  # not yet added
    maps = []
    for linear, (scale, shift) in zip(linears, map(folded, norms[1:]), strict=True):
        weight = linear.weight.t() * scale
        bias = shift + bias @ weight
        maps.append((weight.to(dtype), -bias.to(dtype)))
    widths = [norm.num_features for norm in norms]
    out = bias.new_empty(n, widths[-1])
    chunks = list(_edge_chunks(n, k, max(widths), center))
    max_edges = max((edges.stop - edges.start for _, edges in chunks), default=0)
    # Layers alternate between two buffers: one for the input, one for the output.
    buffers = [center.new_empty(max_edges * max(widths)) for _ in range(2)]
    for particles, edges in chunks:
        size = edges.stop - edges.start
        z = [buffers[i % 2][: size * width].view(size, width) for i, width in enumerate(widths)]
        torch.index_select(other, 0, neighbors[particles].flatten(), out=z[0])
        z[0].view(-1, k, widths[0]).add_(center[particles].unsqueeze(1))
        z[0].relu_()
        for (weight, minimum), before, after in zip(maps, z, z[1:], strict=False):
            torch.maximum(torch.mm(before, weight, out=after), minimum, out=after)
        torch.sum(z[-1].view(-1, k, widths[-1]), 1, dtype=out.dtype, out=out[particles])
    return out.div_(k).add_(bias)


def _train(
    center: Tensor,
    other: Tensor,
    neighbors: Tensor,
    linears: Sequence[nn.Linear],
    norms: Sequence[nn.BatchNorm1d],
) -> Tensor:
    """Forward pass with batch statistics; updates the running ones."""
    parameters = [
        *(n.weight for n in norms),
        *(n.bias for n in norms),
        *(m.weight for m in linears),
    ]
    eps = tuple(norm.eps for norm in norms)
    with without_autocast(center):
        out, count, *statistics = _MeanMessages.apply(center, other, neighbors, eps, *parameters)
    for norm, mean, var in zip(norms, statistics[::2], statistics[1::2], strict=True):
        track(norm, mean, var, int(count))
    return out


@dataclass
class _Layers:
    """Pre-activations ``z`` of all edges for each layer, and the coefficients of the activations.

    ``z`` of layer 0 is ``center_i + other_j``, both normalised per particle beforehand. It is
    computed when it is needed and never stored. The hidden layer is
    ``relu(weight * (z - mean) * rstd + bias) = relu(gain z + shift)``.
    """

    center: Tensor  # (N, C)
    other: Tensor  # (N + 1, C), the last row for missing neighbours
    neighbors: Tensor  # (N, k)
    z: Sequence[Tensor]  # (N k, C) for the layers after the first
    gain: Sequence[Tensor]  # (C,) each
    shift: Sequence[Tensor]

    def pre_activation(self, layer: int, particles: slice, edges: slice) -> Tensor:
        if layer > 0:
            return self.z[layer - 1][edges]
        k = self.neighbors.shape[1]
        center = self.center[particles]
        z = self.other.index_select(0, self.source[edges])
        z.view(len(center), k, -1).add_(center.unsqueeze(1))
        return z

    @cached_property
    def source(self) -> Tensor:
        """Neighbour (N k,) of each edge."""
        return self.neighbors.flatten()

    def hidden(self, layer: int, z: Tensor) -> Tensor:
        h = torch.addcmul(self.shift[layer], z, self.gain[layer]).relu_()
        return h if h.dtype == z.dtype else h.to(z.dtype)

    def chunks(self) -> Iterator[tuple[slice, slice]]:
        width = max(len(gain) for gain in self.gain)
        n, k = self.neighbors.shape
        return _edge_chunks(n, k, width, self.center)


class _MeanMessages(torch.autograd.Function):
    """The training pass, with batch statistics.

    Let ``z`` be the input of a batch normalisation, ``dy`` the gradient of its output and ``h`` the
    hidden layer. The gradient of the input is ``dz = gain dy + p z + q``, where `p` and `q` follow
    from the sums of ``dy`` and ``dy h`` over all edges. Each pass over the edges accumulates the
    sum of ``dy`` for the next pass. The sum of ``dy h`` is the sum of ``weight * d_weight`` over
    the outputs of the next linear map.
    """

    @staticmethod
    def forward(
        ctx: Any,
        center: Tensor,
        other: Tensor,
        neighbors: Tensor,
        eps: tuple[float, ...],
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        depth = len(eps)
        scales, biases, weights = _split(parameters, depth)
        center, other, mean, var, count = _normalized(center, other, neighbors, eps[0])
        statistics = [mean, var]
        rstd0 = (var + eps[0]).rsqrt()
        z: list[Tensor] = []
        gain = [scales[0]]
        shift = [biases[0]]
        net = _Layers(center, other, neighbors, z, gain, shift)
        # Layer 0 is already scaled to mean 0 and standard deviation 1.
        means = [torch.zeros_like(mean)]
        rstds = [torch.ones_like(var)]

        for layer, weight in enumerate(weights, 1):
            edges, mean, var = _linear(net, layer - 1, weight)
            rstd = (var + eps[layer]).rsqrt()
            z.append(edges)
            gain.append(scales[layer] * rstd)
            shift.append(biases[layer] - gain[layer] * mean)
            means.append(mean)
            rstds.append(rstd)
            statistics += [mean, var]

        out = _mean_over_neighbors(net, depth - 1)
        ctx.save_for_backward(
            center, other, neighbors, rstd0, out, *parameters, *z, *gain, *shift, *means, *rstds
        )
        ctx.depth = depth
        ctx.count = count
        number = torch.tensor(count)
        ctx.mark_non_differentiable(number, *statistics)
        return (out, number, *statistics)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        depth = ctx.depth
        center, other, neighbors, rstd0, out, *rest = ctx.saved_tensors
        parameters, rest = rest[: 3 * depth - 1], rest[3 * depth - 1 :]
        z, rest = rest[: depth - 1], rest[depth - 1 :]
        gain, shift, means, rstds = (rest[i * depth : (i + 1) * depth] for i in range(4))
        scales, biases, weights = _split(parameters, depth)
        net = _Layers(center, other, neighbors, z, gain, shift)

        d_scales, d_biases, d_weights = [], [], []
        dy, d_bias = _mean_gradient(net, depth - 1, grad)
        dy_h = (grad * out).sum(0, dtype=d_bias.dtype)
        for layer in range(depth - 1, -1, -1):
            # h = gain (z - mean) + bias wherever dy is not zero.
            centred = dy_h - biases[layer] * d_bias  # sum of dy gain (z - mean)
            if _can_divide_by(scales[layer]):
                d_scale = centred / scales[layer]
            else:
                d_scale = (_moment(net, layer, dy) - means[layer] * d_bias) * rstds[layer]
                centred = scales[layer] * d_scale
            d_scales.append(d_scale)
            d_biases.append(d_bias)
            if is_spread():  # the statistics are those of the edges of all ranks
                centred, d_bias = sum_over_ranks(torch.stack([centred, d_bias]))
            p = -rstds[layer].square() * centred / ctx.count
            q = -gain[layer] * d_bias / ctx.count - p * means[layer]
            if layer > 0:
                dy, d_bias, d_weight = _linear_gradient(net, layer, weights, dy, p, q)
                dy_h = (weights[layer - 1] * d_weight).sum(0)
                d_weights.append(d_weight)
        d_center, d_other = _particle_gradients(net, dy, p, q)
        return (
            (d_center * rstd0).to(center),
            (d_other * rstd0).to(other),
            None,
            None,
            *(d.to(p) for d, p in zip(d_scales[::-1], scales, strict=True)),
            *(d.to(p) for d, p in zip(d_biases[::-1], biases, strict=True)),
            *(d.to(p) for d, p in zip(d_weights[::-1], weights, strict=True)),
        )


def _split(parameters: Sequence[Tensor], depth: int) -> tuple[Sequence[Tensor], ...]:
    """Scales and biases of the normalisations, and weights of the linear maps."""
    return parameters[:depth], parameters[depth : 2 * depth], parameters[2 * depth :]


def _normalized(
    center: Tensor, other: Tensor, neighbors: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Scale `center` and `other` so that ``center_i + other_j`` has mean 0 and deviation 1.

    Mean and variance over the edges follow from sums per particle. They are computed in float64:
    the two terms of a message nearly cancel where neighbours are similar.

    Returns
    -------
    center : Tensor, shape (N, C)
    other : Tensor, shape (N + 1, C)
        The last row is that of a missing neighbour.
    mean, var : Tensor, shape (C,)
        Statistics of the edges of all ranks.
    count : int
        Number of these edges.
    """
    n, k = neighbors.shape
    c = center.double()
    o = F.pad(other.double(), (0, 0, 0, 1))
    of_neighbors = F.embedding_bag(neighbors, o, mode="sum")  # (N, C)
    square = F.embedding_bag(neighbors, o.square(), mode="sum").sum(0)
    c_mean = c.mean(0)
    o_mean = of_neighbors.mean(0) / k
    c -= c_mean
    cross = (c * (of_neighbors - k * o_mean)).sum(0)
    var = (k * c.square().sum(0) + 2 * cross + square) / (n * k) - o_mean.square()
    own = c_mean + o_mean
    mean, var, count = combined(own, var, n * k)
    if mean is not own:
        c -= mean - own
    rstd = (var + eps).rsqrt()
    c = c * rstd
    o = (o - o_mean) * rstd
    exact = at_least_float32(center)
    return c.to(center), o.to(other), mean.to(exact), var.to(exact), count


def _linear(net: _Layers, layer: int, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Linear map of the hidden `layer`.

    Returns
    -------
    z : Tensor, shape (N k, C)
    mean, var : Tensor, shape (C,)
        Mean and variance of `z` over the edges of all ranks.
    """
    weight = weight.t().to(net.center.dtype)
    z = net.center.new_empty(net.neighbors.numel(), weight.shape[1])
    moments = []
    counts = []
    for particles, edges in net.chunks():
        part = z[edges]
        torch.mm(net.hidden(layer, net.pre_activation(layer, particles, edges)), weight, out=part)
        moments.append(moments_of(part))
        counts.append(len(part))
    mean, var = moments_of_all(moments, counts)
    mean, var, _ = combined(mean, var, len(z))
    return z, mean, var


def _mean_over_neighbors(net: _Layers, layer: int) -> Tensor:
    """Mean (N, C) of the hidden `layer` over the neighbours."""
    n, k = net.neighbors.shape
    out = net.center.new_empty(n, len(net.gain[layer]))
    for particles, edges in net.chunks():
        h = net.hidden(layer, net.pre_activation(layer, particles, edges))
        torch.sum(h.view(-1, k, h.shape[1]), 1, out=out[particles])
    return out.div_(k)


def _can_divide_by(scale: Tensor) -> bool:
    """True if `scale` (C,) is known to be far from 0; on an accelerator, looking would block."""
    return scale.device.type == "cpu" and bool((scale.abs() > _MIN_DIVISOR).all())


def _moment(net: _Layers, layer: int, dy: Tensor) -> Tensor:
    """Sum over edges of ``dy z``."""
    total = torch.zeros_like(net.gain[layer])
    for particles, edges in net.chunks():
        total += (dy[edges] * net.pre_activation(layer, particles, edges)).sum(0)
    return total


def _mean_gradient(net: _Layers, layer: int, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient ``dy`` of the output of the last normalisation, and its sum over edges."""
    k = net.neighbors.shape[1]
    dy = grad.new_empty(net.neighbors.numel(), grad.shape[1])
    dtype = at_least_float32(grad)
    totals = []
    grad = (grad / k).unsqueeze(1)
    for particles, edges in net.chunks():
        d = dy[edges]
        h = net.hidden(layer, net.pre_activation(layer, particles, edges))
        shape = (-1, k, d.shape[1])
        through_relu(grad[particles].expand(shape), h.view(shape), d.view(shape))
        totals.append(d.sum(0, dtype=dtype))
    return dy, _sum_of(totals)


def _sum_of(parts: Sequence[Tensor]) -> Tensor:
    """Sum (C,) of the sums of all chunks."""
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).sum(0)


def _linear_gradient(
    net: _Layers, layer: int, weights: Sequence[Tensor], dy: Tensor, p: Tensor, q: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the linear map into `layer`, from `dy` of this layer.

    `dy` is overwritten where the widths of the two layers are equal.

    Returns
    -------
    dy : Tensor, shape (N k, C)
        Gradient of the output of the normalisation one layer before.
    total : Tensor, shape (C,)
        Its sum over edges.
    d_weight : Tensor, shape (C', C)
    """
    weight = weights[layer - 1].to(dy.dtype)
    d_weight = torch.zeros_like(weight)
    before = dy if weight.shape[0] == weight.shape[1] else dy.new_empty(len(dy), weight.shape[1])
    gain = net.gain[layer]
    totals = []
    for particles, edges in net.chunks():
        dz = torch.addcmul(q, net.pre_activation(layer, particles, edges), p)
        dz = dz.addcmul_(dy[edges], gain)
        dz = dz if dz.dtype == dy.dtype else dz.to(dy.dtype)
        h = net.hidden(layer - 1, net.pre_activation(layer - 1, particles, edges))
        d_weight.addmm_(dz.t(), h)
        d = before[edges]
        through_relu(torch.mm(dz, weight, out=d), h, d)
        totals.append(d.sum(0, dtype=gain.dtype))
    return before, _sum_of(totals), d_weight


def _particle_gradients(net: _Layers, dy: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `center` and `other`: sums of ``gain dy + p z + q`` over the edges of each."""
    n, k = net.neighbors.shape
    source, edge = net.neighbors.flatten().sort()  # edges in order of their source
    start = torch.searchsorted(source, torch.arange(n + 2, device=source.device))
    first = start[:-1]
    count = start.diff().unsqueeze(1)
    of_neighbors = F.embedding_bag(net.neighbors, net.other, mode="sum")
    of_centers = F.embedding_bag(edge // k, net.center, first, mode="sum")
    incoming = F.embedding_bag(edge, dy, first, mode="sum")
    outgoing = dy.view(n, k, -1).sum(1)
    gain = net.gain[0]
    d_center = gain * outgoing + p * (k * net.center + of_neighbors) + q * k
    d_other = gain * incoming + p * (count * net.other + of_centers) + q * count
    return d_center, d_other[:n]
