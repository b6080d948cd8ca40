"""Which pixels a decision of a network on images rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.images.image_set import as_floating, check_scale
from pcloud.interpret.attribution import METHODS
from pcloud.interpret.attribution_captum import captum_method
from pcloud.interpret.response import CompletenessMixin, log_odds
from pcloud.nn.numerics.derivatives import frozen
from pcloud.run_files import Advance, ignore_progress

__all__ = ["ImageAttribution", "attribute_images"]


@dataclass(frozen=True)
class ImageAttribution(CompletenessMixin):
    """What each pixel adds to the response of its image.

    Parameters
    ----------
    method : str
        One of :data:`~pcloud.interpret.attribution.METHODS`.
    values : ndarray, shape (B, C, H, W)
        Signed for integrated gradients and occlusion, where positive speaks for the class;
        magnitudes of gradients for saliency and SmoothGrad.
    response : ndarray, shape (B,)
        Log-odds of the class.
    baseline : ndarray, shape (B,), optional
        Log-odds at the baseline of integrated gradients.
    """

    method: str
    values: NDArray[np.floating]
    response: NDArray[np.floating]
    baseline: NDArray[np.floating] | None = None

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
        ``model(images) -> logits (B, C)``; put into evaluation mode.
    images : Tensor, shape (B, C, H, W)
        As the network takes them: stored images, uint8 or float, for the ``run.model()`` of a run.
    method : str
        ``"saliency"``, ``"smoothgrad"``, ``"integrated_gradients"`` as for
        :func:`~pcloud.interpret.attribution.attribute`. ``"occlusion"``: the response of the image
        less that of the image with a square of the baseline, shared by the pixels of the square.
    target : int
        The class.
    baseline : Tensor, shape (C, H, W), optional
        The image where integrated gradients begin, and what is behind an occluded square; by
        default black.
    window : int
        Pixels on a side of the square. Squares touch and do not overlap.
    steps, samples, noise, seed
        As for :func:`~pcloud.interpret.attribution.attribute`; the standard deviation is that of
        all pixels of a channel.
    batch_size : int
        Images that pass the network at a time, noisy and scaled ones counted.
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
        If the window is empty, or the baseline has another shape; if the images are integers, and
        the network does not know their scale.
    MissingExtraError
        If captum is not installed, for all methods but occlusion.
    """
    if method not in METHODS:
        raise UnknownNameError("attribution method", method, METHODS)
    if window < 1:
        raise InputError(f"window must be at least 1 pixel, got {window}")
    check_scale(model, images)
    images = as_floating(images)
    start = torch.zeros_like(images[0]) if baseline is None else baseline.to(images)
    if start.shape != images.shape[1:]:
        raise InputError(
            f"the baseline must have shape {(*images.shape[1:],)}, got {(*start.shape,)}"
        )
    was_training = model.training
    try:
        with frozen(model.eval()):
            if method == "occlusion":
                return _occlude(model, images, target, start, window, batch_size, advance)
            compute, copies = captum_method(
                method, steps=steps, samples=samples, noise=noise, seed=seed
            )
            scale = images.std((0, 2, 3)).view(-1, 1, 1)
            values, responses, baselines = [], [], []

            def respond(inputs: Tensor, _: Tensor) -> Tensor:
                return log_odds(model(inputs), target)

            for part in images.detach().split(max(1, batch_size // copies)):
                index = torch.arange(len(part))
                values.append(compute(respond, part, index, start.expand_as(part), scale))
                with torch.no_grad():
                    responses.append(respond(part, index))
                    baselines.append(respond(start.unsqueeze(0), index).expand(len(part)))
                advance(len(part) / len(images))
    finally:
        model.train(was_training)
    path = _numpy(baselines) if method == "integrated_gradients" else None
    return ImageAttribution(method, _numpy(values), _numpy(responses), path)


@torch.no_grad()
def _occlude(
    model: nn.Module,
    images: Tensor,
    target: int,
    behind: Tensor,
    window: int,
    batch_size: int,
    advance: Advance,
) -> ImageAttribution:
    values, responses = [], []
    for part in images.split(batch_size):
        whole = log_odds(model(part), target)
        found = torch.zeros_like(part)
        squares = list(_squares(part.shape[2], part.shape[3], window))
        for rows, columns in squares:
            covered = part.clone()
            covered[:, :, rows, columns] = behind[:, rows, columns]
            change = whole - log_odds(model(covered), target)
            pixels = covered[0, :, rows, columns].numel()
            found[:, :, rows, columns] = (change / pixels).view(-1, 1, 1, 1)
            advance(len(part) / len(squares) / len(images))
        values.append(found)
        responses.append(whole)
    return ImageAttribution("occlusion", _numpy(values), _numpy(responses))


def _squares(height: int, width: int, window: int) -> Iterator[tuple[slice, slice]]:
    for row in range(0, height, window):
        for column in range(0, width, window):
            yield slice(row, row + window), slice(column, column + window)


def _numpy(parts: list[Tensor]) -> NDArray[np.floating]:
    return torch.cat(parts).detach().double().cpu().numpy()
