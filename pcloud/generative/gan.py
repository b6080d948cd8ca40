"""Generative adversarial network of vectors: as in the textbook, and Wasserstein with gradient penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.errors import InputError, UnknownNameError
from pcloud.generative.vectors import VectorGenerator

__all__ = ["GAN"]

_KINDS = ("textbook", "wasserstein")


class GAN(VectorGenerator):
    """Generator and discriminator that are trained against each other.

    In the textbook form the discriminator gives the probability that a vector is real, and the
    generator raises that of its vectors. Where neither can improve, it is 0.5 for both. In the
    Wasserstein form a critic estimates the Wasserstein distance of generated and real vectors; a
    penalty keeps its gradient near 1, and it takes several steps for one of the generator.

    Parameters
    ----------
    size, num_labels, code, widths, bounded
        As for :class:`~pcloud.generative.vectors.VectorGenerator`.
    kind : {"textbook", "wasserstein"}
        Loss.
    penalty : float
        Factor of the gradient penalty; the paper takes 10 for images.
    critic_steps : int
        Number of steps of the critic for one of the generator, in the Wasserstein form.

    References
    ----------
    Goodfellow et al., Generative Adversarial Networks, https://arxiv.org/abs/1406.2661; Gulrajani et
    al., Improved Training of Wasserstein GANs, https://arxiv.org/abs/1704.00028.
    """

    def __init__(
        self,
        size: int,
        num_labels: int = 0,
        *,
        kind: str = "textbook",
        penalty: float = 1.0,
        critic_steps: int = 5,
        **options: Any,
    ) -> None:
        super().__init__(size, num_labels, **options)
        if kind not in _KINDS:
            raise UnknownNameError("kind of GAN", kind, _KINDS)
        if penalty < 0 or critic_steps < 1:
            raise InputError(
                f"penalty must be at least 0 and critic_steps at least 1, got {penalty:g} and "
                f"{critic_steps}"
            )
        self.kind = kind
        self.penalty = penalty
        self.critic_steps = critic_steps
        self.generator = self.network(self.code, size)
        self.discriminator = self.network(size, 1)
        self._taken = 0

    def decode(self, code: Tensor, label: Tensor) -> Tensor:
        """Vectors (B, F) from random numbers."""
        found = self.generator(self.with_class(code, label))
        return found.sigmoid() if self.bounded else found

    def criticise(self, x: Tensor, label: Tensor) -> Tensor:
        """Log-odds that vectors are real (B,), or their value for the critic."""
        return self.discriminator(self.with_class(x, label)).squeeze(-1)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Probabilities that vectors are real (B,), in the textbook form."""
        return self.criticise(x, label).sigmoid()

    def optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Adam of the generator and of the discriminator, with less momentum than usual."""
        parts = (self.generator, self.discriminator)
        return [torch.optim.Adam(part.parameters(), lr, betas=(0.5, 0.9)) for part in parts]

    def step(
        self, x: Tensor, label: Tensor, optimizers: Sequence[torch.optim.Optimizer]
    ) -> dict[str, float]:
        """Train the discriminator on a batch, and the generator with its next vectors."""
        of_generator, of_discriminator = optimizers
        made = self.decode(torch.randn(len(x), self.code), label)
        loss, found = self._discriminator_loss(x, made.detach(), label)
        of_discriminator.zero_grad()
        loss.backward()
        of_discriminator.step()
        self._taken += 1
        if self.kind == "textbook" or self._taken % self.critic_steps == 0:
            made = self.decode(torch.randn(len(x), self.code), label)
            values = self.criticise(made, label)
            lost = -values.mean() if self.kind == "wasserstein" else F.softplus(-values).mean()
            of_generator.zero_grad()
            lost.backward()
            of_generator.step()
        return {"discriminator loss": loss.item(), **found}

    def _discriminator_loss(
        self, x: Tensor, made: Tensor, label: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        real, fake = self.criticise(x, label), self.criticise(made, label)
        if self.kind == "textbook":
            loss = F.softplus(-real).mean() + F.softplus(fake).mean()
            means = {"real": real.sigmoid().mean(), "generated": fake.sigmoid().mean()}
            return loss, {name: value.item() for name, value in means.items()}
        distance = real.mean() - fake.mean()
        share = torch.rand(len(x), 1)
        between = (share * x + (1 - share) * made).requires_grad_()
        (slope,) = torch.autograd.grad(
            self.criticise(between, label).sum(), between, create_graph=True
        )
        penalty = (slope.norm(dim=-1) - 1).square().mean()
        return self.penalty * penalty - distance, {"distance": distance.item()}
