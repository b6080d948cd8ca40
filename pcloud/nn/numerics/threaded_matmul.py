"""Matrix products of many rows with a small matrix, with the rows divided among the threads.

On a CPU, the product of 8192 x 73 and 73 x 73 does not scale well to two threads: a batch of two
products of half the size, one per thread, is 1.3 times as fast. On an accelerator there is one part.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "SplitRows",
    "add_row_product",
    "for_threads",
    "row_product",
    "split_rows",
    "threads_of",
    "totals",
]


class SplitRows(NamedTuple):
    """Matrix (n, K) divided into parts (T, n // T, K) for T threads, and the remaining rows."""

    parts: Tensor
    rest: Tensor | None


def threads_of(device: torch.device) -> int:
    """Number of parts T: threads on a CPU, else 1. Call it once: users can change it at any time."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def split_rows(rows: Tensor, threads: int) -> SplitRows:
    """Divide ``rows (n, K)`` into one part per thread, without a copy."""
    rest = len(rows) % threads
    parts = rows[: len(rows) - rest].view(threads, -1, rows.shape[1])
    return SplitRows(parts, rows[-rest:] if rest else None)


def for_threads(matrix: Tensor, threads: int) -> Tensor:
    """Repeat ``matrix (K, M)`` for each thread, shape (T, K, M), without a copy."""
    return matrix.expand(threads, *matrix.shape)


def totals(matrix: Tensor, threads: int) -> Tensor:
    """Zeros (T, K, M), to accumulate the result of each thread for a matrix like this one (K, M)."""
    return matrix.new_zeros(threads, *matrix.shape)


def row_product(rows: SplitRows, matrices: Tensor, out: SplitRows) -> None:
    """Write ``rows (n, K) @ matrix (K, M)`` to `out` (n, M); `matrices` from :func:`for_threads`."""
    torch.bmm(rows.parts, matrices, out=out.parts)
    if rows.rest is not None:
        torch.mm(rows.rest, matrices[0], out=out.rest)


def add_row_product(totals: Tensor, a: SplitRows, b: SplitRows) -> None:
    """Add ``a.T @ b`` of ``a (n, K)`` and ``b (n, M)`` to the `totals` of the threads (T, K, M)."""
    totals.baddbmm_(a.parts.mT, b.parts)
    if a.rest is not None and b.rest is not None:
        totals[0].addmm_(a.rest.t(), b.rest)
