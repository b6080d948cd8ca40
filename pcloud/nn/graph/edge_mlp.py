"""The message MLP of EdgeConv: mean over neighbours of a normalised MLP on every edge.

A batch has k times more edges than particles, so this is where the time and the memory of a
neighbour-graph network go. Written layer by layer, every edge tensor is written to memory and read
again some ten times in a training step; here edges are worked on in chunks that stay in the cache,
and only the pre-activations of all but the first layer are kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.layout import take_rows
from pcloud.nn.numerics.batch_norm import folded, track
from pcloud.nn.numerics.derivatives import first_derivative, kernel_allowed, through_relu
from pcloud.nn.numerics.precision import at_least_float32, product_dtype, without_autocast

__all__ = ["gather_neighbors", "mean_messages"]

_DIVISOR = 1e-2  # a smaller factor of a normalisation would magnify rounding
_CHUNK = 2**21  # bytes of an edge tensor worked on at a time on a CPU: second-level caches


def gather_neighbors(x: Tensor, neighbors: Tensor) -> Tensor:
    """Rows of ``x (N, F)`` at ``neighbors (N, k)``, shape (N, k, F); zeros where one is missing."""
    return take_rows(F.pad(x, (0, 0, 0, 1)), neighbors)


def mean_messages(
    center: Tensor,
    other: Tensor,
    neighbors: Tensor,
    linears: Sequence[nn.Linear],
    norms: Sequence[nn.BatchNorm1d],
) -> Tensor:
    """Mean over neighbours j of ``relu(norm(... relu(norm(center_i + other_j)) ...))``.

    There are two fast passes, both in chunks: one for training, with its own backward pass, and one
    for scoring without gradients, with the normalisations folded into the weights. Everything else
    is computed by the plain formula.

    Parameters
    ----------
    center, other : Tensor, shape (N, C)
        What a particle contributes to its own messages and to those of its neighbours.
    neighbors : Tensor, shape (N, k)
        Particle indices; `N` for a missing neighbour, which contributes zero.
    linears : sequence of nn.Linear
        The maps after the first normalisation, without bias.
    norms : sequence of nn.BatchNorm1d
        One more than `linears`; statistics run over all N k edges.

    Returns
    -------
    Tensor, shape (N, C')
    """
    modes = {norm.training for norm in norms}  # both, where some are frozen
    training = True in modes
    if not kernel_allowed(center, other, neighbors):
        return _plain(center, other, neighbors, linears, norms)
    if modes == {True} and torch.is_grad_enabled():
        return _train(center, other, neighbors, linears, norms)
    if training or torch.is_grad_enabled():
        return _plain(center, other, neighbors, linears, norms)
    return _infer(center, other, neighbors, linears, norms)


def _plain(
    center: Tensor,
    other: Tensor,
    neighbors: Tensor,
    linears: Sequence[nn.Linear],
    norms: Sequence[nn.BatchNorm1d],
) -> Tensor:
    n, k = neighbors.shape
    edges = center.unsqueeze(1) + gather_neighbors(other, neighbors)  # (N, k, C)
    edges = F.relu(norms[0](edges.flatten(0, 1)))
    for linear, norm in zip(linears, norms[1:], strict=True):
        edges = F.relu(norm(linear(edges)))
    return edges.view(n, k, -1).mean(1)


def _chunks(particles: int, k: int, width: int, like: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of particles and of their edges; one slice for all on an accelerator."""
    step = particles
    if like.device.type == "cpu":
        step = max(1, _CHUNK // (k * width * like.element_size()))
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
    """With running statistics, each normalisation folded into the map before it.

    What it adds to a layer need not be added to every edge: ``relu(z + b) = max(z, -b) + b``, and
    the ``b`` behind goes through the next map, and in the end into the sum.
    """
    (n, k), dtype = neighbors.shape, product_dtype(center)
    scale, shift = folded(norms[0])
    center = (center * scale + shift).to(dtype)
    other = F.pad(other * scale, (0, 0, 0, 1)).to(dtype)
    maps, left = [], torch.zeros_like(shift)  # what has been left out
    for linear, (scale, shift) in zip(linears, map(folded, norms[1:]), strict=True):
        weight = linear.weight.t() * scale
        left = shift + left @ weight
        maps.append((weight.to(dtype), -left.to(dtype)))
    widths = [norm.num_features for norm in norms]
    out = left.new_empty(n, widths[-1])
    chunks = list(_chunks(n, k, max(widths), center))
    most = max((edges.stop - edges.start for _, edges in chunks), default=0)
    memory = [center.new_empty(most * max(widths)) for _ in range(2)]  # of a layer and the next
    for particles, edges in chunks:
        size = edges.stop - edges.start
        z = [memory[i % 2][: size * width].view(size, width) for i, width in enumerate(widths)]
        torch.index_select(other, 0, neighbors[particles].flatten(), out=z[0])
        z[0].view(-1, k, widths[0]).add_(center[particles].unsqueeze(1))
        z[0].relu_()
        for (weight, least), below, here in zip(maps, z, z[1:], strict=False):
            torch.maximum(torch.mm(below, weight, out=here), least, out=here)
        torch.sum(z[-1].view(-1, k, widths[-1]), 1, dtype=out.dtype, out=out[particles])
    return out.div_(k).add_(left)


def _train(
    center: Tensor,
    other: Tensor,
    neighbors: Tensor,
    linears: Sequence[nn.Linear],
    norms: Sequence[nn.BatchNorm1d],
) -> Tensor:
    parameters = [
        *(n.weight for n in norms),
        *(n.bias for n in norms),
        *(m.weight for m in linears),
    ]
    eps = tuple(norm.eps for norm in norms)
    with without_autocast(center):
        out, *statistics = _MeanMessages.apply(center, other, neighbors, eps, *parameters)
    for norm, mean, var in zip(norms, statistics[::2], statistics[1::2], strict=True):
        track(norm, mean, var, neighbors.numel())
    return out


@dataclass
class _Layers:
    """Pre-activations ``z`` of all edges, layer by layer, and what turns them into activations.

    Of layer 0 ``z`` is ``center_i + other_j``, both normalised per particle beforehand, and never
    stored. The hidden layer is ``relu(weight * (z - mean) * rstd + bias) = relu(gain z + shift)``.
    """

    center: Tensor  # (N, C)
    other: Tensor  # (N + 1, C), the last row for missing neighbours
    neighbors: Tensor  # (N, k)
    z: Sequence[Tensor]  # (N k, C) for the layers after the first
    gain: Sequence[Tensor]  # (C,) each
    shift: Sequence[Tensor]

    def pre(self, layer: int, particles: slice, edges: slice) -> Tensor:
        if layer > 0:
            return self.z[layer - 1][edges]
        z = take_rows(self.other, self.neighbors[particles])
        return z.add_(self.center[particles].unsqueeze(1)).flatten(0, 1)

    def hidden(self, layer: int, z: Tensor) -> Tensor:
        return torch.addcmul(self.shift[layer], z, self.gain[layer]).relu_().to(z.dtype)

    def chunks(self) -> Iterator[tuple[slice, slice]]:
        width = max(len(gain) for gain in self.gain)
        n, k = self.neighbors.shape
        return _chunks(n, k, width, self.center)


class _MeanMessages(torch.autograd.Function):
    """The training pass, with batch statistics.

    The gradient before a batch normalisation is an affine function of the gradient ``dy`` behind
    it and of ``z``, ``dz = gain dy + p z + q``, where `p` and `q` follow from the sums of ``dy``
    and of ``dy h`` over all edges, with the hidden layer ``h``. Each pass over the edges collects
    the first for the next one; the second is, per channel, the sum of ``weight * d_weight``.
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
        center, other, mean, var = _normalized(center, other, neighbors, eps[0])
        statistics, rstd0 = [mean, var], (var + eps[0]).rsqrt()
        net = _Layers(center, other, neighbors, z := [], gain := [scales[0]], shift := [biases[0]])
        # layer 0 is in units in which its mean is 0 and its deviation 1
        means, rstds = [torch.zeros_like(mean)], [torch.ones_like(var)]

        for layer, weight in enumerate(weights, 1):
            edges, offset, mean, var = _linear(net, layer - 1, weight)
            rstd = (var + eps[layer]).rsqrt()
            z.append(edges)
            gain.append(scales[layer] * rstd)
            shift.append(biases[layer] - gain[layer] * mean)
            means.append(mean)
            rstds.append(rstd)
            statistics += [mean + offset, var]

        out = _mean_over_neighbors(net, depth - 1)
        ctx.save_for_backward(
            center, other, neighbors, rstd0, out, *parameters, *z, *gain, *shift, *means, *rstds
        )
        ctx.depth = depth
        ctx.mark_non_differentiable(*statistics)
        return (out, *statistics)

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
        dy, total = _through_mean(net, depth - 1, grad)
        along = (grad * out).sum(0, dtype=total.dtype)
        for layer in range(depth - 1, -1, -1):
            # A hidden layer is h = gain (z - mean) + bias wherever dy is not zero.
            d_bias, centred = total, along - biases[layer] * total  # sum of dy gain (z - mean)
            if _divides(scales[layer]):
                d_scale = centred / scales[layer]
            else:
                d_scale = (_moment(net, layer, dy) - means[layer] * total) * rstds[layer]
                centred = scales[layer] * d_scale
            p = -rstds[layer].square() * centred / neighbors.numel()
            q = -gain[layer] * d_bias / neighbors.numel() - p * means[layer]
            if layer > 0:
                dy, total, d_weight = _through_linear(net, layer, weights, dy, p, q)
                along = (weights[layer - 1] * d_weight).sum(0)
                d_weights.append(d_weight)
            d_scales.append(d_scale)
            d_biases.append(d_bias)
        d_center, d_other = _to_particles(net, dy, p, q)
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
    """Scales and biases of the normalisations, weights of the linear maps."""
    return parameters[:depth], parameters[depth : 2 * depth], parameters[2 * depth :]


def _normalized(center: Tensor, other: Tensor, neighbors: Tensor, eps: float) -> tuple[Tensor, ...]:
    """`center` and `other` such that their sums over edges have mean 0 and deviation 1.

    Mean and variance of the edges follow from sums per particle. In float64: the two parts of a
    message largely cancel where neighbours are alike.
    """
    n, k = neighbors.shape
    c, o = center.double(), F.pad(other.double(), (0, 0, 0, 1))
    of_neighbors = F.embedding_bag(neighbors, o, mode="sum")  # (N, C)
    square = F.embedding_bag(neighbors, o.square(), mode="sum").sum(0)
    c_mean, o_mean = c.mean(0), of_neighbors.mean(0) / k
    c -= c_mean
    cross = (c * (of_neighbors - k * o_mean)).sum(0)
    var = (k * c.square().sum(0) + 2 * cross + square) / (n * k) - o_mean.square()
    rstd = (var + eps).rsqrt()
    c, o = c * rstd, (o - o_mean) * rstd
    statistics = (c_mean + o_mean, var)
    return c.to(center), o.to(other), *(s.to(at_least_float32(center)) for s in statistics)


def _linear(net: _Layers, layer: int, weight: Tensor) -> tuple[Tensor, ...]:
    """The hidden `layer` times `weight`, less an offset, with mean and variance of the rest.

    The offset, an estimate of the mean, keeps the digits of the variance; the normalisation does
    not see it.
    """
    weight = weight.t().to(net.center.dtype)
    z = net.center.new_empty(net.neighbors.numel(), weight.shape[1])
    total = torch.zeros(z.shape[1], dtype=at_least_float32(z), device=z.device)
    square, offset = torch.zeros_like(total), torch.empty(0)
    for particles, edges in net.chunks():
        h = net.hidden(layer, net.pre(layer, particles, edges))
        if edges.start == 0:
            offset = h.mean(0) @ weight
        torch.addmm(-offset, h, weight, out=z[edges])
        total += z[edges].sum(0)
        square += z[edges].square().sum(0)
    mean = total / len(z)
    return z, offset, mean, square / len(z) - mean.square()


def _mean_over_neighbors(net: _Layers, layer: int) -> Tensor:
    n, k = net.neighbors.shape
    out = net.center.new_empty(n, len(net.gain[layer]))
    for particles, edges in net.chunks():
        h = net.hidden(layer, net.pre(layer, particles, edges))
        out[particles] = h.view(-1, k, h.shape[1]).mean(1)
    return out


def _divides(scale: Tensor) -> bool:
    """Whether one may divide by a `scale` (C,); not on an accelerator, which would have to wait."""
    return scale.device.type == "cpu" and bool((scale.abs() > _DIVISOR).all())


def _moment(net: _Layers, layer: int, dy: Tensor) -> Tensor:
    """Sum over edges of ``dy z``."""
    total = torch.zeros_like(net.gain[layer])
    for particles, edges in net.chunks():
        total += (dy[edges] * net.pre(layer, particles, edges)).sum(0)
    return total


def _through_mean(net: _Layers, layer: int, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient ``dy`` behind the last normalisation, with its sum over edges."""
    k = net.neighbors.shape[1]
    dy = grad.new_empty(net.neighbors.numel(), grad.shape[1])
    total = torch.zeros_like(net.gain[layer])
    grad = (grad / k).unsqueeze(1)
    for particles, edges in net.chunks():
        d = dy[edges].view(-1, k, dy.shape[1])
        h = net.hidden(layer, net.pre(layer, particles, edges)).view_as(d)
        through_relu(grad[particles].expand_as(d), h, d)
        total += dy[edges].sum(0)
    return dy, total


def _through_linear(
    net: _Layers, layer: int, weights: Sequence[Tensor], dy: Tensor, p: Tensor, q: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """From `dy` of `layer` to that of the layer before, its sum, and the gradient of the map."""
    weight = weights[layer - 1].to(dy.dtype)
    d_weight = torch.zeros_like(weight)
    below = dy if weight.shape[0] == weight.shape[1] else dy.new_empty(len(dy), weight.shape[1])
    total = torch.zeros_like(net.gain[layer - 1])
    for particles, edges in net.chunks():
        dz = torch.addcmul(q, net.pre(layer, particles, edges), p)
        dz = dz.addcmul_(dy[edges], net.gain[layer]).to(dy.dtype)
        h = net.hidden(layer - 1, net.pre(layer - 1, particles, edges))
        d_weight.addmm_(dz.t(), h)
        d = below[edges]
        through_relu(torch.mm(dz, weight, out=d), h, d)
        total += d.sum(0)
    return below, total, d_weight


def _to_particles(net: _Layers, dy: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `center` and `other`: sums of ``gain dy + p z + q`` over edges out and in."""
    n, k = net.neighbors.shape
    target, edge = net.neighbors.flatten().sort()  # edges in order of the particle they come from
    start = torch.searchsorted(target, torch.arange(n + 2, device=target.device))
    first, count = start[:-1], start.diff().unsqueeze(1)
    of_neighbors = F.embedding_bag(net.neighbors, net.other, mode="sum")
    of_centers = F.embedding_bag(edge // k, net.center, first, mode="sum")
    incoming = F.embedding_bag(edge, dy, first, mode="sum")
    outgoing = dy.view(n, k, -1).sum(1)
    gain = net.gain[0]
    d_center = gain * outgoing + p * (k * net.center + of_neighbors) + q * k
    d_other = gain * incoming + p * (count * net.other + of_centers) + q * count
    return d_center, d_other[:n]
