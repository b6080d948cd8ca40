"""The loss of a score that is the same for all jets: what a network has to beat."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ConstantScore", "NothingLearnedWarning"]

_TINY = 1e-12


class NothingLearnedWarning(UserWarning):
    """A finished training whose network is no better than a constant score."""


class ConstantScore:
    """The best score that is the same for all jets: fractions of the classes in training.

    Parameters
    ----------
    labels : Tensor, shape (B,)
        Classes of the training jets.
    num_classes : int
        Number of classes C.
    class_weights : Tensor, shape (C,), optional
        Weights of the classes in the loss.
    """

    def __init__(
        self, labels: Tensor, num_classes: int, class_weights: Tensor | None = None
    ) -> None:
        weights = torch.ones(num_classes) if class_weights is None else class_weights
        self.class_weights = weights.double()
        counts = torch.bincount(labels, minlength=num_classes) * self.class_weights
        self.log_fractions = (counts / counts.sum()).clamp(min=_TINY).log()

    def loss(self, labels: Tensor) -> float:
        """Mean loss on jets with these labels (B,)."""
        weights = self.class_weights[labels]
        losses = -self.log_fractions[labels]
        return float((weights * losses).sum() / weights.sum())

    def gain(self, logits: Tensor, labels: Tensor) -> tuple[float, float]:
        """Excess of this loss over that of ``logits (B, C)``, and its statistical error.

        The error is that of the difference on the same jets: near the constant score it is much
        smaller than that of either loss.
        """
        weights = self.class_weights[labels]
        losses = F.cross_entropy(logits.double(), labels, reduction="none")
        gains = -self.log_fractions[labels] - losses
        mean = (weights * gains).sum() / weights.sum()
        error = (weights * (gains - mean)).square().sum().sqrt() / weights.sum()
        return float(mean), float(error)
