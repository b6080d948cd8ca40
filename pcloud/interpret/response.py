"""The number that is explained, one per jet or image, and how much of it an attribution covers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcloud.errors import InputError

__all__ = ["Complete", "log_odds"]


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


class Complete:
    """An attribution that adds up to a change of the response, if it has a baseline."""

    method: str
    response: NDArray[np.floating]
    baseline: NDArray[np.floating] | None

    @property
    def total(self) -> NDArray[np.floating]:
        """Sum of the attributions of each jet or image, (B,)."""
        raise NotImplementedError

    @property
    def gap(self) -> NDArray[np.floating]:
        """Change of the response that integrated gradients do not account for, (B,).

        Zero if they are complete.

        Raises
        ------
        InputError
            For any other method, which promises nothing of the kind.
        """
        if self.baseline is None:
            raise InputError(
                f"{self.method} has no baseline: only integrated gradients are complete"
            )
        return self.response - self.baseline - self.total
