"""Variational autoencoder of vectors, with the class as condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.generative.vectors import VectorGenerator

__all__ = ["VAE"]

_MAX_LOG_VARIANCE = 10.0
_USED = 0.01  # nats of a component of the code, below which it carries nothing


class VAE(VectorGenerator):
    """Variational autoencoder.

    The loss is the negative lower bound of the log-likelihood: the reconstruction error and the
    Kullback-Leibler divergence of the code from a Gaussian. For components from 0 to 1 the
    reconstruction error is the cross-entropy; for others the Gaussian likelihood with one learned
    width, so that the two terms have their weights by themselves.

    Parameters
    ----------
    size, num_labels, code, widths, bounded
        As for :class:`~pcloud.generative.vectors.VectorGenerator`.
    beta : float
        Factor of the divergence.
    warm_up : int
        Number of steps in which this factor grows from 0, so that the decoder learns to use the code.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114; Rybkin,
    Daniilidis and Levine, Simple and Effective VAE Training with Calibrated Decoders,
    https://arxiv.org/abs/2006.13202.
    """

    def __init__(
        self,
        size: int,
        num_labels: int = 0,
        *,
        beta: float = 1.0,
        warm_up: int = 500,
        **options: Any,
    ) -> None:
        super().__init__(size, num_labels, **options)
        if beta < 0:
            raise InputError(f"beta must be at least 0, got {beta:g}")
        self.beta = beta
        self.warm_up = warm_up
        self._taken = 0
        self.encoder = self.network(size, 2 * self.code)
        self.decoder = self.network(self.code, size)
        self.log_width = nn.Parameter(torch.zeros(()))

    def decode(self, code: Tensor, label: Tensor) -> Tensor:
        """Means (B, F) of vectors from a code."""
        found = self.decoder(self.with_class(code, label))
        return found.sigmoid() if self.bounded else found

    @torch.no_grad()
    def sample(self, label: Tensor, seed: int = 0) -> Tensor:
        """Vectors (B, F) of the classes ``label (B,)``; without bounds with the learned width."""
        mean = super().sample(label, seed)
        if self.bounded:
            return mean
        generator = torch.Generator().manual_seed(seed + 1)
        return mean + self.log_width.exp() * torch.randn(mean.shape, generator=generator)

    def posterior(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance (B, K) of the code of vectors."""
        mean, log_variance = self.encoder(self.with_class(x, label)).chunk(2, dim=-1)
        return mean, log_variance.clamp(-_MAX_LOG_VARIANCE, _MAX_LOG_VARIANCE)

    def divergence(self, x: Tensor, label: Tensor) -> Tensor:
        """Kullback-Leibler divergence (B, K) of each component of the code, in nats."""
        mean, log_variance = self.posterior(x, label)
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction error (B,) and divergence (B,) of vectors ``x (B, F)``."""
        mean, log_variance = self.posterior(x, label)
        code = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        found = self.decoder(self.with_class(code, label))
        if self.bounded:
            error = F.binary_cross_entropy_with_logits(found, x, reduction="none")
        else:
            pull = (x - found) * (-self.log_width).exp()
            error = 0.5 * pull.square() + self.log_width + 0.5 * math.log(2 * math.pi)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        return error.sum(-1), divergence.sum(-1)

    def unused(self, x: Tensor, label: Tensor) -> int:
        """Number of components of the code that carry nothing (posterior collapse)."""
        with torch.no_grad():
            return int((self.divergence(x, label).mean(0) < _USED).sum())

    def optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Adam."""
        return [torch.optim.Adam(self.parameters(), lr)]

    def step(
        self, x: Tensor, label: Tensor, optimizers: Sequence[torch.optim.Optimizer]
    ) -> dict[str, float]:
        """Train on a batch."""
        error, divergence = (values.mean() for values in self(x, label))
        loss = error + self.beta * divergence
        self._taken += 1
        share = min(1.0, self._taken / max(self.warm_up, 1))
        optimizers[0].zero_grad()
        (error + share * self.beta * divergence).backward()
        optimizers[0].step()
        return {"loss": loss.item(), "error": error.item(), "divergence": divergence.item()}
