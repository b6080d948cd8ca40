"""Work on many rows in portions that stay in the cache of a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

__all__ = ["chunks"]

_BYTES = 2**20  # of one intermediate tensor at a time: a second-level cache


def chunks(rows: int, row_bytes: int, device: torch.device) -> Iterator[slice]:
    """Slices of `rows` whose intermediates, `row_bytes` each, fit a cache; all on an accelerator."""
    step = max(1, _BYTES // row_bytes) if device.type == "cpu" else max(1, rows)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
