"""Label that a jet has or does not have, one of several that may hold at once."""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.errors import InputError
from pcloud.modality import Dataset
from pcloud.objectives.classes import mean_auc
from pcloud.objectives.of_target import OfTarget
from pcloud.objectives.predictions import Bernoulli

__all__ = ["Label"]

_TINY = 1e-12


class Label(OfTarget):
    """Probability of a label from one output, its log-odds, learned by the cross-entropy.

    Examples
    --------
    >>> from pcloud.objectives import Target
    >>> Label(Target("has_muon")).num_outputs
    1
    """

    kind = "binary"

    @property
    def output_names(self) -> list[str]:
        """Name of the label."""
        return [self.name]

    def forward(self, outputs: Tensor) -> Bernoulli:
        """Probability (B,) of the label."""
        return Bernoulli(outputs[:, 0])

    def losses(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy (B,)."""
        return self(outputs).loss(truth)

    def best_constant(self, truth: Tensor, weights: Tensor) -> Tensor:
        """Log-odds of the fraction of jets with the label."""
        fraction = (weights * truth).sum() / weights.sum()
        return fraction.clamp(_TINY, 1 - _TINY).logit().reshape(1)

    def check(self, data: Dataset, whose: str) -> None:
        """Check that the label is 0 or 1."""
        super().check(data, whose)
        values = self._values(data)
        wrong = ~(values.isnan() | (values == 0) | (values == 1))
        if bool(wrong.any()):
            first = int(wrong.nonzero()[0])
            raise InputError(
                f"label {self.name!r} is {float(values[first]):g} for jet {first} of the {whose}: "
                "a binary target is 0 or 1, or NaN where it is not known"
            )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Area under the ROC curve."""
        return (f"val_auc_{self.name}",)

    def metrics(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> dict[str, float]:
        """Area under the ROC curve of jets whose label is known."""
        known = ~truth.isnan()
        logits = torch.cat([torch.zeros_like(outputs), outputs], dim=-1)[known]
        of_jets = None if weights is None else weights[known]
        return {f"val_auc_{self.name}": mean_auc(logits, truth[known].long(), of_jets)}
