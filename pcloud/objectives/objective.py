"""Objectives: what a network learns, and what its outputs mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pcloud.modality import Dataset
from pcloud.objectives.predictions import Prediction

__all__ = ["JetObjective", "Objective"]


class Objective(nn.Module, ABC):
    """One thing that a network learns.

    Attributes
    ----------
    kind : str
        Name of the kind, as in `pcloud.objectives.specification.KINDS`.
    name : str
        ``"class"``, or the name of the target or label.
    num_outputs : int
        Number of outputs of the network for this objective.
    has_scale : bool
        True if the loss has a scale that can be learned beside others: it is at least 0, and
        nothing in it fits its size.
    """

    kind: ClassVar[str]
    has_scale: ClassVar[bool] = True
    name: str
    num_outputs: int

    @property
    @abstractmethod
    def output_names(self) -> Sequence[str]:
        """Name of each output."""

    @abstractmethod
    def fit(self, data: Dataset) -> None:
        """Take constants from the training jets: standardisation, mean weight, constant outputs.

        Raises
        ------
        InputError
            If nothing can be learned from them.
        """

    @abstractmethod
    def check(self, data: Dataset, whose: str) -> None:
        """Check the true values of other jets, such as ``"validation jets"``.

        Raises
        ------
        InputError
            If they cannot be used.
        """

    @property
    @abstractmethod
    def metric_names(self) -> Sequence[str]:
        """Names of the metrics of validation jets."""

    def describe(self, data: Dataset) -> str:
        """Describe the true values of the training jets in a few words."""
        return self.name

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""


class JetObjective(Objective):
    """One thing that a network learns of each jet, from `num_outputs` of its outputs."""

    @abstractmethod
    def forward(self, outputs: Tensor) -> Prediction:
        """Prediction from ``outputs (B, num_outputs)``."""

    @abstractmethod
    def truth(self, batch: Any) -> Tensor:
        """True values (B,) of a batch; NaN where a jet has none."""

    @abstractmethod
    def loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a training batch, a mean over jets that have the target.

        The mean is divided by the mean weight of *all* training jets, of which those without the
        target have none.
        """

    def batch_size(self, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Number () by which the sum of the losses of a batch is divided in :meth:`loss`."""
        return truth.new_tensor(float(len(truth)), dtype=torch.float64)

    @abstractmethod
    def mean_loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a sample, divided by the sum of its own weights."""

    @abstractmethod
    def metrics(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> dict[str, float]:
        """Metrics of validation jets on the CPU, by the names of their columns."""

    @abstractmethod
    def gain(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> tuple[float, float]:
        """Excess of the loss of constant outputs over that of ``outputs``, and its error."""

    @abstractmethod
    def constant_loss(self, truth: Tensor, weights: Tensor | None = None) -> float:
        """Loss of the best constant outputs, those of :meth:`fit`."""
