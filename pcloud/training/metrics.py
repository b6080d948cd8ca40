"""Metrics of an epoch: loss, accuracy, area under the ROC curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.evaluation.ranking import Ranking

__all__ = ["RunningMetrics", "mean_auc"]


class RunningMetrics:
    """Mean loss and accuracy of the batches so far, summed on the device without waiting for it."""

    def __init__(self) -> None:
        self.jets = 0
        self.loss: Tensor | float = 0.0
        self.correct: Tensor | int = 0

    @torch.no_grad()
    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, ``logits (B, C)`` and ``labels (B,)``."""
        self.jets += len(labels)
        exact = torch.float32 if loss.device.type == "mps" else torch.float64
        self.loss = self.loss + loss.to(exact) * len(labels)
        self.correct = self.correct + (logits.argmax(dim=-1) == labels).sum()

    def compute(self) -> tuple[float, float]:
        """Mean loss and accuracy; NaN before the first batch."""
        if self.jets == 0:
            return float("nan"), float("nan")
        return float(self.loss) / self.jets, float(self.correct) / self.jets

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return {"jets": self.jets, "loss": float(self.loss), "correct": int(self.correct)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.jets, self.loss, self.correct = state["jets"], state["loss"], state["correct"]


def mean_auc(logits: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve; for more than two classes the mean of each against the rest.

    Classes that do not occur are left out of the mean. NaN for fewer than two classes or where the
    network has diverged.

    Parameters
    ----------
    logits : Tensor, shape (B, C)
        Logits of the classes.
    labels : Tensor, shape (B,)
        True classes.
    """
    # in double precision: float32 probabilities of confident jets round to 1 and tie
    scores = F.softmax(logits.double(), dim=-1).numpy()
    truth = labels.numpy()
    present = np.unique(truth)
    if len(present) < 2 or not np.isfinite(scores).all():
        return float("nan")
    signals = [1] if scores.shape[1] == 2 else present
    areas = [Ranking(scores[:, c], truth == c, truth != c).counts.auc() for c in signals]
    return float(np.mean(areas))
