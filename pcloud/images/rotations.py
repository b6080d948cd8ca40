"""The two cheap ways to do without a direction: turn the training images, average over turns."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.images.build import build_network
from pcloud.images.image_set import as_floating
from pcloud.models.registry import register_model

__all__ = ["Rotated", "RotationAverage", "rotate"]


def rotate(images: Tensor, angle: Tensor | float) -> Tensor:
    """Turn images anticlockwise about their middle, bilinearly, with zeros from outside.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        The images, uint8 or float.
    angle : Tensor, shape (B,), or float
        In rad.

    Returns
    -------
    Tensor, shape (B, C, H, W)
        Floating-point numbers. A turn by zero changes nothing, one of a square image by 90 degrees is ``torch.rot90`` up
        to rounding.
    """
    images = as_floating(images)
    height, width = images.shape[-2:]
    angle = torch.as_tensor(angle, dtype=images.dtype, device=images.device).expand(len(images))
    c, s = angle.cos(), angle.sin()
    zero = torch.zeros_like(c)
    # from coordinates of -1 to 1 to pixels, turned back with y downwards, and back again
    rows = [
        torch.stack([c, -s * height / width, zero], dim=-1),
        torch.stack([s * width / height, c, zero], dim=-1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


class RotationAverage(nn.Module):
    """Mean of the class probabilities of an image in several orientations.

    Parameters
    ----------
    model : torch.nn.Module
        ``model(images) -> logits (B, C)``.
    rotations : int
        Number of equidistant angles; with 4 the result is exactly invariant under quarter turns.
    """

    def __init__(self, model: nn.Module, rotations: int = 4) -> None:
        super().__init__()
        self.model = model
        self.rotations = rotations

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms (B, C) of the mean probabilities, whose softmax they are."""
        return _averaged(self.model, images, self.rotations)


@register_model(
    "rotated", paper="", year=2012, use="trains any network on turned images", kind="image"
)
class Rotated(nn.Module):
    """A network on images that is trained on randomly turned ones.

    Parameters
    ----------
    in_channels : int
        Colours of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    size : (int, int)
        Height and width of the images.
    network : str
        Name of the network.
    mirrors : bool
        Whether half of the training images are mirrored, too.
    average : int
        In evaluation, average over so many orientations; 1 takes the image as it is.
    **options
        Of the network.
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        *,
        size: tuple[int, int],
        network: str = "cnn",
        mirrors: bool = False,
        average: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.network = build_network(network, in_channels, num_outputs, size, **options)
        self.mirrors = mirrors
        self.average = average

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of ``images (B, in_channels, H, W)``."""
        if self.training:
            return self.network(self._turn(images))
        return _averaged(self.network, images, self.average)

    def _turn(self, images: Tensor) -> Tensor:
        uniform = torch.rand(2, len(images), device=images.device)
        turned = rotate(images, 2 * math.pi * uniform[0])
        if not self.mirrors:
            return turned
        mirrored = (uniform[1] < 0.5).view(-1, 1, 1, 1)
        return torch.where(mirrored, turned.flip(-1), turned)


def _averaged(model: nn.Module, images: Tensor, rotations: int) -> Tensor:
    if rotations == 1:
        return model(images)
    angles = [2 * math.pi * i / rotations for i in range(rotations)]
    logs = [model(_turned(images, angle)).log_softmax(dim=-1) for angle in angles]
    return torch.logsumexp(torch.stack(logs), dim=0) - math.log(rotations)


def _turned(images: Tensor, angle: float) -> Tensor:
    """By quarter turns without rounding."""
    quarters, rest = divmod(angle / (math.pi / 2), 1)
    return rotate(images, angle) if rest else torch.rot90(images, int(quarters), (-2, -1))
