"""Kernel of :class:`~pcloud.nn.attention.pair_mlp.NormedMLP`.

The plain formula writes and reads every tensor of rows about ten times per training step. The
kernel processes the rows in chunks that fit into the cache, and stores only the pre-activations of
the second and later layers for the backward pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.numerics.batch_norm import folded, moments_of, moments_of_all, track
from pcloud.nn.numerics.chunks import chunks
from pcloud.nn.numerics.derivatives import first_derivative
from pcloud.nn.numerics.precision import product_dtype, without_autocast
from pcloud.nn.numerics.ranks import combined, is_spread, sum_over_ranks

__all__ = ["normed_mlp"]


def normed_mlp(x: Tensor, linears: Sequence[nn.Linear], norms: Sequence[nn.BatchNorm1d]) -> Tensor:
    """Rows (M, C) of :class:`~pcloud.nn.attention.pair_mlp.NormedMLP` from rows ``x (M, F)``.

    In training, gradients of the parameters are computed by a backward pass of its own. Without
    gradients, the normalisations are folded into the linear maps.

    Parameters
    ----------
    x : Tensor, shape (M, F)
        Rows, which do not require a gradient.
    linears : sequence of nn.Linear
        Linear maps.
    norms : sequence of nn.BatchNorm1d
        Batch normalisations, one more than `linears`, for which
        :func:`~pcloud.nn.numerics.batch_norm.same_mode` is true.
    """
    if torch.is_grad_enabled():
        return _train(x, linears, norms)
    return _infer(x, linears, norms)


def _infer(x: Tensor, linears: Sequence[nn.Linear], norms: Sequence[nn.BatchNorm1d]) -> Tensor:
    """Forward pass with running statistics, each normalisation folded into the map before it."""
    dtype = product_dtype(x)
    scale, shift = folded(norms[0])
    x = (x * scale + shift).to(dtype)
    maps = []
    for linear, norm in zip(linears, norms[1:], strict=True):
        scale, shift = folded(norm)
        bias = _bias(linear) * scale + shift
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
    """Forward pass with batch statistics; updates the running ones."""
    parameters = [
        *(norm.weight for norm in norms),
        *(norm.bias for norm in norms),
        *(linear.weight for linear in linears),
        *(_bias(linear) for linear in linears),
    ]
    eps = tuple(norm.eps for norm in norms)
    dtype = product_dtype(x)  # that of autocast
    with without_autocast(x):
        out, count, *statistics = _NormedMLP.apply(x, dtype, eps, *parameters)
    for norm, mean, var in zip(norms, statistics[::2], statistics[1::2], strict=True):
        track(norm, mean, var, int(count))
    return out


def _bias(linear: nn.Linear) -> Tensor:
    """Constant term of a linear map, 0 if it has none."""
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias


@dataclass
class _Layers:
    """Pre-activations ``z`` of all rows for each layer, and the coefficients of the activations.

    Layer 0 is the inputs, scaled to mean 0 and standard deviation 1, without activation function.
    Layer 1 is computed again in the backward pass, which is cheaper than storing it; the others are
    stored. An estimate of the mean, `offset`, is subtracted from each, which makes the variance
    accurate.
    """

    x: Tensor  # (M, F)
    weights: list[Tensor]
    offset: list[Tensor]  # (C,) for each layer after the inputs
    stored: list[Tensor]  # (M, C) for each layer after the first
    gain: list[Tensor]  # (C,) for all layers, like the following
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

    def pre_activation(self, layer: int, rows: slice) -> Tensor:
        if layer == 0:
            return self.x[rows]
        return self.linear(1, rows, self.offset[0]) if layer == 1 else self.stored[layer - 2][rows]

    def normed(self, layer: int, z: Tensor) -> Tensor:
        return torch.addcmul(self.shift[layer], z, self.gain[layer])

    def active(self, layer: int, y: Tensor) -> Tensor:
        return (F.gelu(y) if layer else y).to(self.x.dtype)

    def linear(self, layer: int, rows: slice, offset: Tensor, out: Tensor | None = None) -> Tensor:
        h = self.active(layer - 1, self.normed(layer - 1, self.pre_activation(layer - 1, rows)))
        return torch.addmm(-offset.to(h.dtype), h, self.weights[layer - 1].t(), out=out)


class _NormedMLP(torch.autograd.Function):
    """The training pass, with batch statistics.

    Let ``z`` be the input of a batch normalisation and ``dy`` the gradient of its output. The
    gradient of the input is ``dz = gain dy + p z + q``, where `p` and `q` follow from the sums of
    ``dy`` and ``dy z`` over all rows. Each pass over the rows accumulates the sums for the next.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dtype: torch.dtype, eps: tuple[float, ...], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        scales, shifts, weights, biases = _split(parameters)
        var, mean = torch.var_mean(x, 0, correction=0)
        mean, var, count = combined(mean, var, len(x))
        statistics = [mean, var]
        x = ((x - mean) * (var + eps[0]).rsqrt()).to(dtype)
        net = _Layers(
            x,
            weights=[w.to(dtype) for w in weights],
            offset=[],
            stored=[],
            gain=[scales[0]],
            shift=[shifts[0]],
            mean=[torch.zeros_like(mean)],
            rstd=[torch.ones_like(var)],
        )
        for layer in range(1, net.depth + 1):
            mean, var = _add_layer(net, layer)
            net.mean.append(mean)
            net.rstd.append((var + eps[layer]).rsqrt())
            net.gain.append(scales[layer] * net.rstd[layer])
            net.shift.append(shifts[layer] - net.gain[layer] * mean)
            statistics += [mean + net.offset[-1] + biases[layer - 1], var]
        out = x.new_empty(len(x), len(mean))
        for rows in net.chunks():
            out[rows] = net.active(
                net.depth, net.normed(net.depth, net.pre_activation(net.depth, rows))
            )
        ctx.save_for_backward(*net.tensors())
        ctx.count = count
        number = torch.tensor(count)
        ctx.mark_non_differentiable(number, *statistics)
        return (out, number, *statistics)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        net = _Layers.of(ctx.saved_tensors)
        gradients: tuple[list[Tensor], ...] = ([], [], [], [])  # as in _split, from the last layer
        dy, d_shift, moment = _activation_gradient(net, grad)
        for layer in range(net.depth, -1, -1):
            d_scale = (moment - net.mean[layer] * d_shift) * net.rstd[layer]
            gradients[0].append(d_scale)
            gradients[1].append(d_shift)
            if layer > 0:
                if is_spread():  # the statistics are those of the rows of all ranks
                    d_scale, d_shift = sum_over_ranks(torch.stack([d_scale, d_shift]))
                p = -net.gain[layer] * net.rstd[layer] * d_scale / ctx.count
                q = -net.gain[layer] * d_shift / ctx.count - p * net.mean[layer]
                dy, d_shift, moment, d_weight, d_bias = _linear_gradient(net, layer, dy, p, q)
                gradients[2].append(d_weight)
                gradients[3].append(d_bias)
        return None, None, None, *itertools.chain(*(kind[::-1] for kind in gradients))


def _split(parameters: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """Scales and shifts of the normalisations, and weights and biases of the linear maps."""
    norms = (len(parameters) + 2) // 4
    cuts = [0, norms, 2 * norms, 3 * norms - 1, len(parameters)]
    return [parameters[a:b] for a, b in itertools.pairwise(cuts)]


def _add_layer(net: _Layers, layer: int) -> tuple[Tensor, Tensor]:
    """Compute the pre-activations of `layer`; return their mean and variance over all ranks."""
    width = len(net.weights[layer - 1])
    zero = net.gain[0].new_zeros(width)
    z = net.x.new_empty(len(net.x), width) if layer > 1 else None
    moments = []
    counts = []
    for i, rows in enumerate(net.chunks()):
        if i == 0:
            net.offset.append(net.linear(layer, rows, zero).mean(0, dtype=zero.dtype))
        part = net.linear(layer, rows, net.offset[layer - 1], None if z is None else z[rows])
        moments.append(moments_of(part))
        counts.append(len(part))
    net.stored += [] if z is None else [z]
    mean, var = moments_of_all(moments, counts)
    if is_spread():  # each rank subtracts an estimate of its own
        offset = net.offset[-1]
        mean, var, _ = combined(mean + offset, var, len(net.x))
        mean = mean - offset
    return mean, var


def _activation_gradient(net: _Layers, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient ``dy`` of the last normalisation, and the sums of ``dy`` and ``dy z`` over rows."""
    dy = torch.empty_like(grad)
    total = torch.zeros_like(net.gain[-1])
    moment = torch.zeros_like(total)
    for rows in net.chunks():
        z = net.pre_activation(net.depth, rows)
        y = net.normed(net.depth, z)
        d = torch.ops.aten.gelu_backward(grad[rows].to(y), y)
        total += d.sum(0)
        moment += (d * z).sum(0)
        dy[rows] = d
    return dy, total, moment


def _linear_gradient(
    net: _Layers, layer: int, dy: Tensor, p: Tensor, q: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of the linear map into `layer`, from `dy` of this layer.

    `dy` is overwritten where the widths of the two layers are equal.

    Returns
    -------
    dy : Tensor, shape (M, C)
        Gradient of the output of the normalisation one layer before.
    total, moment : Tensor, shape (C,)
        Sums of ``dy`` and ``dy z`` over rows.
    d_weight : Tensor, shape (C', C)
    d_bias : Tensor, shape (C',)
    """
    weight = net.weights[layer - 1]
    d_weight = torch.zeros_like(weight, dtype=p.dtype)
    d_bias = torch.zeros_like(p)
    total = torch.zeros_like(net.gain[layer - 1])
    moment = torch.zeros_like(total)
    same_width = weight.shape[0] == weight.shape[1]
    before = dy if same_width else dy.new_empty(len(dy), weight.shape[1])
    for rows in net.chunks():
        dz = torch.addcmul(q, net.pre_activation(layer, rows), p).addcmul_(
            dy[rows], net.gain[layer]
        )
        z = net.pre_activation(layer - 1, rows)
        y = net.normed(layer - 1, z)
        d_bias += dz.sum(0)
        dz = dz.to(weight.dtype)
        d_weight += dz.t() @ net.active(layer - 1, y)
        d = (dz @ weight).to(y)
        if layer > 1:
            d = torch.ops.aten.gelu_backward.grad_input(d, y, grad_input=before[rows])
        total += d.sum(0)
        moment += (d * z).sum(0)
    return before, total, moment, d_weight, d_bias
