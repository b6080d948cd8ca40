"""Metrics of the training batches of an epoch: losses and accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pcloud.nn.numerics.ranks import is_spread, sum_over_ranks

__all__ = ["RunningMetrics"]


class RunningMetrics:
    """Mean losses and accuracy of the batches so far, summed on the device without waiting for it."""

    def __init__(self) -> None:
        self.jets = 0
        self.loss: Tensor | float = 0.0
        self.correct: Tensor | float = 0
        self.weight: Tensor | float = 0.0
        self.parts: dict[str, Tensor | float] = {}

    @torch.no_grad()
    def update(
        self,
        loss: Tensor,
        logits: Tensor | None,
        labels: Tensor,
        weights: Tensor | None = None,
        parts: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        loss : Tensor, shape ()
            Mean loss.
        logits : Tensor, shape (B, C), optional
            Logits of the classes; None without classes.
        labels : Tensor, shape (B,)
            Classes, or other true values.
        weights : Tensor, shape (B,), optional
            Weights of the jets.
        parts : mapping of str to Tensor, optional
            Mean loss () of each of several objectives.
        """
        self.jets += len(labels)
        exact = torch.float32 if loss.device.type == "mps" else torch.float64
        self.loss = self.loss + loss.to(exact) * len(labels)
        for name, part in (parts or {}).items():
            self.parts[name] = self.parts.get(name, 0.0) + part.detach().to(exact) * len(labels)
        if logits is None:
            return
        correct = logits.argmax(dim=-1) == labels
        if weights is None:
            self.correct = self.correct + correct.sum()
        else:
            self.correct = self.correct + (correct * weights).to(exact).sum()
            self.weight = self.weight + weights.to(exact).sum()

    def over_ranks(self) -> RunningMetrics:
        """Sums of all ranks."""
        if not is_spread():
            return self
        names = sorted(self.parts)
        values = [self.jets, self.loss, self.correct, self.weight, *(self.parts[n] for n in names)]
        device = self.loss.device if isinstance(self.loss, Tensor) else torch.device("cpu")
        sums = torch.tensor([float(value) for value in values], dtype=torch.float64, device=device)
        found = RunningMetrics()
        jets, loss, correct, weight, *parts = sum_over_ranks(sums).tolist()
        found.jets, found.loss, found.correct, found.weight = round(jets), loss, correct, weight
        found.parts = dict(zip(names, parts, strict=True))
        return found

    def compute(self) -> tuple[float, float]:
        """Mean loss and accuracy; NaN before the first batch."""
        if self.jets == 0:
            return float("nan"), float("nan")
        return float(self.loss) / self.jets, float(self.correct) / (float(self.weight) or self.jets)

    def losses(self) -> dict[str, float]:
        """Mean loss of each of several objectives."""
        return {name: float(part) / self.jets for name, part in self.parts.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        state: dict[str, Any] = {"jets": self.jets, "loss": float(self.loss)}
        state["correct"] = float(self.correct)
        if self.parts:
            state["parts"] = {name: float(part) for name, part in self.parts.items()}
        if not float(self.weight):
            return {**state, "correct": int(self.correct)}
        return {**state, "weight": float(self.weight)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.jets, self.loss, self.correct = state["jets"], state["loss"], state["correct"]
        self.weight = state.get("weight", 0.0)
        self.parts = dict(state.get("parts", {}))
