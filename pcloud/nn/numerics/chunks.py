"""Chunks of rows that fit into the cache of a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

__all__ = ["chunks"]

_CHUNK_BYTES = 2**20  # of one intermediate tensor: a second-level cache


def chunks(rows: int, row_bytes: int, device: torch.device) -> Iterator[slice]:
    """Slices that divide `rows` into chunks; a single slice on an accelerator.

    Parameters
    ----------
    rows : int
        Number of rows.
    row_bytes : int
        Size of a row of the largest intermediate tensor.
    device : torch.device
        Device of the tensors.
    """
    step = max(1, _CHUNK_BYTES // row_bytes) if device.type == "cpu" else max(1, rows)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
