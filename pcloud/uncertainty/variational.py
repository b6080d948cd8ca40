"""Mean-field Bayesian head: an independent Gaussian for every weight of the last layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MeanFieldHead"]


class MeanFieldHead(nn.Module):
    """Linear map to logits whose weights are independent Gaussians.

    The softmax does not depend on a common shift of all logits. Independent Gaussians for this
    direction, too, would double the variance of the log-odds of two classes. It is therefore
    excluded: the weights are those of the C - 1 orthonormal combinations of classes that add up
    to 0.

    The training minimises the negative evidence lower bound: the expected loss plus the
    Kullback-Leibler divergence from the prior, a Gaussian around 0. If its variance is learned, it
    is at every step the one with the smallest divergence.

    Parameters
    ----------
    weight : Tensor, shape (C, K)
        Initial means, such as the trained weights; the bias is the weight of a feature that is 1.
    prior_precision : float
        Inverse variance of the prior; 0 to learn it.
    deviation : float
        Initial standard deviation of all weights.

    References
    ----------
    Blundell et al., https://arxiv.org/abs/1505.05424; Kingma, Salimans and Welling (local
    reparametrisation), https://arxiv.org/abs/1506.02557.
    """

    basis: Tensor

    def __init__(
        self, weight: Tensor, prior_precision: float = 0.0, deviation: float = 0.05
    ) -> None:
        super().__init__()
        self.register_buffer("basis", _zero_sum(len(weight)).to(weight))
        self.mean = nn.Parameter(self.basis.T @ weight)
        self.log_deviation = nn.Parameter(torch.full_like(self.mean, math.log(deviation)))
        self.prior_precision = prior_precision

    def logits(self, features: Tensor, noise: Tensor) -> Tensor:
        """Logits (B, C) of ``features (B, K)``, with one draw of the weights for each jet.

        `noise` (B, C - 1) is standard normal. A sum of Gaussians is a Gaussian, so that one random
        number for each logit replaces those of its weights (local reparametrisation).
        """
        variance = features.square() @ (2 * self.log_deviation).exp().T
        drawn = features @ self.mean.T + variance.clamp(min=1e-20).sqrt() * noise
        return drawn @ self.basis.T

    def divergence(self) -> Tensor:
        """Kullback-Leibler divergence of the posterior from the prior, ()."""
        square = self.mean.square() + (2 * self.log_deviation).exp()
        precision = self.prior_precision or 1 / float(square.detach().mean())
        log_precision = math.log(precision)
        return (precision * square - 1 - log_precision - 2 * self.log_deviation).sum() / 2

    @classmethod
    def fit(
        cls,
        weight: Tensor,
        features: Tensor,
        labels: Tensor,
        *,
        prior_precision: float = 0.0,
        steps: int = 2000,
        batch_size: int = 1024,
        lr: float = 0.01,
        seed: int = 0,
    ) -> MeanFieldHead:
        """Train a head on features of training jets.

        Parameters
        ----------
        weight : Tensor, shape (C, K)
            Initial means.
        features : Tensor, shape (n, K)
            Inputs of the head, a column of ones for the bias among them.
        labels : Tensor, shape (n,)
            Classes.
        prior_precision : float
            Inverse variance of the prior; 0 to learn it.
        steps : int
            Number of steps of Adam.
        batch_size : int
            Jets per step.
        lr : float
            Initial learning rate, which decreases to zero along a cosine.
        seed : int
            Seed of the batches and of the draws.
        """
        head = cls(weight, prior_precision)
        optimizer = torch.optim.Adam(head.parameters(), lr=lr)
        generator = torch.Generator().manual_seed(seed)
        number = len(features)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
            rows = torch.randint(number, (min(batch_size, number),), generator=generator)
            if number <= batch_size:
                rows = torch.arange(number)
            shape = len(rows), len(weight) - 1
            noise = torch.randn(shape, generator=generator, dtype=weight.dtype)
            loss = F.cross_entropy(head.logits(features[rows], noise), labels[rows])
            bound = number * loss + head.divergence()
            optimizer.zero_grad()
            bound.backward()
            optimizer.step()
        return head

    @torch.no_grad()
    def sample(self, features: Tensor, number: int, generator: torch.Generator) -> Tensor:
        """Draw logits from the posterior, (number, B, C), for ``features (B, K)``.

        Each draw of the weights is common to all jets.
        """
        noise = torch.randn(number, *self.mean.shape, generator=generator, dtype=self.mean.dtype)
        weights = self.basis @ (self.mean + self.log_deviation.exp() * noise)
        return torch.einsum("bk,mck->mbc", features, weights)


def _zero_sum(classes: int) -> Tensor:
    """Orthonormal basis of the vectors that add up to 0, (C, C - 1)."""
    first = torch.ones(classes, 1, dtype=torch.float64)
    rest = torch.eye(classes, dtype=torch.float64)[:, 1:]
    return torch.linalg.qr(torch.cat([first, rest], dim=1)).Q[:, 1:]
