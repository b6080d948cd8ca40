"""An MLP with batch normalisation on very many rows, such as the pairs of particles.

Written layer by layer, every tensor of rows is written to memory and read again some ten times in
a training step; here rows are worked on in chunks that stay in the cache, and only the
pre-activations of all but the first layer are kept for the backward pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.numerics.batch_norm import folded, track
from pcloud.nn.numerics.chunks import chunks
from pcloud.nn.numerics.derivatives import first_derivative, kernel_allowed
from pcloud.nn.numerics.precision import product_dtype, without_autocast

__all__ = ["NormedMLP"]


class NormedMLP(nn.Module):
    """Batch normalisation of the inputs, then linear map, normalisation and GELU for each layer.

    There are two fast passes, both in chunks: one for training, with its own backward pass, and one
    for scoring without gradients, with the normalisations folded into the maps. Everything else is
    computed by the plain formula, also where the inputs require a gradient.

    Parameters
    ----------
    channels : sequence of int
        Width of the inputs and of each layer.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm1d(c) for c in channels)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (M, C) from rows ``x (M, F)``."""
        layers = [*self.linears], [*self.norms]
        if not kernel_allowed(x) or x.requires_grad or len(x) < 2:
            return _plain(x, *layers)
        modes = {norm.training for norm in self.norms}  # both, where some are frozen
        if modes == {True} and torch.is_grad_enabled():
            return _train(x, *layers)
        if True in modes or torch.is_grad_enabled():
            return _plain(x, *layers)
        return _infer(x, *layers)


def _plain(x: Tensor, linears: Sequence[nn.Linear], norms: Sequence[nn.BatchNorm1d]) -> Tensor:
    x = norms[0](x)
    for linear, norm in zip(linears, norms[1:], strict=True):
        x = F.gelu(norm(linear(x)))
    return x


def _infer(x: Tensor, linears: Sequence[nn.Linear], norms: Sequence[nn.BatchNorm1d]) -> Tensor:
    dtype = product_dtype(x)
    scale, shift = folded(norms[0])
    x, maps = (x * scale + shift).to(dtype), []
    for linear, norm in zip(linears, norms[1:], strict=True):
        scale, shift = folded(norm)
        bias = linear.bias * scale + shift
        maps.append(((linear.weight.t() * scale).to(dtype), bias.to(dtype)))
    out = x.new_empty(len(x), norms[-1].num_features)
    width = max(norm.num_features for norm in norms)
    for rows in chunks(len(x), width * x.element_size(), x.device):
        h = x[rows]
        for weight, bias in maps:
            h = torch.ops.aten.gelu_(torch.addmm(bias, h, weight))
        out[rows] = h
    return out


def _train(x: Tensor, linears: Sequence[nn.Linear], norms: Sequence[nn.BatchNorm1d]) -> Tensor:
    parameters = [
        *(norm.weight for norm in norms),
        *(norm.bias for norm in norms),
        *(linear.weight for linear in linears),
        *(linear.bias for linear in linears),
    ]
    eps, dtype = tuple(norm.eps for norm in norms), product_dtype(x)
    with without_autocast(x):
        out, *statistics = _NormedMLP.apply(x, dtype, eps, *parameters)
    for norm, mean, var in zip(norms, statistics[::2], statistics[1::2], strict=True):
        track(norm, mean, var, len(x))
    return out


@dataclass
class _Layers:
    """Pre-activations ``z`` of all rows, layer by layer, and what turns them into activations.

    Layer 0 is the inputs, brought to mean 0 and deviation 1, without activation function. Layer 1
    is cheaper to compute again than to store; the others are stored. All are held less an
    `offset`, an estimate of their mean, which keeps the digits of their variance.
    """

    x: Tensor  # (M, F)
    weights: list[Tensor]
    offset: list[Tensor]  # (C,) of the layers from the first
    stored: list[Tensor]  # (M, C) of the layers from the second
    gain: list[Tensor]  # (C,) of all layers, as below
    shift: list[Tensor]
    mean: list[Tensor]
    rstd: list[Tensor]

    @property
    def depth(self) -> int:
        return len(self.weights)

    def tensors(self) -> list[Tensor]:
        rest = (self.weights, self.offset, self.stored)
        norms = (self.gain, self.shift, self.mean, self.rstd)
        return [self.x, *itertools.chain(*rest, *norms)]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> _Layers:
        x, *rest = tensors
        depth = (len(rest) - 3) // 7
        sizes = [depth, depth, depth - 1] + 4 * [depth + 1]
        left = iter(rest)
        return cls(x, *(list(itertools.islice(left, size)) for size in sizes))

    def chunks(self) -> Iterator[slice]:
        width = max(len(weight) for weight in self.weights)
        return chunks(len(self.x), width * self.x.element_size(), self.x.device)

    def pre(self, layer: int, rows: slice) -> Tensor:
        if layer == 0:
            return self.x[rows]
        return self.linear(1, rows, self.offset[0]) if layer == 1 else self.stored[layer - 2][rows]

    def normed(self, layer: int, z: Tensor) -> Tensor:
        return torch.addcmul(self.shift[layer], z, self.gain[layer])

    def active(self, layer: int, y: Tensor) -> Tensor:
        return (F.gelu(y) if layer else y).to(self.x.dtype)

    def linear(self, layer: int, rows: slice, offset: Tensor, out: Tensor | None = None) -> Tensor:
        h = self.active(layer - 1, self.normed(layer - 1, self.pre(layer - 1, rows)))
        return torch.addmm(-offset.to(h.dtype), h, self.weights[layer - 1].t(), out=out)


class _NormedMLP(torch.autograd.Function):
    """The training pass, with batch statistics.

    The gradient before a batch normalisation is an affine function of the gradient ``dy`` behind
    it and of ``z``, ``dz = gain dy + p z + q``, where `p` and `q` follow from the sums of ``dy``
    and of ``dy z`` over all rows: each pass over the rows collects those that the next one needs.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dtype: torch.dtype, eps: tuple[float, ...], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        scales, shifts, weights, biases = _split(parameters)
        var, mean = torch.var_mean(x, 0, correction=0)
        statistics = [mean, var]
        x = ((x - mean) * (var + eps[0]).rsqrt()).to(dtype)
        unit = [torch.zeros_like(mean)], [torch.ones_like(var)]
        net = _Layers(x, [w.to(dtype) for w in weights], [], [], [scales[0]], [shifts[0]], *unit)
        for layer in range(1, net.depth + 1):
            mean, var = _add_layer(net, layer)
            net.mean.append(mean)
            net.rstd.append((var + eps[layer]).rsqrt())
            net.gain.append(scales[layer] * net.rstd[layer])
            net.shift.append(shifts[layer] - net.gain[layer] * mean)
            statistics += [mean + net.offset[-1] + biases[layer - 1], var]
        out = x.new_empty(len(x), len(mean))
        for rows in net.chunks():
            out[rows] = net.active(net.depth, net.normed(net.depth, net.pre(net.depth, rows)))
        ctx.save_for_backward(*net.tensors())
        ctx.mark_non_differentiable(*statistics)
        return (out, *statistics)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        net = _Layers.of(ctx.saved_tensors)
        gradients: tuple[list[Tensor], ...] = ([], [], [], [])  # as in _split, from last to first
        dy, total, moment = _through_activation(net, grad)
        for layer in range(net.depth, -1, -1):
            d_scale, d_shift = (moment - net.mean[layer] * total) * net.rstd[layer], total
            gradients[0].append(d_scale)
            gradients[1].append(d_shift)
            if layer > 0:
                p = -net.gain[layer] * net.rstd[layer] * d_scale / len(grad)
                q = -net.gain[layer] * d_shift / len(grad) - p * net.mean[layer]
                dy, total, moment, d_weight, d_bias = _through_linear(net, layer, dy, p, q)
                gradients[2].append(d_weight)
                gradients[3].append(d_bias)
        return None, None, None, *itertools.chain(*(kind[::-1] for kind in gradients))


def _split(parameters: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """Scales and shifts of the normalisations, weights and biases of the linear maps."""
    norms = (len(parameters) + 2) // 4
    cuts = [0, norms, 2 * norms, 3 * norms - 1, len(parameters)]
    return [parameters[a:b] for a, b in itertools.pairwise(cuts)]


def _add_layer(net: _Layers, layer: int) -> tuple[Tensor, Tensor]:
    """Pass the rows on to `layer`; mean and variance of its pre-activations."""
    width = len(net.weights[layer - 1])
    total = net.gain[0].new_zeros(width)
    square = torch.zeros_like(total)
    z = net.x.new_empty(len(net.x), width) if layer > 1 else None
    for i, rows in enumerate(net.chunks()):
        if i == 0:
            net.offset.append(net.linear(layer, rows, total).mean(0, dtype=total.dtype))
        part = net.linear(layer, rows, net.offset[layer - 1], None if z is None else z[rows])
        total += part.sum(0)
        square += part.square().sum(0)
    net.stored += [] if z is None else [z]
    mean = total / len(net.x)
    return mean, square / len(net.x) - mean.square()


def _through_activation(net: _Layers, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient behind the last normalisation, with its sums over rows of ``dy`` and ``dy z``."""
    dy = torch.empty_like(grad)
    total = torch.zeros_like(net.gain[-1])
    moment = torch.zeros_like(total)
    for rows in net.chunks():
        z = net.pre(net.depth, rows)
        y = net.normed(net.depth, z)
        d = torch.ops.aten.gelu_backward(grad[rows].to(y), y)
        total += d.sum(0)
        moment += (d * z).sum(0)
        dy[rows] = d
    return dy, total, moment


def _through_linear(
    net: _Layers, layer: int, dy: Tensor, p: Tensor, q: Tensor
) -> tuple[Tensor, ...]:
    """From `dy` of `layer` to that of the layer before, with the gradients of the map between."""
    weight = net.weights[layer - 1]
    d_weight, d_bias = torch.zeros_like(weight, dtype=p.dtype), torch.zeros_like(p)
    total = torch.zeros_like(net.gain[layer - 1])
    moment = torch.zeros_like(total)
    same_width = weight.shape[0] == weight.shape[1]
    below = dy if same_width else dy.new_empty(len(dy), weight.shape[1])
    for rows in net.chunks():
        dz = torch.addcmul(q, net.pre(layer, rows), p).addcmul_(dy[rows], net.gain[layer])
        z = net.pre(layer - 1, rows)
        y = net.normed(layer - 1, z)
        d_bias += dz.sum(0)
        dz = dz.to(weight.dtype)
        d_weight += dz.t() @ net.active(layer - 1, y)
        d = (dz @ weight).to(y)
        if layer > 1:
            d = torch.ops.aten.gelu_backward.grad_input(d, y, grad_input=below[rows])
        total += d.sum(0)
        moment += (d * z).sum(0)
    return below, total, moment, d_weight, d_bias
