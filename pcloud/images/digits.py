"""Modified samples of digits: at random positions of a larger image, rotated, or balanced."""

from __future__ import annotations

import math

import numpy as np
import torch

from pcloud.errors import InputError
from pcloud.images.image_set import ImageSet
from pcloud.images.rotations import rotate

__all__ = ["balanced", "scatter", "turn_at_random"]


def scatter(digits: ImageSet, size: int = 50, seed: int = 0) -> ImageSet:
    """Place each image at a random position of a black image of ``size x size`` pixels.

    Parameters
    ----------
    digits : ImageSet
        Images.
    size : int
        Height and width of the new images in pixels.
    seed : int
        Seed of the positions.

    Raises
    ------
    InputError
        If the images are larger than the new ones.
    """
    number, channels, height, width = digits.images.shape
    if max(height, width) > size:
        raise InputError(f"images of {height}x{width} do not fit into {size}x{size}")
    rng = np.random.default_rng(seed)
    top = torch.from_numpy(rng.integers(0, size - height + 1, number)).view(-1, 1)
    left = torch.from_numpy(rng.integers(0, size - width + 1, number)).view(-1, 1)
    images = digits.images.new_zeros(number, channels, size, size)
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    index = torch.arange(number).view(-1, 1, 1)
    images.transpose(1, 2).transpose(2, 3)[index, rows[:, :, None], columns[:, None, :]] = (
        digits.images.permute(0, 2, 3, 1)
    )
    return ImageSet(images, digits.labels, digits.classes)


def turn_at_random(digits: ImageSet, seed: int = 0) -> ImageSet:
    """Rotate each image by a random angle with bilinear interpolation; the dtype is kept."""
    rng = np.random.default_rng(seed)
    angles = torch.from_numpy(rng.uniform(0, 2 * math.pi, len(digits))).float()
    parts = zip(digits.images.split(1024), angles.split(1024), strict=True)
    turned = torch.cat([rotate(images.float(), angle) for images, angle in parts])
    if not digits.images.is_floating_point():
        turned = turned.round().to(digits.images.dtype)
    return ImageSet(turned, digits.labels, digits.classes)


def balanced(digits: ImageSet, number: int, seed: int = 0) -> ImageSet:
    """Draw `number` images at random, with equal numbers of each class up to a difference of one.

    Raises
    ------
    InputError
        If there are no labels, or a class has too few images.
    """
    if digits.labels is None:
        raise InputError("images without labels cannot be balanced")
    rng = np.random.default_rng(seed)
    labels = digits.labels.numpy()
    found = np.unique(labels)
    wanted = np.diff(np.linspace(0, number, len(found) + 1).round().astype(int))
    chosen = []
    for label, some in zip(found, wanted, strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < some:
            raise InputError(f"class {label} has {len(members)} images, {some} are required")
        chosen.append(members[:some])
    return digits[torch.from_numpy(np.sort(np.concatenate(chosen)))]
