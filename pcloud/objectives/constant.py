"""Loss of a constant score: the minimum that a network has to improve on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.objectives.loss import losses_of_classes

__all__ = ["ConstantScore"]

_TINY = 1e-12


class ConstantScore:
    """Best constant score: the fractions of the classes among the training jets.

    Parameters
    ----------
    labels : Tensor, shape (B,)
        Classes of the training jets.
    num_classes : int
        Number of classes C.
    class_weights : Tensor, shape (C,), optional
        Weights of the classes in the loss.
    jet_weights : Tensor, shape (B,), optional
        Weights of the training jets.
    kind : str
        Name of the loss, see :func:`~pcloud.objectives.loss.losses_of_classes`. The best constant
        of the absolute difference is the most frequent class.
    """

    def __init__(
        self,
        labels: Tensor,
        num_classes: int,
        class_weights: Tensor | None = None,
        jet_weights: Tensor | None = None,
        kind: str = "cross_entropy",
    ) -> None:
        self.kind = kind
        weights = torch.ones(num_classes) if class_weights is None else class_weights
        self.class_weights = weights.double()
        of_jets = None if jet_weights is None else jet_weights.double()
        counts = torch.bincount(labels, of_jets, minlength=num_classes) * self.class_weights
        if kind == "l1":
            counts = F.one_hot(counts.argmax(), num_classes).double()
        self.log_fractions = (counts / counts.sum()).clamp(min=_TINY).log()

    def loss(self, labels: Tensor, jet_weights: Tensor | None = None) -> float:
        """Mean loss of the constant score on jets with ``labels (B,)`` and weights (B,)."""
        weights = self._weights(labels, jet_weights)
        losses = self._losses(labels)
        return float((weights * losses).sum() / weights.sum())

    def gain(
        self, logits: Tensor, labels: Tensor, jet_weights: Tensor | None = None
    ) -> tuple[float, float]:
        """Excess of the constant score's loss over that of ``logits (B, C)``, and its error.

        The statistical error is that of the difference on the same jets, which near the constant
        score is much smaller than that of either loss.
        """
        weights = self._weights(labels, jet_weights)
        gains = self._losses(labels) - losses_of_classes(self.kind, logits.double(), labels)
        mean = (weights * gains).sum() / weights.sum()
        error = (weights * (gains - mean)).square().sum().sqrt() / weights.sum()
        return float(mean), float(error)

    def _losses(self, labels: Tensor) -> Tensor:
        """Loss (B,) of the constant score for each jet."""
        if self.kind == "cross_entropy":
            return -self.log_fractions[labels]
        logits = self.log_fractions.expand(len(labels), -1)
        return losses_of_classes(self.kind, logits, labels)

    def _weights(self, labels: Tensor, jet_weights: Tensor | None) -> Tensor:
        weights = self.class_weights[labels]
        return weights if jet_weights is None else weights * jet_weights.double()
