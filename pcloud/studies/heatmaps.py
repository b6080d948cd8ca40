"""Attribution to the pixels of images, for networks on images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.images.jet_taggers import JetImageTagger
from pcloud.interpret.attribution_images import ImageAttribution, attribute_images
from pcloud.modality import Inputs, Sample, find_modality
from pcloud.nn.layout import RaggedLayout
from pcloud.run_files import Advance

__all__ = ["heatmaps", "network_and_images"]

_MAX_DRAWN_IMAGES = 12


@torch.no_grad()
def network_and_images(
    model: nn.Module, sample: Sample, inputs: Inputs
) -> tuple[nn.Module, Tensor] | None:
    """Network on images inside a tagger, and its images (B, C, H, W); None if it takes no images.

    The network of a :class:`~pcloud.images.jet_taggers.JetImageTagger` is the part after the images
    are made.
    """
    modality = find_modality(inputs.kind)
    if (pixels := modality.pixels(sample, inputs)) is not None:
        return model, pixels
    if not isinstance(model, JetImageTagger):
        return None
    data = modality.dataset(sample, inputs)
    images = model.images(data.x, data.p4, RaggedLayout.from_ptr(data.ptr))
    return model.network, images * model.images.pixels


def heatmaps(
    network: nn.Module,
    images: Tensor,
    labels: NDArray[np.integer],
    scores: NDArray[np.floating],
    classes: Sequence[str],
    methods: Sequence[str],
    target: int,
    number: int,
    drawn: Sequence[tuple[int, str]],
    advance: Advance,
    **options: Any,
) -> dict[str, Any]:
    """Attribute the log-odds of a class to pixels, for drawing.

    Parameters
    ----------
    network : torch.nn.Module
        ``network(images) -> logits (B, C)``.
    images : Tensor, shape (B, C, H, W)
        Images in the units of the network.
    labels : ndarray of int, shape (B,)
        True classes.
    scores : ndarray, shape (B, C)
        Probabilities.
    classes : sequence of str
        Names of the classes.
    methods : sequence of str
        Names from :data:`~pcloud.interpret.attribution.METHODS`.
    target : int
        Index of the class.
    number : int
        Number of images, the first ones, whose attributions are averaged.
    drawn : sequence of (int, str)
        Images to draw, with the reason.
    advance : callable
        Progress callback, called with the part of the whole work done.
    **options
        Options of :func:`attribute_images`.

    Returns
    -------
    dict
        ``methods``, with the completeness gap of integrated gradients; ``heatmaps``, single images
        and their attributions (H, W); ``mean_heatmaps``, the averages over each class.
    """
    found = {
        method: attribute_images(
            network,
            images,
            method,
            target=target,
            advance=lambda part: advance(part / len(methods)),
            **options,
        )
        for method in methods
    }
    grey = images.double().mean(1).numpy()
    own = labels[:number]
    return {
        "methods": {method: _summary(a, number) for method, a in found.items()},
        "drawn": [],
        "heatmaps": [
            _entry(
                f"{why} {classes[labels[i]]}: {scores[i, labels[i]]:.2g}",
                grey[i],
                {method: a.per_pixel[i] for method, a in found.items()},
            )
            for i, why in drawn[:_MAX_DRAWN_IMAGES]
        ],
        "mean_heatmaps": [
            _entry(
                f"mean {classes[c]}",
                grey[:number][own == c].mean(0),
                {method: a.per_pixel[:number][own == c].mean(0) for method, a in found.items()},
            )
            for c in np.unique(own).tolist()
        ],
    }


def _summary(found: ImageAttribution, number: int) -> dict[str, float]:
    if found.baseline is None:
        return {}
    change = float(np.abs(found.response - found.baseline)[:number].mean())
    return {"gap": float(np.abs(found.gap)[:number].mean()), "change": change}


def _entry(title: str, image: NDArray[Any], values: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {
        "title": title,
        "image": image.round(5).tolist(),
        "values": {method: v.round(6).tolist() for method, v in values.items()},
    }
