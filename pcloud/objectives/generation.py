"""Objective of a generator, whose outputs are its losses of each jet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pcloud.errors import InputError
from pcloud.modality import Dataset
from pcloud.objectives.objective import JetObjective
from pcloud.objectives.predictions import Prediction
from pcloud.objectives.specification import GENERATE

__all__ = ["Generation"]


class Generation(JetObjective):
    """Likeness of generated jets, learned by the losses that the generator itself computes.

    The outputs of the network are three losses of a jet: that of its particles, that of its
    variables, and that of the particles for a generator that has learned nothing. The loss is the
    sum of the first two.

    Attributes
    ----------
    mean_weight : float
        Mean weight of the training jets.
    nothing_learned : float
        Third loss of the jets of the last validation.
    """

    kind = GENERATE
    name = GENERATE
    has_scale = False
    num_outputs = 3

    def __init__(self) -> None:
        super().__init__()
        self.mean_weight = 1.0
        self.nothing_learned = float("nan")

    @property
    def output_names(self) -> list[str]:
        """Names of the losses."""
        return ["particles", "jet", "constant"]

    def forward(self, outputs: Tensor) -> Prediction:
        """Raise an error: a generator predicts nothing of a jet."""
        raise InputError("a generator gives no scores; pcloud generate RUN makes jets")

    def truth(self, batch: Any) -> Tensor:
        """Zeros (B,): nothing is predicted."""
        return torch.zeros(len(batch.ptr) - 1, device=batch.ptr.device)

    def fit(self, data: Dataset) -> None:
        """Take the mean weight of the training jets."""
        weights = getattr(data, "weight", None)
        self.mean_weight = 1.0 if weights is None else float(weights.double().mean())
        if not self.mean_weight > 0:
            raise InputError(
                f"the weights of the training jets have the mean {self.mean_weight:.6g}: it must be "
                "positive"
            )

    def check(self, data: Dataset, whose: str) -> None:
        """Do nothing: labels are checked with the inputs."""

    def loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a training batch."""
        losses = outputs[:, :2].sum(-1)
        return (losses if weights is None else losses * weights).mean() / self.mean_weight

    def mean_loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a sample, divided by the sum of its own weights."""
        return _mean(outputs[:, :2].sum(-1), weights)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Losses of particles and of variables of jets."""
        return ("val_loss_particles", "val_loss_jet")

    def metrics(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> dict[str, float]:
        """Loss of the particles and of the variables of jets."""
        names = self.metric_names
        return {name: float(_mean(outputs[:, i], weights)) for i, name in enumerate(names)}

    def gain(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> tuple[float, float]:
        """Excess of the loss of a generator that has learned nothing, for particles, and its error."""
        w = torch.ones(len(outputs)).double() if weights is None else weights.double()
        gains = (outputs[:, 2] - outputs[:, 0]).double()
        mean = (w * gains).sum() / w.sum()
        self.nothing_learned = float(_mean(outputs[:, 1:].sum(-1), weights))
        error = (w * (gains - mean)).square().sum().sqrt() / w.sum()
        return float(mean), float(error)

    def constant_loss(self, truth: Tensor, weights: Tensor | None = None) -> float:
        """Loss of such a generator for the jets of the last :meth:`gain`."""
        return self.nothing_learned

    def to_dict(self) -> dict[str, Any]:
        """Kind of the objective."""
        return {"kind": self.kind}


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    losses = losses if losses.device.type == "mps" else losses.double()
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.to(losses).sum()
