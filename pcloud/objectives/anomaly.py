"""Objective of an anomaly detector: a small score for jets of the first class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pcloud.errors import InputError
from pcloud.modality import Dataset
from pcloud.objectives.classes import Classes
from pcloud.objectives.specification import ANOMALY

__all__ = ["Anomaly"]


class Anomaly(Classes):
    """Scores that are small for jets of the first class, the only ones of the training.

    The outputs of the network are logits: 0 for the first class, and ``asinh(score)`` for the others.
    The loss is the mean score.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes, the learned one first.

    Attributes
    ----------
    mean_weight : float
        Mean weight of the training jets.
    """

    kind = ANOMALY
    has_scale = False

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(classes)
        self.mean_weight = 1.0

    def truth(self, batch: Any) -> Tensor:
        """Zeros (B,): all jets are of the first class."""
        if hasattr(batch, "ptr"):
            return torch.zeros(len(batch.ptr) - 1, device=batch.ptr.device)
        return torch.zeros(len(batch.images), device=batch.images.device)

    def fit(self, data: Dataset) -> None:
        """Take the mean weight of the training jets."""
        weights = getattr(data, "weight", None)
        self.mean_weight = 1.0 if weights is None else float(weights.double().mean())
        if not self.mean_weight > 0:
            raise InputError(
                f"the weights of the training jets have the mean {self.mean_weight:.6g}: it must be "
                "positive"
            )

    def loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a training batch."""
        scores = _scores(outputs)
        return (scores if weights is None else scores * weights).mean() / self.mean_weight

    def batch_size(self, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Number () of jets."""
        return truth.new_tensor(float(len(truth)), dtype=torch.float64)

    def mean_loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a sample, divided by the sum of its own weights."""
        scores = _scores(outputs)
        scores = scores if scores.device.type == "mps" else scores.double()
        if weights is None:
            return scores.mean()
        return (scores * weights).sum() / weights.to(scores).sum()

    @property
    def metric_names(self) -> tuple[str, ...]:
        """None: of one class there is only the loss."""
        return ()

    def metrics(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> dict[str, float]:
        """None."""
        return {}

    def gain(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> tuple[float, float]:
        """One without error: :func:`pcloud.anomaly.measure_collapse` says what was learned."""
        return 1.0, 0.0

    def constant_loss(self, truth: Tensor, weights: Tensor | None = None) -> float:
        """NaN: no constant is known."""
        return float("nan")

    def describe(self, data: Dataset) -> str:
        """Name of the class."""
        return f"{self.classes[0]} alone"


def _scores(outputs: Tensor) -> Tensor:
    """Scores (B,) of logits (B, C)."""
    return torch.sinh(outputs[:, -1] - outputs[:, 0])
