"""Samples of digits: those of scikit-learn, at random positions, rotated, or balanced."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.images.image_set import ImageSet
from pcloud.images.rotations import rotate

__all__ = ["balanced", "bundled_digits", "scatter", "turn_at_random"]

_TEST_DIGITS = 397  # of the 1,797 digits
_BRIGHTEST = 16  # pixel of scikit-learn's digits
_MARGIN = 2  # black pixels on each side, which MNIST has, too


def bundled_digits(split: str = "train", *, size: int = 28) -> ImageSet:
    """Handwritten digits of scikit-learn, enlarged with bilinear interpolation.

    Parameters
    ----------
    split : {"train", "test"}
        1,400 digits for training, or 397 others, drawn once at random.
    size : int
        Height and width in pixels, with a black margin of 2 pixels.

    Returns
    -------
    ImageSet
        Grey images, uint8.

    Raises
    ------
    InputError
        If `size` leaves no room for a digit.

    Examples
    --------
    >>> bundled_digits("test").images.shape
    torch.Size([397, 1, 28, 28])
    """
    from sklearn.datasets import load_digits

    inner = size - 2 * _MARGIN
    if inner < 1:
        raise InputError(f"size must be at least {2 * _MARGIN + 1}, got {size}")
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    chosen = order[-_TEST_DIGITS:] if split == "test" else order[:-_TEST_DIGITS]
    small = torch.from_numpy(found.images[chosen]).float().unsqueeze(1) * (255 / _BRIGHTEST)
    images = F.interpolate(small, (inner, inner), mode="bilinear", align_corners=False)
    images = F.pad(images.round().to(torch.uint8), (_MARGIN,) * 4)
    labels = torch.from_numpy(found.target[chosen].astype(np.int64))
    return ImageSet(images, labels, [str(digit) for digit in range(10)])


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


def turn_at_random(
    digits: ImageSet, seed: int = 0, *, angles: Literal["any", "quarter"] = "any"
) -> ImageSet:
    """Rotate each image by a random angle; the dtype is kept.

    Parameters
    ----------
    digits : ImageSet
        Images.
    seed : int
        Seed of the angles.
    angles : {"any", "quarter"}
        Any angle, with bilinear interpolation; or multiples of 90 degrees, which move pixels without
        a change, in equal numbers for each class and angle up to a difference of one.

    Raises
    ------
    InputError
        If images that are not square are rotated by multiples of 90 degrees, or `angles` is neither.
    """
    rng = np.random.default_rng(seed)
    if angles == "quarter":
        return ImageSet(_quarter_turned(digits, rng), digits.labels, digits.classes)
    if angles != "any":
        raise InputError(f"angles must be any or quarter, got {angles!r}")
    drawn = torch.from_numpy(rng.uniform(0, 2 * math.pi, len(digits))).float()
    parts = zip(digits.images.split(1024), drawn.split(1024), strict=True)
    turned = torch.cat([rotate(images.float(), angle) for images, angle in parts])
    if not digits.images.is_floating_point():
        turned = turned.round().to(digits.images.dtype)
    return ImageSet(turned, digits.labels, digits.classes)


def _quarter_turned(digits: ImageSet, rng: np.random.Generator) -> Tensor:
    """Images rotated by multiples of 90 degrees, as many of each class by each."""
    height, width = digits.images.shape[2:]
    if height != width:
        raise InputError(f"quarter turns need square images, not {height}x{width}")
    labels = np.zeros(len(digits)) if digits.labels is None else digits.labels.numpy()
    turns = np.empty(len(digits), dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        turns[members] = np.arange(len(members)) % 4
    turned = digits.images.clone()
    for turn in (1, 2, 3):
        rows = torch.from_numpy(np.flatnonzero(turns == turn))
        turned[rows] = torch.rot90(digits.images[rows], turn, (2, 3))
    return turned


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
