"""The number that is explained, one per jet or image, and how much of it an attribution covers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.images.jet_images import JetImages

__all__ = ["CompletenessMixin", "check_momenta", "log_odds", "sees_features"]


def log_odds(logits: Tensor, target: int = 1) -> Tensor:
    """Logarithm of p / (1 - p) of a class, (B,), from ``logits (B, C)``.

    Of two classes the difference of the logits. Unlike a logit it does not change when the network
    adds the same number to all of them, and unlike a probability it does not saturate.

    Raises
    ------
    InputError
        If there is no such class.
    """
    classes = logits.shape[1]
    if not 0 <= target < classes:
        raise InputError(f"no class {target}: the network knows classes 0 to {classes - 1}")
    others = [c for c in range(classes) if c != target]
    return logits[:, target] - torch.logsumexp(logits[:, others], dim=1)


def sees_features(model: nn.Module, x: Tensor, p4: Tensor, batch: Tensor) -> bool:
    """Whether the response depends on the features ``x (N, F)`` of the particles."""
    x = x.detach().requires_grad_()
    out = model(x, p4, batch)
    if not out.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(out.sum(), x, allow_unused=True)
    return gradient is not None


def check_momenta(model: nn.Module) -> None:
    """Make sure that derivatives by momenta say how the response changes with them.

    Raises
    ------
    InputError
        If the network makes images of jets: its response jumps where a particle passes from one
        pixel to the next, and between the jumps it does not know where in the pixel a particle is.
    """
    if any(isinstance(module, JetImages) for module in model.modules()):
        raise InputError(
            "the response of a network on jet images jumps where a particle passes from one pixel "
            "to the next, of which derivatives know nothing: explain it by the methods saliency, "
            "integrated_gradients, smoothgrad or occlusion of pcloud explain, which attribute to "
            "pixels, or from Python by pcloud.interpret.attribution_images.attribute_images"
        )


class CompletenessMixin:
    """An attribution that adds up to a change of the response, if it has a baseline."""

    method: str
    response: NDArray[np.floating]
    baseline: NDArray[np.floating] | None

    @property
    def total(self) -> NDArray[np.floating]:
        """Sum of the attributions of each jet or image, (B,)."""
        raise NotImplementedError

    @property
    def gap(self) -> NDArray[np.floating]:
        """Change of the response that integrated gradients do not account for, (B,).

        Zero if they are complete.

        Raises
        ------
        InputError
            For any other method, which promises nothing of the kind.
        """
        if self.baseline is None:
            raise InputError(
                f"{self.method} has no baseline: only integrated gradients are complete"
            )
        return self.response - self.baseline - self.total
