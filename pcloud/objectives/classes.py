"""Classes, of which each jet has one, learned by the cross-entropy or another loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.evaluation.ranking import Ranking
from pcloud.modality import Dataset
from pcloud.objectives.constant import ConstantScore
from pcloud.objectives.loss import JetLoss, balanced_class_weights
from pcloud.objectives.objective import JetObjective
from pcloud.objectives.predictions import Categorical
from pcloud.objectives.specification import CLASS
from pcloud.words import number_of

__all__ = ["Classes", "mean_auc"]


class Classes(JetObjective):
    """Classes of jets: softmax of one output per class.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes, in the order of the outputs.
    class_weights : str or sequence of float
        Weights of the classes in the loss: ``"none"``, ``"balanced"``, or one number per class.
    loss : str
        Name of the loss in :data:`~pcloud.objectives.specification.CLASS_LOSSES`.

    Attributes
    ----------
    jet_loss : JetLoss
        ``jet_loss(logits, labels, weights) -> ()``, a mean over jets.

    Examples
    --------
    >>> objective = Classes(["qcd", "top"])
    >>> objective.num_outputs
    2
    """

    kind = CLASS
    name = CLASS

    def __init__(
        self,
        classes: Sequence[str],
        class_weights: str | Sequence[float] = "none",
        loss: str = "cross_entropy",
    ) -> None:
        super().__init__()
        self.classes = list(classes)
        self.num_outputs = len(self.classes)
        self.class_weights = class_weights
        self.kind_of_loss = loss
        self.jet_loss = JetLoss(kind=loss)
        self.constant: ConstantScore | None = None

    @property
    def output_names(self) -> list[str]:
        """Names of the classes."""
        return self.classes

    def forward(self, outputs: Tensor) -> Categorical:
        """Probabilities of the classes from their logits (B, C)."""
        return Categorical(outputs)

    def truth(self, batch: Any) -> Tensor:
        """Labels (B,)."""
        return batch.y

    def fit(self, data: Dataset) -> None:
        """Set the weights of the classes and of the jets, and the best constant score."""
        assert data.y is not None
        weights = getattr(data, "weight", None)
        of_classes = self._weights_of_classes(data.y, weights)
        self.jet_loss = JetLoss(of_classes, data.y, weights, kind=self.kind_of_loss)
        self.constant = ConstantScore(
            data.y, len(self.classes), of_classes, weights, kind=self.kind_of_loss
        )

    def check(self, data: Dataset, whose: str) -> None:
        """Do nothing: labels are checked where jets are read."""

    def _weights_of_classes(self, labels: Tensor, weights: Tensor | None) -> Tensor | None:
        wanted = self.class_weights
        number = len(self.classes)
        if wanted == "none":
            return None
        if isinstance(wanted, str):
            return balanced_class_weights(labels, number, weights)
        if len(wanted) != number:
            raise InputError(
                f"class_weights has {number_of(len(wanted), 'number')} for "
                f"{number_of(number, 'class', 'classes')}, {', '.join(self.classes)}"
            )
        return torch.tensor(wanted)

    def loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a training batch."""
        return self.jet_loss(outputs, truth.long(), weights)

    def batch_size(self, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Sum () of the weights of the classes; the number of jets if these have weights."""
        of_classes = self.jet_loss.cross_entropy.weight
        if of_classes is None or weights is not None:
            return super().batch_size(truth, weights)
        return of_classes.to(truth.device)[truth.long()].double().sum()

    def mean_loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a sample, divided by the sum of its own weights."""
        return self.jet_loss.mean(outputs, truth.long(), weights)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Accuracy and area under the ROC curve."""
        return "val_acc", "val_auc"

    def metrics(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> dict[str, float]:
        """Accuracy and area under the ROC curve."""
        labels = truth.long()
        correct = (outputs.argmax(dim=-1) == labels).double()
        return {
            "val_acc": float(_mean(correct, weights)),
            "val_auc": mean_auc(outputs, labels, weights),
        }

    def gain(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> tuple[float, float]:
        """Excess of the loss of a constant score, and its error."""
        assert self.constant is not None
        return self.constant.gain(outputs, truth.long(), weights)

    def constant_loss(self, truth: Tensor, weights: Tensor | None = None) -> float:
        """Loss of a constant score."""
        assert self.constant is not None
        return self.constant.loss(truth.long(), weights)

    def describe(self, data: Dataset) -> str:
        """Number of jets of each class."""
        assert data.y is not None
        counts = torch.bincount(data.y, minlength=len(self.classes)).tolist()
        return ", ".join(f"{n:,} {name}" for n, name in zip(counts, self.classes, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the weights of the classes are options of the training."""
        return {"kind": self.kind, "classes": self.classes}


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


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (values * weights).sum() / weights.double().sum()
