"""Rows of jets in the flat tensors of a data set or a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.nn.layout import RaggedLayout

__all__ = ["JET_TENSORS", "ROW_INPUTS", "ROW_TENSORS", "particles_and_layout", "rows_of"]

JET_TENSORS = ("y", "jet_p4", "weight", "u", "targets")
"""Names of the optional tensors with one row per jet."""

ROW_INPUTS = ("pos", "collection")
"""Names of the optional inputs with one row per particle."""

ROW_TENSORS = (*ROW_INPUTS, "particle_labels")
"""Names of the optional tensors with one row per particle."""


def rows_of(ptr: Tensor, jets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the particles of `jets`, the position of the jet of each row, and the new offsets."""
    start = ptr[jets]
    counts = ptr[jets + 1] - start
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    jet = torch.repeat_interleave(torch.arange(len(jets)), counts)
    rows = torch.arange(len(jet)) + torch.repeat_interleave(start - offsets[:-1], counts)
    return rows, jet, offsets


def particles_and_layout(
    p4: Tensor, layout: RaggedLayout, collection: Tensor | None
) -> tuple[Tensor, RaggedLayout]:
    """Momenta and layout of the rows of the first collection."""
    if collection is None:
        return p4, layout
    rows = (collection == 0).nonzero().flatten()
    jet = layout.batch.index_select(0, rows)
    return p4.index_select(0, rows), RaggedLayout.from_batch(jet, layout.num_jets)
