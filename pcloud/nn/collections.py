"""Several collections of a jet, such as candidates and vertices, as one cloud."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.numerics.ranks import is_spread

__all__ = ["CollectionEmbedding", "normalise_rows"]


class CollectionEmbedding(nn.Module):
    """Map of each collection to a common width: normalisation, linear map, normalisation, ReLU.

    The rows of a batch have the width of the widest collection; those of the others end in zeros,
    which are not read.

    Parameters
    ----------
    in_widths : sequence of int
        Number of features of each collection.
    width : int
        Common width.

    References
    ----------
    The embedding of particles and vertices in CMS's taggers of weaver-core, as described in Qu and
    Gouskos, ParticleNet, https://arxiv.org/abs/1902.08570.
    """

    def __init__(self, in_widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.in_widths = tuple(in_widths)
        self.width = width
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) for n in self.in_widths)
        self.linears = nn.ModuleList(nn.Linear(n, width, bias=False) for n in self.in_widths)
        self.out_norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in self.in_widths)

    def forward(self, x: Tensor, collection: Tensor | None = None) -> Tensor:
        """Embedded rows (N, width).

        Parameters
        ----------
        x : Tensor, shape (N, D)
            Features; D is the width of the widest collection.
        collection : Tensor, shape (N,), optional
            Index of the collection of each row; without it all rows are of the first.
        """
        if collection is None:
            return self._embed(0, x)
        if torch.compiler.is_compiling():  # an exported graph has no lists of unknown length
            parts = [
                torch.where((collection == i).unsqueeze(-1), self._embed(i, x), 0.0)
                for i in range(len(self.in_widths))
            ]
            return torch.stack(parts).sum(0)
        embedded = x.new_zeros(x.shape[0], self.width)
        for i in range(len(self.in_widths)):
            rows = (collection == i).nonzero().flatten()
            if len(rows) or is_spread():  # all ranks normalise together
                values = self._embed(i, x.index_select(0, rows))
                embedded = embedded.to(values.dtype).index_copy(0, rows, values)
        return embedded

    def _embed(self, i: int, x: Tensor) -> Tensor:
        """Embedded rows (n, width) of the collection `i`."""
        x = normalise_rows(self.norms[i], x[:, : self.in_widths[i]])
        return F.relu(normalise_rows(self.out_norms[i], self.linears[i](x)))


def normalise_rows(norm: nn.Module, x: Tensor) -> Tensor:
    """Batch normalisation; a single row, which has no variance, by the statistics of the training."""
    assert isinstance(norm, nn.BatchNorm1d)
    if not norm.training or is_spread() or len(x) > 1:
        return norm(x)
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
