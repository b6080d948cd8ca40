"""Contract of anomaly detectors: a score per jet, as logits of the classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pcloud.errors import InputError

__all__ = ["Detector", "anomaly_logits", "anomaly_score"]


def anomaly_logits(score: Tensor, num_outputs: int) -> Tensor:
    """Logits (B, num_outputs) of scores (B,): 0 for the first class, ``asinh(score)`` for the others.

    The probability of the second of two classes is a monotone function of the score, which does not
    round to 1 for large scores as the logistic function does. It is no calibrated probability.

    Examples
    --------
    >>> anomaly_logits(torch.tensor([0.0, 1.0]), 2)
    tensor([[0.0000, 0.0000],
            [0.0000, 0.8814]])
    """
    logits = torch.asinh(score).unsqueeze(-1)
    return torch.cat([torch.zeros_like(logits), logits.expand(-1, num_outputs - 1)], dim=-1)


def anomaly_score(logits: Tensor) -> Tensor:
    """Scores (B,) of the logits (B, C) of :func:`anomaly_logits`.

    Examples
    --------
    >>> anomaly_score(anomaly_logits(torch.tensor([0.5, 2.0]), 3))
    tensor([0.5000, 2.0000])
    """
    return torch.sinh(logits[:, -1] - logits[:, 0])


class Detector(nn.Module, ABC):
    """Network that learns jets of one class, and gives each jet a score that is large for others.

    Its training minimises the mean score of that class.

    Parameters
    ----------
    num_outputs : int
        Number of classes C, the learned one first; at least 2.

    Attributes
    ----------
    least_gain : float
        Smallest gain over :meth:`trivial_scores`, as a fraction of these, of a detector that has not
        collapsed.
    baseline : str
        Source of the trivial scores, in words.

    Raises
    ------
    InputError
        If there are fewer than two classes.
    """

    least_gain: ClassVar[float] = 0.0
    baseline: ClassVar[str] = "the codes of other entries"

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        if num_outputs < 2:
            raise InputError(f"an anomaly detector needs at least 2 outputs, got {num_outputs}")
        self.num_outputs = num_outputs

    @abstractmethod
    def scores(self, *arguments: Any) -> Tensor:
        """Scores (B,), large for jets that differ from those of the training."""

    @abstractmethod
    def trivial_scores(self, *arguments: Any) -> Tensor:
        """Scores (B,) of the same jets by a detector that has learned nothing."""
