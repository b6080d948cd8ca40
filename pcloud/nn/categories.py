"""Columns of categories, such as PDG codes, as vectors that are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CategoryEmbedding"]


class CategoryEmbedding(nn.Module):
    """Replaces columns with numbers of categories by a learned vector for each category.

    Number 0 stands for any other category; its vector is zero at first. The vectors follow the other
    columns, in the order of their columns.

    Parameters
    ----------
    num_features : int
        Number of columns F.
    tables : mapping of int to tuple of int
        Number of categories, without the other ones, and width of the vectors, for each such column.

    Attributes
    ----------
    width : int
        Number of columns of the result.
    """

    def __init__(self, num_features: int, tables: Mapping[int, tuple[int, int]]) -> None:
        super().__init__()
        self.num_features = num_features
        self.plain = [i for i in range(num_features) if i not in tables]
        self.tables = nn.ModuleDict(
            {str(i): nn.Embedding(number + 1, width) for i, (number, width) in tables.items()}
        )
        self.width = len(self.plain) + sum(width for _, width in tables.values())
        for table in self.tables.values():
            nn.init.zeros_(table.weight[0])  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        """Columns (N, width) from ``x (N, D)``, whose first F columns are read."""
        parts = [x[:, self.plain]]
        for column, table in self.tables.items():
            number = x[:, int(column)]
            known = number.nan_to_num(0.0).long()
            parts.append(table(known).to(x.dtype) + (number - number).unsqueeze(-1))  # NaN stays
        return torch.cat(parts, dim=-1)


class CategoriesOfCollections(nn.Module):
    """Category embeddings of several collections in one cloud.

    Parameters
    ----------
    parts : sequence of CategoryEmbedding
        One for each collection.
    """

    def __init__(self, parts: Sequence[CategoryEmbedding]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.widths = tuple(part.width for part in parts)

    def forward(self, x: Tensor, collection: Tensor | None = None) -> Tensor:
        """Rows (N, D') of the largest width D', whose narrower ones end in zeros.

        Parameters
        ----------
        x : Tensor, shape (N, D)
            Rows of all collections.
        collection : Tensor, shape (N,), optional
            Collection of each row; without it all rows are of the first.
        """
        if collection is None:
            return self._padded(self.parts[0](x))
        if torch.compiler.is_compiling():  # an exported graph has no lists of unknown length
            parts = [
                torch.where((collection == i).unsqueeze(-1), self._padded(part(x)), 0.0)
                for i, part in enumerate(self.parts)
            ]
            return torch.stack(parts).sum(0)
        embedded = x.new_zeros(x.shape[0], max(self.widths))
        for i, part in enumerate(self.parts):
            rows = (collection == i).nonzero().flatten()
            if len(rows):
                embedded = embedded.index_copy(0, rows, self._padded(part(x.index_select(0, rows))))
        return embedded

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, max(self.widths) - x.shape[1]))
