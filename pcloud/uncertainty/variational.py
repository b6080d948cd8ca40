"""Mean-field Bayesian head: a Gaussian for every weight of the last layer, trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MeanFieldHead"]


class MeanFieldHead(nn.Module):
    """Linear map to logits whose weights are independent Gaussians.

    The softmax does not know a shift of all logits. Gaussians for it too would, being independent
    of the others, double the variance of the log-odds of two classes: so it is left out, and the
    weights live in the C - 1 orthonormal combinations of classes that add up to 0.

    Trained by the evidence lower bound, the expected loss plus the Kullback-Leibler divergence from
    the prior, a Gaussian about 0 whose variance is learned along: at every step that which makes
    the divergence smallest.

    Parameters
    ----------
    weight : Tensor, shape (C, K)
        Means at the start, such as the trained weights; the bias is the weight of a feature 1.
    prior_precision : float
        Inverse variance of the prior; 0 to learn it.
    deviation : float
        Standard deviation of all weights at the start.

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
        """Logits (B, C) of ``features (B, K)``, a draw of the weights for each jet.

        `noise` (B, C - 1) is standard normal: sums of Gaussians are Gaussians, so that one number for
        each logit does for all weights behind it.
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
            Means at the start.
        features : Tensor, shape (n, K)
            Inputs of the head, a column of ones for the bias among them.
        labels : Tensor, shape (n,)
            Classes.
        prior_precision : float
            Of the prior; 0 to learn it.
        steps, batch_size, lr : int, int, float
            Of Adam; the rate falls to zero along a cosine.
        seed : int
            Of batches and draws.
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
        """Logits drawn from the posterior, (number, B, C), of ``features (B, K)``.

        Drawn are weights, common to all jets.
        """
        noise = torch.randn(number, *self.mean.shape, generator=generator, dtype=self.mean.dtype)
        weights = self.basis @ (self.mean + self.log_deviation.exp() * noise)
        return torch.einsum("bk,mck->mbc", features, weights)


def _zero_sum(classes: int) -> Tensor:
    """Orthonormal basis of the vectors that add up to 0, (C, C - 1)."""
    first = torch.ones(classes, 1, dtype=torch.float64)
    rest = torch.eye(classes, dtype=torch.float64)[:, 1:]
    return torch.linalg.qr(torch.cat([first, rest], dim=1)).Q[:, 1:]
