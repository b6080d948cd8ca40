"""Linear map and batch normalisation of all pairs of particles, computed per particle."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.numerics.batch_norm import folded, track
from pcloud.nn.numerics.precision import without_autocast
from pcloud.nn.numerics.ranks import combined
from pcloud.nn.pairs.blocks import PairBlocks
from pcloud.nn.pairs.products import sum_senders
from pcloud.nn.pooling import sum_pool

__all__ = ["PairLinear"]


class PairLinear(nn.Module):
    """Linear map of ``[h_i, h_j, e_ij]`` with batch normalisation over all pairs.

    ``W1 h_i + W2 h_j + W3 e_ij``: two matrix products with N rows each replace one with N P rows.
    Mean and variance over the pairs follow from sums over the particles, so that the normalisation
    is applied to the terms before they are added. The precision is at least float32.

    Parameters
    ----------
    channels : int
        Features per particle.
    pair_channels : int
        Features per pair.
    out_channels : int
        Features of the result.
    """

    def __init__(self, channels: int, pair_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * channels + pair_channels, out_channels, bias=False)
        self.norm = nn.BatchNorm1d(out_channels)
        self.split = [channels, channels, pair_channels]

    def forward(
        self, h: Tensor, products: Tensor, pairs: PairBlocks
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Terms of the result ``receiver_i + sender_j + e_ij @ weight``.

        Parameters
        ----------
        h : Tensor, shape (N, F)
            Features of the particles.
        products : Tensor, shape (M, E)
            Features of the pairs, symmetric in i and j; arbitrary finite values for empty slots.
        pairs : PairBlocks
            Pairs of the particles.

        Returns
        -------
        receiver, sender : Tensor, shape (N, C)
            Terms of the particles.
        weight : Tensor, shape (E, C)
            Weights of the features of a pair.
        """
        with without_autocast(h):
            w1, w2, w3 = self.linear.weight.split(self.split, dim=1)
            h = h.to(w1.dtype)
            if not self.norm.training:
                scale, shift = folded(self.norm)
                w1, w2, w3 = (scale.unsqueeze(1) * w for w in (w1, w2, w3))
                return F.linear(h, w1, shift), F.linear(h, w2), w3.t()
            terms = F.linear(h, w1), F.linear(h, w2), w3.t()
            count = 2 * (pairs.layout.num_pairs - pairs.layout.num_particles)
            mean, var = _moments(*terms, products, pairs, max(count, 1))
            mean, var, count = combined(mean, var, count)
            track(self.norm, mean, var, max(count, 1))
            scale = self.norm.weight * (var + self.norm.eps).rsqrt()
            receiver, sender, weight = (scale * term for term in terms)
            return receiver + (self.norm.bias - scale * mean), sender, weight


def _moments(
    receiver: Tensor,
    sender: Tensor,
    weight: Tensor,
    products: Tensor,
    pairs: PairBlocks,
    count: int,
) -> tuple[Tensor, Tensor]:
    """Mean and variance of ``receiver_i + sender_j + e_ij @ weight`` over `count` pairs.

    The mean of each term is subtracted before it is squared, which makes the variance accurate.
    """
    layout = pairs.layout
    products = products * pairs.mask.unsqueeze(-1)
    others = (layout.counts - 1)[layout.batch].unsqueeze(-1).to(receiver.dtype)  # (N, 1)
    r_mean, s_mean = ((others * term).sum(0) / count for term in (receiver, sender))
    r = receiver - r_mean
    s = sender - s_mean

    unit = torch.eye(len(weight), dtype=products.dtype, device=products.device)
    e_sum = sum_senders(products, unit.expand(len(pairs.source), -1, -1), pairs)
    e_sum = pairs.flatten(e_sum)  # (N, E), over the senders
    e_mean = e_sum.sum(0) / count
    e_square = products.t() @ products
    e_sum = e_sum - others * e_mean
    e_square = e_square / count - e_mean.outer(e_mean)

    # The sum of r_i s_j over pairs is the sum over all i and j of the jet, minus that over i = j.
    r_s = (sum_pool(r, layout) * sum_pool(s, layout)).sum(0) - (r * s).sum(0)
    cross = r_s + ((r + s) * (e_sum @ weight)).sum(0)  # because e_ij = e_ji
    squares = (others * (r.square() + s.square())).sum(0)
    var = (squares + 2 * cross) / count + (weight * (e_square @ weight)).sum(0)
    return r_mean + s_mean + e_mean @ weight, var.clamp(min=0)
