"""Ordered pairs of the particles of a jet, and permutation-equivariant linear maps between them.

There are fifteen linear maps from a matrix x_ij to a matrix that are equivariant under permutations
of the particles. Their results are

- the matrix and its transpose;
- the diagonal, placed on the diagonal, along rows or along columns;
- the row means and the column means, each placed on the diagonal, along rows or along columns;
- the trace and the mean, each placed everywhere or on the diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import outside_transforms
from pcloud.nn.numerics.precision import at_least_float32
from pcloud.nn.pooling import mean_pool, sum_by_index

__all__ = ["TYPICAL_MULTIPLICITY", "EquivariantLinear", "Pairs", "invariant_pool"]

TYPICAL_MULTIPLICITY = 49.0
"""Particles of an average top or QCD jet; averages have weight 1 at this multiplicity."""

_NUM_MAPS = 15
_NUM_AVERAGES = 10  # maps that average over particles


@dataclass(frozen=True)
class Pairs:
    """The E ordered pairs of particles of the same jet, including a particle with itself.

    Attributes
    ----------
    layout : RaggedLayout
        Layout of the N particles.
    first, second : Tensor, shape (E,)
        Indices of the particles of each pair, sorted.
    transpose : Tensor, shape (E,)
        Index of the pair ``(second, first)``.
    diagonal : Tensor, shape (N,)
        Index of the pair of each particle with itself.

    Examples
    --------
    >>> pairs = Pairs.of(RaggedLayout.from_batch(torch.tensor([0, 0, 1])))
    >>> pairs.first, pairs.second
    (tensor([0, 0, 1, 1, 2]), tensor([0, 1, 0, 1, 2]))
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
        """Pairs of the particles of `layout`, without synchronisation.

        Of a padded batch, they include the pairs with padding, whose particles belong to another
        jet: their weight in all sums is zero.
        """
        if layout.row_length is not None:
            return cls._of_rows(layout, layout.row_length)
        particle = torch.arange(layout.num_particles, device=layout.batch.device)
        partners = layout.counts[layout.batch]
        offset = layout.ptr[layout.batch]
        size = 2 * layout.num_pairs - layout.num_particles
        first = torch.repeat_interleave(particle, partners, output_size=size)
        row = partners.cumsum(0) - partners
        second = offset[first] + torch.arange(size, device=first.device) - row[first]
        transpose = row[second] + first - offset[first]
        return cls(layout, first, second, transpose, row + particle - offset)

    @classmethod
    def _of_rows(cls, layout: RaggedLayout, length: int) -> Pairs:
        """Pairs of all rows of each jet of a padded batch."""
        jets = layout.num_jets - 1
        row = torch.arange(jets * length, device=layout.batch.device).view(jets, length)
        shape = (jets, length, length)
        first = row.unsqueeze(2).expand(shape)
        second = row.unsqueeze(1).expand(shape)
        pair = torch.arange(jets * length * length, device=row.device).view(shape)
        diagonal = pair.diagonal(dim1=1, dim2=2)
        parts = (first.flatten(), second.flatten(), pair.mT.flatten(), diagonal.flatten())
        return cls(layout, *parts)

    def row_means(self, x: Tensor) -> Tensor:
        """Mean of ``x (E, C)`` over the second particle, shape (N, C)."""
        return self._mean(x, self.first)

    def column_means(self, x: Tensor) -> Tensor:
        """Mean of ``x (E, C)`` over the first particle, shape (N, C)."""
        return self._mean(x, self.second)

    def _mean(self, x: Tensor, index: Tensor) -> Tensor:
        x = x.to(at_least_float32(x))
        if self.layout.row_length is not None:
            jet = self.layout.batch
            x = torch.where((jet[self.first] == jet[self.second]).unsqueeze(-1), x, 0.0)
        total = sum_by_index(x, index, self.layout.num_particles)
        return total / self.layout.counts[self.layout.batch].unsqueeze(-1)


class EquivariantLinear(nn.Module):
    """Most general linear map of pairs to pairs that is equivariant under permutations.

    A channel of the result is a sum over the input channels and the fifteen maps. Maps that average
    over particles are multiplied by a learnable power of the number of particles, which
    interpolates between a mean and a sum. Only two of the maps need a matrix product per pair; the
    others need one per particle or per jet.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels per pair. The weight of input c, output o and map m is factorised:
        ``a_cm p_co + b_om q_co``.

    Examples
    --------
    >>> pairs = Pairs.of(RaggedLayout.from_batch(torch.tensor([0, 0, 1])))
    >>> EquivariantLinear(3, 4)(torch.ones(5, 3), pairs).shape
    torch.Size([5, 4])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        map_scale = _NUM_MAPS**-0.5
        weight_scale = in_channels**-0.5
        self.in_maps = nn.Parameter(map_scale * torch.randn(in_channels, _NUM_MAPS))
        self.out_maps = nn.Parameter(map_scale * torch.randn(out_channels, _NUM_MAPS))
        self.in_weight = nn.Parameter(weight_scale * torch.randn(in_channels, out_channels))
        self.out_weight = nn.Parameter(weight_scale * torch.randn(in_channels, out_channels))
        self.power = nn.Parameter(torch.rand(_NUM_AVERAGES, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.diagonal_bias = nn.Parameter(torch.zeros(out_channels))

    def weight(self) -> Tensor:
        """Matrices (15, C', C), one for each map."""
        a = self.in_maps.t().unsqueeze(1)
        b = self.out_maps.t().unsqueeze(2)
        return a * self.in_weight.t() + b * self.out_weight.t()

    def forward(self, x: Tensor, pairs: Pairs) -> Tensor:
        """Pairs (E, C') from pairs ``x (E, C)``."""
        weight = self.weight()
        layout = pairs.layout
        multiplicity = layout.counts.clamp(min=1) / TYPICAL_MULTIPLICITY
        multiplicity = multiplicity.to(self.power).unsqueeze(-1)
        jet_factors = multiplicity ** self.power.unsqueeze(1)  # (10, B, C)
        particle_factors = jet_factors[:6, layout.batch]  # (6, N, C)

        diagonal = x[pairs.diagonal]
        rows = pairs.row_means(x)
        columns = pairs.column_means(x)
        trace = mean_pool(diagonal, layout)
        mean = mean_pool(rows, layout)

        def particle_terms(factor: int, m: int) -> Tensor:
            """Row and column means, mapped by the weights `m` and `m` + 1."""
            terms = F.linear(rows * particle_factors[factor], weight[m])
            return terms + F.linear(columns * particle_factors[factor + 1], weight[m + 1])

        def jet_terms(factor: int, m: int) -> Tensor:
            """Trace and mean, mapped by the weights `m` and `m` + 1."""
            terms = F.linear(trace * jet_factors[factor], weight[m])
            return terms + F.linear(mean * jet_factors[factor + 1], weight[m + 1])

        along_rows = F.linear(diagonal, weight[2]) + particle_terms(0, 3)
        along_rows = along_rows + (jet_terms(6, 5) + self.bias)[layout.batch]
        along_columns = F.linear(diagonal, weight[7]) + particle_terms(2, 8)
        on_diagonal = F.linear(diagonal, weight[10]) + particle_terms(4, 11)
        on_diagonal = on_diagonal + (jet_terms(8, 13) + self.diagonal_bias)[layout.batch]

        out = F.linear(x, weight[0]) + F.linear(x[pairs.transpose], weight[1])
        out = out + along_rows[pairs.first] + along_columns[pairs.second]
        return out.index_add(0, pairs.diagonal, on_diagonal.to(out.dtype))


def invariant_pool(x: Tensor, pairs: Pairs) -> Tensor:
    """Permutation-invariant pooling of pairs ``x (E, C)``: mean and trace, (B, 2 C).

    Examples
    --------
    >>> pairs = Pairs.of(RaggedLayout.from_batch(torch.tensor([0, 0, 1])))
    >>> invariant_pool(torch.ones(5, 3), pairs).shape
    torch.Size([2, 6])
    """
    trace = mean_pool(x[pairs.diagonal], pairs.layout)
    return torch.cat([mean_pool(pairs.row_means(x), pairs.layout), trace], dim=1)
