"""Quantity as a single value, learned by one of several losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.objectives.of_target import Regression, weighted_quantiles
from pcloud.objectives.predictions import Point
from pcloud.objectives.target import Target

__all__ = ["POINT_LOSSES", "PointEstimate"]

Loss = Callable[[Tensor], Tensor]


def _log_cosh(difference: Tensor) -> Tensor:
    """``log(cosh(d))`` without overflow."""
    size = difference.abs()
    return size + F.softplus(-2 * size) - math.log(2)


def _huber(difference: Tensor, delta: float) -> Tensor:
    return F.huber_loss(difference, torch.zeros_like(difference), reduction="none", delta=delta)


POINT_LOSSES: dict[str, Loss] = {
    "squared": torch.square,
    "absolute": torch.abs,
    "huber": partial(_huber, delta=1.0),
    "logcosh": _log_cosh,
}
"""Losses of the difference between prediction and truth, in spreads of the target."""


class PointEstimate(Regression):
    """Value of a target from one output.

    Parameters
    ----------
    target : Target
        The target.
    kind : str
        Loss, one of `POINT_LOSSES`.
    index : int
        Position among the targets of a batch.
    delta : float
        Difference, in spreads of the target, from which the Huber loss is linear.
    """

    def __init__(self, target: Target, kind: str, index: int = 0, *, delta: float = 1.0) -> None:
        super().__init__(target, index)
        self.kind = kind  # type: ignore[misc]  # of four kinds
        self.delta = delta
        self.of_difference = partial(_huber, delta=delta) if kind == "huber" else POINT_LOSSES[kind]

    @property
    def output_names(self) -> list[str]:
        """Name of the target."""
        return [self.name]

    def standard(self, outputs: Tensor) -> Point:
        """Value (B,)."""
        return Point(outputs[:, 0])

    def losses(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Loss (B,) of the difference from the truth."""
        return self.of_difference(outputs[:, 0] - truth)

    def best_constant(self, truth: Tensor, weights: Tensor) -> Tensor:
        """Mean of the squared loss; the median for the others, which is the best or close to it."""
        if self.kind == "squared":
            return ((weights * truth).sum() / weights.sum()).reshape(1)
        return weighted_quantiles(truth, weights, [0.5])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**super().to_dict(), "delta": self.delta}
