"""Quantity with its uncertainty, learned by the Gaussian likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.objectives.of_target import Regression
from pcloud.objectives.predictions import Normal

__all__ = ["Gaussian"]

_MAX_LOG_SIGMA = 10.0  # in spreads of the target; the likelihood of a diverging sigma stays finite


class Gaussian(Regression):
    """Mean and standard deviation of a target from two outputs, the second its logarithm.

    References
    ----------
    Nix and Weigend, *Estimating the mean and variance of the target probability distribution*,
    IEEE ICNN (1994) 55; Kendall and Gal, https://arxiv.org/abs/1703.04977.

    Examples
    --------
    >>> from pcloud.objectives import Target
    >>> Gaussian(Target("jet_mass")).num_outputs
    2
    """

    kind = "gaussian"
    num_outputs = 2
    has_scale = False  # sigma is the scale

    @property
    def output_names(self) -> list[str]:
        """Names of mean and standard deviation."""
        return [self.name, f"{self.name}_sigma"]

    def standard(self, outputs: Tensor) -> Normal:
        """Mean and standard deviation (B,)."""
        mu, log_sigma = outputs.unbind(-1)
        return Normal(mu, log_sigma.clamp(-_MAX_LOG_SIGMA, _MAX_LOG_SIGMA).exp())

    def best_constant(self, truth: Tensor, weights: Tensor) -> Tensor:
        """Mean, and logarithm of the standard deviation."""
        mean = (weights * truth).sum() / weights.sum()
        variance = (weights * (truth - mean).square()).sum() / weights.sum()
        return torch.stack([mean, 0.5 * variance.clamp(min=1e-12).log()])
