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
        self.correct: Tensor | float = 0
        self.weight: Tensor | float = 0.0

    @torch.no_grad()
    def update(
        self, loss: Tensor, logits: Tensor, labels: Tensor, weights: Tensor | None = None
    ) -> None:
        """Add a batch: its mean loss, ``logits (B, C)``, ``labels (B,)`` and ``weights (B,)``."""
        self.jets += len(labels)
        exact = torch.float32 if loss.device.type == "mps" else torch.float64
        self.loss = self.loss + loss.to(exact) * len(labels)
        correct = logits.argmax(dim=-1) == labels
        if weights is None:
            self.correct = self.correct + correct.sum()
        else:
            self.correct = self.correct + (correct * weights).to(exact).sum()
            self.weight = self.weight + weights.to(exact).sum()

    def compute(self) -> tuple[float, float]:
        """Mean loss and accuracy; NaN before the first batch."""
        if self.jets == 0:
            return float("nan"), float("nan")
        return float(self.loss) / self.jets, float(self.correct) / (float(self.weight) or self.jets)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        state = {"jets": self.jets, "loss": float(self.loss), "correct": float(self.correct)}
        if not float(self.weight):
            return {**state, "correct": int(self.correct)}
        return {**state, "weight": float(self.weight)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.jets, self.loss, self.correct = state["jets"], state["loss"], state["correct"]
        self.weight = state.get("weight", 0.0)


def mean_auc(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """Area under the ROC curve; for more than two classes the mean of each against the rest.

    Classes that do not occur are left out of the mean. NaN for fewer than two classes or where the
    network has diverged.

    Parameters
    ----------
    logits : Tensor, shape (B, C)
        Logits of the classes.
    labels : Tensor, shape (B,)
        True classes.
    weights : Tensor, shape (B,), optional
        Weights of the jets. Classes whose weights have no positive sum are left out.
    """
    # in double precision: float32 probabilities of confident jets round to 1 and tie
    scores = F.softmax(logits.double(), dim=-1).numpy()
    truth = labels.numpy()
    present = np.unique(truth)
    w = None if weights is None else weights.double().numpy()
    if w is not None:
        present = present[[w[truth == c].sum() > 0 for c in present]]
    if len(present) < 2 or not np.isfinite(scores).all():
        return float("nan")
    signals = [1] if scores.shape[1] == 2 else present
    areas = [Ranking(scores[:, c], truth == c, truth != c, w).counts.auc() for c in signals]
    return float(np.mean(areas))
