"""The number that is explained: one per jet."""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.errors import InputError

__all__ = ["log_odds"]


def log_odds(logits: Tensor, target: int = 1) -> Tensor:
    """Logarithm of p / (1 - p) of a class, (B,), from ``logits (B, C)``.

    Of two classes the difference of the logits. Unlike a logit it does not change when the network
    adds the same number to all of them, and unlike a probability it does not saturate.

    Raises
    ------
    InputError
        If there is no such class.
    """
    classes = logits.shape[1]
    if not 0 <= target < classes:
        raise InputError(f"no class {target}: the network knows classes 0 to {classes - 1}")
    others = [c for c in range(classes) if c != target]
    return logits[:, target] - torch.logsumexp(logits[:, others], dim=1)
