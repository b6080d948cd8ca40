"""All ordered pairs of particles of a jet as rows, and the maps between pairs that know no order.

What can be made of a matrix x_ij without knowing how particles are numbered, linearly, is fifteen
matrices: itself and its transpose; its diagonal, on the diagonal or along rows or columns; its row
means, its column means, each along rows, along columns or on the diagonal; its trace and its mean,
everywhere or on the diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import outside_transforms
from pcloud.nn.numerics.precision import at_least_float32
from pcloud.nn.pooling import mean_pool

__all__ = ["EquivariantLinear", "Pairs", "invariant_pool"]

_MAPS, _POOLED = 15, 10
_USUAL = 49.0  # particles of an average top or QCD jet: means count as they are there


@dataclass(frozen=True)
class Pairs:
    """The E ordered pairs of the particles of every jet, those of a particle with itself included.

    Attributes
    ----------
    layout : RaggedLayout
        Of the N particles.
    first, second : Tensor, shape (E,)
        Particles of each pair, sorted.
    transpose : Tensor, shape (E,)
        Row of the pair ``(second, first)``.
    diagonal : Tensor, shape (N,)
        Row of the pair of each particle with itself.
    """

    layout: RaggedLayout
    first: Tensor
    second: Tensor
    transpose: Tensor
    diagonal: Tensor

    @classmethod
    @torch.compiler.disable
    @outside_transforms
    def of(cls, layout: RaggedLayout) -> Pairs:
        """The pairs of these particles, without a synchronisation."""
        particle = torch.arange(layout.num_particles, device=layout.batch.device)
        partners, offset = layout.counts[layout.batch], layout.ptr[layout.batch]
        size = 2 * layout.num_pairs - layout.num_particles
        first = torch.repeat_interleave(particle, partners, output_size=size)
        row = partners.cumsum(0) - partners
        second = offset[first] + torch.arange(size, device=first.device) - row[first]
        transpose = row[second] + first - offset[first]
        return cls(layout, first, second, transpose, row + particle - offset)

    def row_means(self, x: Tensor) -> Tensor:
        """Mean of ``x (E, C)`` over the second particle, shape (N, C)."""
        return self._mean(x, self.first)

    def column_means(self, x: Tensor) -> Tensor:
        """Mean of ``x (E, C)`` over the first particle, shape (N, C)."""
        return self._mean(x, self.second)

    def _mean(self, x: Tensor, index: Tensor) -> Tensor:
        x = x.to(at_least_float32(x))
        total = x.new_zeros(self.layout.num_particles, x.shape[1]).index_add(0, index, x)
        return total / self.layout.counts[self.layout.batch].unsqueeze(-1)


class EquivariantLinear(nn.Module):
    """The most general linear map of pairs to pairs that does not know the order of particles.

    A channel of the result is a sum over channels and the fifteen maps. Maps that average over
    particles are weighted with a learnable power of their number, between a mean and a sum. Only
    two of the maps take a product of matrices per pair; the others take one per particle or jet.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels per pair. The weight of input c, output o and map m is factorised:
        ``a_cm p_co + b_om q_co``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        spread, width = _MAPS**-0.5, in_channels**-0.5
        self.in_maps = nn.Parameter(spread * torch.randn(in_channels, _MAPS))
        self.out_maps = nn.Parameter(spread * torch.randn(out_channels, _MAPS))
        self.in_weight = nn.Parameter(width * torch.randn(in_channels, out_channels))
        self.out_weight = nn.Parameter(width * torch.randn(in_channels, out_channels))
        self.power = nn.Parameter(torch.rand(_POOLED, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.diagonal_bias = nn.Parameter(torch.zeros(out_channels))

    def weight(self) -> Tensor:
        """One matrix (C', C) for each of the fifteen maps."""
        a, b = self.in_maps.t().unsqueeze(1), self.out_maps.t().unsqueeze(2)
        return a * self.in_weight.t() + b * self.out_weight.t()

    def forward(self, x: Tensor, pairs: Pairs) -> Tensor:
        """Pairs (E, C') from pairs ``x (E, C)``."""
        weight, layout = self.weight(), pairs.layout
        multiplicity = (layout.counts.clamp(min=1) / _USUAL).to(self.power).unsqueeze(-1)
        by_jet = multiplicity ** self.power.unsqueeze(1)  # (10, B, C)
        by_particle = by_jet[:6, layout.batch]  # (6, N, C)

        diagonal = x[pairs.diagonal]
        rows, columns = pairs.row_means(x), pairs.column_means(x)
        trace, mean = mean_pool(diagonal, layout), mean_pool(rows, layout)

        def means(i: int, row: int) -> Tensor:
            """Row and column means through the maps `row` and `row` + 1."""
            terms = F.linear(rows * by_particle[i], weight[row])
            return terms + F.linear(columns * by_particle[i + 1], weight[row + 1])

        def of_jet(i: int, row: int) -> Tensor:
            """Trace and mean, likewise."""
            terms = F.linear(trace * by_jet[i], weight[row])
            return terms + F.linear(mean * by_jet[i + 1], weight[row + 1])

        along = (
            F.linear(diagonal, weight[2]) + means(0, 3) + (of_jet(6, 5) + self.bias)[layout.batch]
        )
        across = F.linear(diagonal, weight[7]) + means(2, 8)
        on = F.linear(diagonal, weight[10]) + means(4, 11)
        on = on + (of_jet(8, 13) + self.diagonal_bias)[layout.batch]

        out = F.linear(x, weight[0]) + F.linear(x[pairs.transpose], weight[1])
        out = out + along[pairs.first] + across[pairs.second]
        return out.index_add(0, pairs.diagonal, on.to(out.dtype))


def invariant_pool(x: Tensor, pairs: Pairs) -> Tensor:
    """What can be made of pairs ``x (E, C)`` without an order: mean and trace, (B, 2 C)."""
    trace = mean_pool(x[pairs.diagonal], pairs.layout)
    return torch.cat([mean_pool(pairs.row_means(x), pairs.layout), trace], dim=1)
