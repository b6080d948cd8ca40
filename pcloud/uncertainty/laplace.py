"""Laplace approximation of the last layer: a Gaussian posterior of its weights in closed form."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.errors import InputError

__all__ = ["LaplaceHead", "softmax_hessian"]


@dataclass
class LaplaceHead:
    """Gaussian posterior of a linear softmax head around its trained weights.

    The loss is convex in the weights and its Hessian has a closed form, so that the Gaussian form
    is the only approximation. The prior is a Gaussian around 0 with the same variance for all
    weights and biases.

    Parameters
    ----------
    weight : Tensor, shape (C, K)
        Trained weights, the bias as the weight of a feature that is 1.
    hessian : Tensor, shape (C K, C K)
        Hessian of the summed loss, see :func:`softmax_hessian`.
    loss : float
        Summed cross entropy of the training jets.
    prior_precision : float, optional
        Inverse variance of the prior; by default the one with the largest marginal likelihood.

    References
    ----------
    MacKay, Neural Comput. 4 (1992) 448 and 720; Kristiadi, Hein and Hennig, Being Bayesian, Even
    Just a Bit, https://arxiv.org/abs/2002.10118; Daxberger et al., Laplace Redux,
    https://arxiv.org/abs/2106.14806.
    """

    weight: Tensor
    hessian: Tensor
    loss: float
    prior_precision: float = 0.0
    _values: Tensor = field(init=False, repr=False)
    _vectors: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values, self._vectors = torch.linalg.eigh(self.hessian)
        self._values = values.clamp(min=0)
        if self.prior_precision < 0:
            raise InputError(f"prior_precision must be positive, got {self.prior_precision}")
        if self.prior_precision == 0:
            self.prior_precision = self._best_precision()

    @classmethod
    def fit(
        cls, weight: Tensor, features: Tensor, labels: Tensor, prior_precision: float = 0.0
    ) -> LaplaceHead:
        """Compute the posterior given training jets.

        Parameters
        ----------
        weight : Tensor, shape (C, K)
            Trained weights.
        features : Tensor, shape (n, K)
            Inputs of the head, a column of ones for the bias among them.
        labels : Tensor, shape (n,)
            Classes.
        prior_precision : float
            Inverse variance of the prior; 0 for the one with the largest marginal likelihood.
        """
        logits = features @ weight.T
        loss = float(F.cross_entropy(logits, labels, reduction="sum"))
        return cls(weight, softmax_hessian(features, logits.softmax(-1)), loss, prior_precision)

    def log_evidence(self, prior_precision: float) -> float:
        """Logarithm of the marginal likelihood of the training labels.

        It compares priors of one network, and networks that end in a linear layer. The default
        `prior_precision` maximises it.

        Parameters
        ----------
        prior_precision : float
            Inverse variance of the prior.
        """
        square = float(self.weight.square().sum())
        log_determinant = float((self._values / prior_precision + 1).log().sum())
        return -self.loss - (prior_precision * square + log_determinant) / 2

    def covariance(self) -> Tensor:
        """Posterior covariance of the weights, (C K, C K)."""
        return (self._vectors / (self._values + self.prior_precision)) @ self._vectors.T

    def logit_covariance(self, features: Tensor) -> Tensor:
        """Covariance of the logits of each jet, (B, C, C), from ``features (B, K)``."""
        classes, width = self.weight.shape
        roots = self._vectors / (self._values + self.prior_precision).sqrt()
        roots = roots.view(classes, width, -1)
        half = torch.einsum("bk,ckd->bcd", features, roots)
        return half @ half.mT

    def sample(self, features: Tensor, number: int, generator: torch.Generator) -> Tensor:
        """Draw logits from the posterior, (number, B, C), for ``features (B, K)``.

        Each draw of the weights is common to all jets, so that similar jets are correlated.
        """
        noise = torch.randn(
            self.weight.numel(), number, generator=generator, dtype=self.weight.dtype
        )
        roots = self._vectors / (self._values + self.prior_precision).sqrt()
        weights = self.weight + (roots @ noise).T.view(number, *self.weight.shape)
        return torch.einsum("bk,mck->mbc", features, weights)

    def __repr__(self) -> str:
        """Size of the head and precision of the prior."""
        num_outputs, width = self.weight.shape
        return (
            f"LaplaceHead({num_outputs} outputs, {width} inputs, "
            f"prior precision {self.prior_precision:.3g})"
        )

    def _best_precision(self) -> float:
        """Prior precision with the largest evidence, which has one maximum (MacKay's fixed point)."""
        precision = 1.0
        square = max(float(self.weight.square().sum()), 1e-12)
        for _ in range(200):
            determined = float((self._values / (self._values + precision)).sum())
            new = max(determined, 1e-6) / square
            if abs(new / precision - 1) < 1e-8:
                break
            precision = new
        return precision


def softmax_hessian(features: Tensor, p: Tensor) -> Tensor:
    """Hessian of the summed cross entropy in the weights of a linear map to logits.

    It is ``sum_n (diag(p_n) - p_n p_n^T) (x) (f_n f_n^T)`` and does not depend on the labels.

    Parameters
    ----------
    features : Tensor, shape (n, K)
        Inputs of the map.
    p : Tensor, shape (n, C)
        Probabilities from the map.

    Returns
    -------
    Tensor, shape (C K, C K)
    """
    classes = p.shape[1]
    width = features.shape[1]
    hessian = features.new_zeros(classes, width, classes, width)
    for c in range(classes):
        for d in range(c + 1):
            curvature = p[:, c] * (float(c == d) - p[:, d])
            block = features.T @ (curvature.unsqueeze(1) * features)
            hessian[c, :, d] = hessian[d, :, c] = block
    return hessian.view(classes * width, classes * width)
