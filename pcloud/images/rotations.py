"""Rotations of images: augmentation in the training, and averages over orientations."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError, UnknownNameError
from pcloud.images.build import build_network
from pcloud.images.image_set import as_floating
from pcloud.models.registry import register_model

__all__ = ["Rotated", "RotationAverage", "rotate"]


def rotate(images: Tensor, angle: Tensor | float) -> Tensor:
    """Rotate images anticlockwise about their centre, with bilinear interpolation.

    Pixels from outside the image are zero.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Images, uint8 or float.
    angle : Tensor, shape (B,), or float
        Angle in rad.

    Returns
    -------
    Tensor, shape (B, C, H, W)
        Floating-point images. A rotation by zero does not change an image. A rotation of a square
        image by 90 degrees is equal to ``torch.rot90`` up to rounding.

    Examples
    --------
    >>> image = torch.zeros(1, 1, 3, 3)
    >>> image[0, 0, 0, 0] = 1
    >>> rotate(image, 0.0).sum()
    tensor(1.)
    """
    images = as_floating(images)
    height, width = images.shape[-2:]
    angle = torch.as_tensor(angle, dtype=images.dtype, device=images.device).expand(len(images))
    c = angle.cos()
    s = angle.sin()
    zero = torch.zeros_like(c)
    # inverse rotation in pixels, with y downwards, in coordinates from -1 to 1
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
        Network ``model(images) -> logits (B, C)``.
    rotations : int
        Number of equidistant angles. With 4 the result is exactly invariant under rotations by 90
        degrees.
    """

    def __init__(self, model: nn.Module, rotations: int = 4) -> None:
        super().__init__()
        self.model = model
        self.rotations = rotations

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms (B, C) of the mean probabilities, which are valid logits."""
        return _averaged(self.model, images, self.rotations)


@register_model(
    "rotated",
    paper="",
    year=2012,
    use="training of any network on rotated or shifted images",
    kind="image",
)
class Rotated(nn.Module):
    """Network on images that is trained on randomly rotated images.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    size : (int, int)
        Height and width of the images.
    network : str
        Name of the network.
    angles : {"any", "quarter", "none"}
        Rotations of training images: by any angle, by multiples of 90 degrees, or none.
    mirrors : bool
        Reflect half of the training images, too.
    shift : int
        Largest shift of training images in pixels, along both axes.
    average : int
        Number of orientations over which the probabilities are averaged in evaluation mode; 1 for
        the original image alone.
    **options
        Options of the network.
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        *,
        size: tuple[int, int],
        network: str = "cnn",
        angles: Literal["any", "quarter", "none"] = "any",
        mirrors: bool = False,
        shift: int = 0,
        average: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.network = build_network(network, in_channels, num_outputs, size, **options)
        if angles not in _TURNS:
            raise UnknownNameError("set of angles", angles, _TURNS)
        if not 0 <= shift < min(size):
            raise InputError(f"shift must be from 0 to {min(size) - 1} pixels, got {shift}")
        self.turn = _TURNS[angles]
        self.mirrors = mirrors
        self.shift = shift
        self.average = average

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of ``images (B, in_channels, H, W)``."""
        if self.training:
            return self.network(self._augment(images))
        return _averaged(self.network, images, self.average)

    def _augment(self, images: Tensor) -> Tensor:
        uniform = torch.rand(2, len(images), device=images.device)
        changed = self.turn(images, uniform[0])
        if self.mirrors:
            mirrored = (uniform[1] < 0.5).view(-1, 1, 1, 1)
            changed = torch.where(mirrored, changed.flip(-1), changed)
        return _shifted(changed, self.shift) if self.shift else changed


def _any_turn(images: Tensor, uniform: Tensor) -> Tensor:
    return rotate(images, 2 * math.pi * uniform)


def _quarter_turn(images: Tensor, uniform: Tensor) -> Tensor:
    turns = (4 * uniform).long().view(-1, 1, 1, 1)
    changed = images
    for turn in (1, 2, 3):
        changed = torch.where(turns == turn, torch.rot90(images, turn, (-2, -1)), changed)
    return changed


def _no_turn(images: Tensor, uniform: Tensor) -> Tensor:
    return images


_TURNS = {"any": _any_turn, "quarter": _quarter_turn, "none": _no_turn}


def _shifted(images: Tensor, shift: int) -> Tensor:
    """Images moved by up to `shift` pixels along both axes; black comes in at the borders."""
    number, _, height, width = images.shape
    moves = torch.randint(0, 2 * shift + 1, (2, number, 1), device=images.device)
    padded = F.pad(images, (shift,) * 4)
    rows = moves[0] + torch.arange(height, device=images.device)  # (B, H)
    columns = moves[1] + torch.arange(width, device=images.device)  # (B, W)
    index = torch.arange(number, device=images.device).view(-1, 1, 1)
    moved = padded.movedim(1, -1)[index, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return moved.movedim(-1, 1)


def _averaged(model: nn.Module, images: Tensor, rotations: int) -> Tensor:
    if rotations == 1:
        return model(images)
    angles = [2 * math.pi * i / rotations for i in range(rotations)]
    logs = [model(_turned(images, angle)).log_softmax(dim=-1) for angle in angles]
    return torch.logsumexp(torch.stack(logs), dim=0) - math.log(rotations)


def _turned(images: Tensor, angle: float) -> Tensor:
    """Rotate images by one angle, without interpolation for multiples of 90 degrees."""
    quarters, rest = divmod(angle / (math.pi / 2), 1)
    return rotate(images, angle) if rest else torch.rot90(images, int(quarters), (-2, -1))
