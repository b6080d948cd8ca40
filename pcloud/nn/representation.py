"""Representation of the particles of a batch, between the layers of a network and its pooling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pcloud.nn.layout import RaggedLayout

__all__ = ["Representation"]


class Representation(NamedTuple):
    """Rows that a network computes for its particles, and for tokens that it adds to each jet.

    Attributes
    ----------
    rows : Tensor, shape (N', D)
        Features of the rows: those of a jet are `num_added` tokens and then its particles.
    layout : RaggedLayout
        Layout of these rows, which can carry features of jets `u`.
    num_added : int
        Number of tokens of each jet, such as beams.
    vectors : Tensor, shape (N', V, ...), or None
        Equivariant features of the rows, which only the pooling uses.
    """

    rows: Tensor
    layout: RaggedLayout
    num_added: int = 0
    vectors: Tensor | None = None

    @property
    def particles(self) -> Tensor:
        """Features (N, D) of the particles alone, in the order of the input."""
        if self.num_added == 0:
            return self.rows
        place = torch.arange(len(self.rows), device=self.rows.device)
        place = place - self.layout.ptr[self.layout.batch]
        return self.rows[place >= self.num_added]
