"""Base of the objectives of a target: which jets count, and how much."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pcloud.errors import InputError
from pcloud.modality import Dataset
from pcloud.objectives.objective import JetObjective
from pcloud.objectives.predictions import Estimate
from pcloud.objectives.target import Target

__all__ = ["OfTarget", "Regression", "weighted_quantiles"]

_ONE_SIGMA = (0.15865525393145707, 0.8413447460685429)


class OfTarget(JetObjective):
    """Objective of one target. A jet that does not have it, NaN, has the weight 0.

    Parameters
    ----------
    target : Target
        The target.
    index : int
        Position among the targets of a batch.

    Attributes
    ----------
    constant : Tensor, shape (num_outputs,)
        Best constant outputs for the training jets.
    mean_weight : float
        Mean weight of the training jets, 0 for those without the target.
    """

    num_outputs = 1

    def __init__(self, target: Target, index: int = 0) -> None:
        super().__init__()
        self.target = target
        self.name = target.name
        self.index = index
        self.mean_weight = 1.0
        self.constant = torch.zeros(self.num_outputs)

    def truth(self, batch: Any) -> Tensor:
        """Values (B,) of the target, NaN where a jet has none."""
        return batch.targets[:, self.index]

    def fit(self, data: Dataset) -> None:
        """Set standardisation, mean weight and constant outputs by the training jets."""
        values = self._values(data)
        self.check(data, "training jets")
        weights = self._weights(values, getattr(data, "weight", None))
        self.mean_weight = float(weights.double().mean())
        if not self.mean_weight > 0:
            raise InputError(
                f"the weights of the training jets with target {self.name!r} have the mean "
                f"{self.mean_weight:.6g}: it must be positive"
            )
        self._fit_target(values)
        known = ~values.isnan()
        self.constant = self.best_constant(
            self.standardised(values[known]).double(), weights[known].double()
        ).float()

    def _fit_target(self, values: Tensor) -> None:
        """Standardise the target by the values (B,) of the training jets."""

    def check(self, data: Dataset, whose: str) -> None:
        """Check the target of jets."""
        self.target.check(self._values(data), whose)

    def _values(self, data: Dataset) -> Tensor:
        targets = data.targets
        assert targets is not None
        return targets[:, self.index]

    def standardised(self, truth: Tensor) -> Tensor:
        """True values as the outputs of the network have them."""
        return truth

    @abstractmethod
    def best_constant(self, truth: Tensor, weights: Tensor) -> Tensor:
        """Outputs (num_outputs,) with the smallest loss for standardised values (B,)."""

    @abstractmethod
    def losses(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Loss (B,) of each jet for standardised values (B,)."""

    def loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a training batch."""
        shares = self._weights(truth, weights)
        return (self._losses(outputs, truth) * shares).mean() / self.mean_weight

    def mean_loss(self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss () of a sample, divided by the sum of its own weights."""
        shares = self._weights(truth, weights)
        losses = self._losses(outputs, truth)
        if losses.device.type != "mps":
            losses = losses.double()
        return (losses * shares).sum() / shares.to(losses).sum()

    def _losses(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Losses (B,), 0 for jets without the target, whose gradient is 0, too."""
        known = ~truth.isnan()
        filled = self.standardised(truth).where(known, torch.zeros_like(truth)).to(outputs)
        return self.losses(outputs, filled).where(known, outputs.new_zeros(()))

    def _weights(self, truth: Tensor, weights: Tensor | None) -> Tensor:
        known = (~truth.isnan()).to(torch.float32)
        return known if weights is None else known * weights

    def gain(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> tuple[float, float]:
        """Excess of the loss of constant outputs, and its error on the same jets."""
        w = self._weights(truth, weights).double()
        constant = self.constant.expand(len(truth), -1)
        gains = (self._losses(constant, truth) - self._losses(outputs, truth)).double()
        mean = (w * gains).sum() / w.sum()
        error = (w * (gains - mean)).square().sum().sqrt() / w.sum()
        return float(mean), float(error)

    def constant_loss(self, truth: Tensor, weights: Tensor | None = None) -> float:
        """Loss of the best constant outputs."""
        return float(self.mean_loss(self.constant.expand(len(truth), -1), truth, weights))

    def describe(self, data: Dataset) -> str:
        """Number of jets with the target, where some have none."""
        known = int((~self._values(data).isnan()).sum())
        return self.name if known == len(data) else f"{self.name} of {known:,}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": self.kind, "target": self.target.to_dict()}


class Regression(OfTarget):
    """Objective of a target that is a quantity, learned in standardised form."""

    @abstractmethod
    def standard(self, outputs: Tensor) -> Estimate:
        """Prediction of the standardised target."""

    def forward(self, outputs: Tensor) -> Estimate:
        """Prediction on the learned scale of the target."""
        return self.standard(outputs).scaled(self.target.scale, self.target.shift)

    def losses(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Loss (B,) of the prediction."""
        return self.standard(outputs).loss(truth)

    def standardised(self, truth: Tensor) -> Tensor:
        """Standardised values (B,)."""
        return self.target.standardised(truth)

    def _fit_target(self, values: Tensor) -> None:
        self.target = self.target.fitted(values)

    @property
    def metric_names(self) -> Sequence[str]:
        """Resolution."""
        return (f"val_resolution_{self.name}",)

    def metrics(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> dict[str, float]:
        """Half the width of the central 68 % of the differences, in the unit of the target."""
        known = ~truth.isnan()
        predicted = self.target.value(self(outputs[known].double()).mean)
        difference = predicted - truth[known].double()
        if not bool(difference.isfinite().all()):
            return {f"val_resolution_{self.name}": float("nan")}
        shares = self._weights(truth, weights)[known].double()
        low, high = weighted_quantiles(difference, shares, _ONE_SIGMA).tolist()
        return {f"val_resolution_{self.name}": (high - low) / 2}


def weighted_quantiles(values: Tensor, weights: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantiles (K,) of ``values (B,)`` with ``weights (B,)`` at levels.

    With equal weights they are those of ``torch.quantile``. Sums of weights that fall, as negative
    weights make them, are replaced by the largest sum before.
    """
    order = values.argsort()
    x, w = values[order], weights[order].to(values)
    sums = (w.cumsum(0) - w / 2).cummax(0).values
    start, stop = sums[0], sums[-1]
    at = start + values.new_tensor(list(levels)) * (stop - start)
    right = torch.searchsorted(sums, at).clamp(1, max(len(x) - 1, 1)).clamp(max=len(x) - 1)
    left = (right - 1).clamp(min=0)
    gap = (sums[right] - sums[left]).clamp(min=torch.finfo(x.dtype).tiny)
    return torch.lerp(x[left], x[right], ((at - sums[left]) / gap).clamp(0, 1))
