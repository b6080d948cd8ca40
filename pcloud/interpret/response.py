"""Response of a network that is attributed, one number per jet or image, and its completeness."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.images.jet_images import JetImages

__all__ = ["CompletenessMixin", "check_momenta", "log_odds", "sees_features"]


def log_odds(logits: Tensor, target: int = 1) -> Tensor:
    """Log-odds ``log(p / (1 - p))`` of a class, (B,), from ``logits (B, C)``.

    For two classes it is the difference of the logits. Unlike a logit it does not depend on a
    constant added to all logits, and unlike a probability it does not saturate.

    Raises
    ------
    InputError
        If there is no such class.
    """
    classes = logits.shape[1]
    if not 0 <= target < classes:
        raise InputError(f"no class {target}: the network has classes 0 to {classes - 1}")
    others = [c for c in range(classes) if c != target]
    return logits[:, target] - torch.logsumexp(logits[:, others], dim=1)


def sees_features(model: nn.Module, x: Tensor, p4: Tensor, *others: Any) -> bool:
    """Return True if the response depends on the features ``x (N, F)`` of the particles.

    `others` are the further arguments of the network.
    """
    x = x.detach().requires_grad_()
    out = model(x, p4, *others)
    if not out.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(out.sum(), x, allow_unused=True)
    return gradient is not None


def check_momenta(model: nn.Module) -> None:
    """Check that the response of a network is a continuous function of the momenta.

    Raises
    ------
    InputError
        If the network uses images of jets. Its response is discontinuous where a particle moves
        from one pixel to the next, and does not depend on the position inside a pixel.
    """
    if any(isinstance(module, JetImages) for module in model.modules()):
        raise InputError(
            "the response of a network on jet images is discontinuous where a particle moves from "
            "one pixel to the next, so that derivatives by momenta are not meaningful: attribute "
            "it to pixels, by pcloud explain with the methods saliency, integrated_gradients, "
            "smoothgrad or occlusion, or from Python by "
            "pcloud.interpret.attribution_images.attribute_images"
        )


class CompletenessMixin:
    """Completeness of an attribution: its sum is a change of the response if it has a baseline."""

    method: str
    response: NDArray[np.floating]
    baseline: NDArray[np.floating] | None

    @property
    def total(self) -> NDArray[np.floating]:
        """Sum of the attributions of each jet or image, (B,)."""
        raise NotImplementedError

    @property
    def gap(self) -> NDArray[np.floating]:
        """Change of the response minus the sum of the attributions, (B,).

        It is zero if integrated gradients are complete.

        Raises
        ------
        InputError
            For other methods, which are not complete.
        """
        if self.baseline is None:
            raise InputError(
                f"{self.method} has no baseline: only integrated gradients are complete"
            )
        return self.response - self.baseline - self.total
