"""Quantiles of a quantity that do not cross, learned by the pinball loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.objectives.of_target import Regression, weighted_quantiles
from pcloud.objectives.predictions import Quantiles
from pcloud.objectives.specification import DEFAULT_LEVELS, check_levels
from pcloud.objectives.target import Target

__all__ = ["QuantileEstimate"]


class QuantileEstimate(Regression):
    """Quantiles of a target from one output each.

    The output in the middle is a quantile; the others are distances from one quantile to the next,
    positive by softplus, so that quantiles never cross.

    Parameters
    ----------
    target : Target
        The target.
    levels : sequence of float
        Levels K of the quantiles, in increasing order.
    index : int
        Position among the targets of a batch.

    References
    ----------
    Koenker and Bassett, *Regression quantiles*, Econometrica 46 (1978) 33.

    Examples
    --------
    >>> QuantileEstimate(Target("jet_mass"), [0.16, 0.5, 0.84]).num_outputs
    3
    """

    kind = "quantile"

    def __init__(
        self, target: Target, levels: Sequence[float] = DEFAULT_LEVELS, index: int = 0
    ) -> None:
        check_levels(levels, target.name)
        self.levels = tuple(levels)
        self.num_outputs = len(self.levels)
        super().__init__(target, index)

    @property
    def output_names(self) -> list[str]:
        """Name of each quantile."""
        return [f"{self.name}_q{level:g}" for level in self.levels]

    @property
    def _middle(self) -> int:
        return len(self.levels) // 2

    def standard(self, outputs: Tensor) -> Quantiles:
        """Quantiles (B, K) from the middle one and the distances between neighbours."""
        middle = self._middle
        centre = outputs[:, middle : middle + 1]
        distance = F.softplus(outputs)
        below = distance[:, :middle].flip(-1).cumsum(-1).flip(-1)
        above = distance[:, middle + 1 :].cumsum(-1)
        return Quantiles(self.levels, torch.cat([centre - below, centre, centre + above], dim=-1))

    def best_constant(self, truth: Tensor, weights: Tensor) -> Tensor:
        """Outputs of the quantiles of the sample."""
        found = weighted_quantiles(truth, weights, self.levels)
        distance = found.diff().clamp(min=1e-6)
        inverse = distance + (-torch.expm1(-distance)).log()  # of softplus
        middle = self._middle
        return torch.cat([inverse[:middle], found[middle : middle + 1], inverse[middle:]])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**super().to_dict(), "levels": list(self.levels)}
