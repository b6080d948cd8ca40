"""Attribution to the pixels of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.images.image_set import as_floating, check_scale
from pcloud.interpret.attribution_captum import captum_method
from pcloud.interpret.methods import as_array, check_method, evaluation_mode
from pcloud.interpret.response import CompletenessMixin, log_odds
from pcloud.nn.numerics.derivatives import frozen
from pcloud.run_files import Advance, ignore_progress
from pcloud.words import number_of

__all__ = ["ImageAttribution", "attribute_images"]


@dataclass(frozen=True)
class ImageAttribution(CompletenessMixin):
    """Contributions of the pixels to the response of their images.

    Parameters
    ----------
    method : str
        Name of the method in :data:`~pcloud.interpret.methods.METHODS`.
    values : ndarray, shape (B, C, H, W)
        Contribution of each pixel. For integrated gradients and occlusion it has a sign, positive
        in favour of the class. For saliency and SmoothGrad it is the magnitude of the gradient.
    response : ndarray, shape (B,)
        Log-odds of the class.
    baseline : ndarray, shape (B,), optional
        Log-odds at the baseline of integrated gradients.
    """

    method: str
    values: NDArray[np.floating]
    response: NDArray[np.floating]
    baseline: NDArray[np.floating] | None = None

    def __repr__(self) -> str:
        """Method, number and size of the images."""
        number, _, height, width = self.values.shape
        return f"ImageAttribution by {self.method} of {number_of(number, 'image')} of {height}x{width} pixels"

    @property
    def per_pixel(self) -> NDArray[np.floating]:
        """Sum over channels, (B, H, W)."""
        return self.values.sum(axis=1)

    @property
    def total(self) -> NDArray[np.floating]:
        """Sum over the pixels of each image, (B,)."""
        return self.values.sum(axis=(1, 2, 3))


def attribute_images(
    model: nn.Module,
    images: Tensor,
    method: str = "integrated_gradients",
    *,
    target: int = 1,
    baseline: Tensor | None = None,
    window: int = 3,
    steps: int = 32,
    samples: int = 16,
    noise: float = 0.1,
    batch_size: int = 128,
    seed: int = 0,
    advance: Advance = ignore_progress,
) -> ImageAttribution:
    """Attribute the log-odds of a class to the pixels of each image.

    Parameters
    ----------
    model : torch.nn.Module
        Network ``model(images) -> logits (B, C)``. It is used in evaluation mode.
    images : Tensor, shape (B, C, H, W)
        Inputs of the network: stored images, uint8 or float, for the ``run.model()`` of a run.
    method : str
        ``"saliency"``, ``"smoothgrad"`` or ``"integrated_gradients"`` as for
        :func:`~pcloud.interpret.attribution.attribute`; or ``"occlusion"``, the response of the
        image minus that of the image with a square replaced by the baseline. This difference is
        divided equally among the pixels of the square.
    target : int
        Index of the class.
    baseline : Tensor, shape (C, H, W), optional
        Start of the path of integrated gradients, and content of an occluded square; by default
        black.
    window : int
        Side of the square in pixels. Squares are adjacent and do not overlap.
    steps, samples, noise, seed
        As for :func:`~pcloud.interpret.attribution.attribute`; the standard deviation is that of
        all pixels of a channel.
    batch_size : int
        Number of images in a forward pass, including noisy and scaled copies.
    advance : callable
        Progress callback, called with the part of the whole work done.

    Returns
    -------
    ImageAttribution

    Raises
    ------
    UnknownNameError
        If there is no such method.
    InputError
        If the window is empty, or the baseline has another shape; or if the images are integers
        and the network does not contain their scale.
    MissingExtraError
        If captum is not installed, for all methods but occlusion.
    """
    check_method(method)
    if window < 1:
        raise InputError(f"window must be at least 1 pixel, got {window}")
    check_scale(model, images)
    images = as_floating(images)
    start = torch.zeros_like(images[0]) if baseline is None else baseline.to(images)
    if start.shape != images.shape[1:]:
        raise InputError(
            f"the baseline must have shape {(*images.shape[1:],)}, got {(*start.shape,)}"
        )
    with evaluation_mode(model), frozen(model):
        if method == "occlusion":
            return _occlude(model, images, target, start, window, batch_size, advance)
        compute, copies = captum_method(
            method, steps=steps, samples=samples, noise=noise, seed=seed
        )
        scale = images.std((0, 2, 3)).view(-1, 1, 1)
        values = []
        responses = []
        baselines = []

        def respond(inputs: Tensor, _: Tensor) -> Tensor:
            return log_odds(model(inputs), target)

        for part in images.detach().split(max(1, batch_size // copies)):
            index = torch.arange(len(part))
            values.append(compute(respond, part, index, start.expand_as(part), scale))
            with torch.no_grad():
                responses.append(respond(part, index))
                baselines.append(respond(start.unsqueeze(0), index).expand(len(part)))
            advance(len(part) / len(images))
    at_baseline = as_array(baselines) if method == "integrated_gradients" else None
    return ImageAttribution(method, as_array(values), as_array(responses), at_baseline)


@torch.no_grad()
def _occlude(
    model: nn.Module,
    images: Tensor,
    target: int,
    baseline: Tensor,
    window: int,
    batch_size: int,
    advance: Advance,
) -> ImageAttribution:
    values = []
    responses = []
    for part in images.split(batch_size):
        whole = log_odds(model(part), target)
        found = torch.zeros_like(part)
        squares = list(_squares(part.shape[2], part.shape[3], window))
        for rows, columns in squares:
            covered = part.clone()
            covered[:, :, rows, columns] = baseline[:, rows, columns]
            change = whole - log_odds(model(covered), target)
            pixels = covered[0, :, rows, columns].numel()
            found[:, :, rows, columns] = (change / pixels).view(-1, 1, 1, 1)
            advance(len(part) / len(squares) / len(images))
        values.append(found)
        responses.append(whole)
    return ImageAttribution("occlusion", as_array(values), as_array(responses))


def _squares(height: int, width: int, window: int) -> Iterator[tuple[slice, slice]]:
    for row in range(0, height, window):
        for column in range(0, width, window):
            yield slice(row, row + window), slice(column, column + window)
