"""Loss of a training: cross-entropy or another loss, with weights of classes and of jets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError

__all__ = ["JetLoss", "balanced_class_weights", "losses_of_classes"]

_FOCUS = 2.0  # exponent of the focal loss, that of its paper


def losses_of_classes(kind: str, logits: Tensor, labels: Tensor) -> Tensor:
    """Loss (B,) of each jet.

    With ``p`` the softmax and ``t`` 1 for the true class and 0 for others: ``cross_entropy`` is
    ``-log p_true``, ``focal`` is ``-(1 - p_true)^2 log p_true``, ``l1`` the mean of ``|p - t|`` and
    ``l2`` that of ``(p - t)^2`` over the classes.

    Parameters
    ----------
    kind : str
        Name of the loss.
    logits : Tensor, shape (B, C)
        Logits of the classes.
    labels : Tensor, shape (B,)
        True classes.

    References
    ----------
    Lin et al., Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002.
    """
    if kind in ("cross_entropy", "focal"):
        losses = F.cross_entropy(logits, labels, reduction="none")
        return losses if kind == "cross_entropy" else (1 - (-losses).exp()) ** _FOCUS * losses
    difference = logits.softmax(-1) - F.one_hot(labels, logits.shape[-1])
    return (difference.abs() if kind == "l1" else difference.square()).mean(-1)


class JetLoss(nn.Module):
    """Loss of classes, a mean over jets with the weights of their classes and their own.

    The mean over a batch of jets with weights is divided by the mean weight of *all* training jets:
    the sum of weights of a batch may be 0 where some are negative, and a batch of large weights has to
    count more than others. Without weights of jets it is ``torch.nn.CrossEntropyLoss``.

    Parameters
    ----------
    class_weights : Tensor, shape (C,), optional
        Weights of the classes.
    labels, weights : Tensor, shape (B,), optional
        Classes and weights of the training jets, if these have weights.
    kind : str
        Name of the loss, see :func:`losses_of_classes`.
    """

    def __init__(
        self,
        class_weights: Tensor | None = None,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        kind: str = "cross_entropy",
    ) -> None:
        super().__init__()
        self.kind = kind
        self.cross_entropy = nn.CrossEntropyLoss(class_weights)
        self.mean_weight = 1.0
        if weights is not None and labels is not None:
            self.mean_weight = float(self.weights(labels, weights).double().mean())
            if not self.mean_weight > 0:
                raise InputError(
                    f"the weights of the training jets have the mean {self.mean_weight:.6g}: it must "
                    "be positive"
                )

    def weights(self, labels: Tensor, weights: Tensor) -> Tensor:
        """Weights (B,) of jets times those of their classes."""
        of_classes = self.cross_entropy.weight
        return weights if of_classes is None else weights * of_classes.to(weights)[labels]

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a training batch: ``logits (B, C)``, ``labels (B,)`` and ``weights (B,)``."""
        if weights is None:
            return self._unweighted(logits, labels)
        losses = losses_of_classes(self.kind, logits, labels)
        return (losses * self.weights(labels, weights)).mean() / self.mean_weight

    def mean(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a sample, divided by the sum of its own weights."""
        if weights is None:
            return self._unweighted(logits, labels)
        losses = losses_of_classes(self.kind, logits, labels).double()
        of_jets = self.weights(labels, weights).double()
        return (losses * of_jets).sum() / of_jets.sum()

    def _unweighted(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss () of jets without weights."""
        if self.kind == "cross_entropy":
            return self.cross_entropy(logits, labels)
        of_classes = self.weights(labels, torch.ones_like(logits[:, 0]))
        losses = losses_of_classes(self.kind, logits, labels)
        return (losses * of_classes).sum() / of_classes.sum()


def balanced_class_weights(
    labels: Tensor, num_classes: int, weights: Tensor | None = None
) -> Tensor:
    """Weights (C,) that give the jets of all classes the same sum of weights.

    Parameters
    ----------
    labels : Tensor, shape (B,)
        Classes of the training jets.
    num_classes : int
        Number of classes C.
    weights : Tensor, shape (B,), optional
        Weights of the training jets.

    Raises
    ------
    InputError
        If the weights of a class have no positive sum.
    """
    if weights is None:
        counts = torch.bincount(labels, minlength=num_classes)
        return len(labels) / (num_classes * counts.clamp(min=1))
    sums = torch.bincount(labels, weights.double(), minlength=num_classes)
    present = torch.bincount(labels, minlength=num_classes) > 0
    if bool((sums[present] <= 0).any()):
        raise InputError("balanced class weights need a positive sum of weights in every class")
    return (sums.sum() / (num_classes * sums)).where(present, torch.ones_like(sums)).float()
