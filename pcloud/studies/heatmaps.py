"""Attributions of a run on images: on which pixels its best and worst decisions rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.batch import JetDataset
from pcloud.images.image_set import ImageFormat
from pcloud.images.jet_taggers import JetImageTagger
from pcloud.interpret.attribution_images import ImageAttribution, attribute_images
from pcloud.nn.layout import RaggedLayout
from pcloud.training.inputs import Inputs, Sample

__all__ = ["heatmaps", "network_and_images"]

_MOST = 12  # images that are drawn


@torch.no_grad()
def network_and_images(
    model: nn.Module, sample: Sample, inputs: Inputs
) -> tuple[nn.Module, Tensor] | None:
    """The network on images in a tagger and what it sees (B, C, H, W); None if it sees no images.

    Of a :class:`~pcloud.images.jet_taggers.JetImageTagger` the part behind the making of images.
    """
    if isinstance(inputs, ImageFormat):
        return model, inputs(sample.images)
    if not isinstance(model, JetImageTagger):
        return None
    data = JetDataset(sample, inputs)
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
    advance: Callable[[float], Any],
    **options: Any,
) -> dict[str, Any]:
    """Attribute the log-odds of a class to pixels, for drawing.

    Parameters
    ----------
    network : torch.nn.Module
        ``network(images) -> logits (B, C)``.
    images : Tensor, shape (B, C, H, W)
        As the network sees them.
    labels : ndarray of int, shape (B,)
        True classes.
    scores : ndarray, shape (B, C)
        Probabilities.
    classes : sequence of str
        Their names.
    methods : sequence of str
        Of :data:`~pcloud.interpret.attribution.METHODS`.
    target : int
        The class.
    number : int
        Number of images, the first ones, whose attributions are averaged.
    drawn : sequence of (int, str)
        Images to draw, and why.
    advance : callable
        Called with the part of the whole work that was done.
    **options
        Of :func:`attribute_images`.

    Returns
    -------
    dict
        ``methods``, with what integrated gradients leave unexplained; ``heatmaps``, single images
        and their attributions (H, W); ``mean_heatmaps``, those of each class on average.
    """
    share = 1 / (len(images) * len(methods))
    found = {
        method: attribute_images(
            network,
            images,
            method,
            target=target,
            advance=lambda number: advance(number * share),
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
            for i, why in drawn[:_MOST]
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
