"""Misclassified images of a network, its first filters, and the activations of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Len
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.interpret.cnn_figures import class_activations, convolutions, filters_of
from pcloud.run_files import IMAGES_FILE, StoredResult
from pcloud.stored_values import Count, Grid, Name, Names, Numbers, Text
from pcloud.validation import checked

__all__ = ["StoredImages", "image_figures"]

_MAX_DRAWN = 12  # misclassified images
_MAX_SIDE = 96  # pixels of a stored image; larger ones are averaged
_MAX_IMAGES = 500  # whose activations are averaged
_MAX_FILTERS = 32
_MAX_MAPS = 8  # input channels or orientations of a filter


@dataclass(frozen=True)
class StoredImages(StoredResult):
    """Images of the test split, and the inside of the network.

    Parameters
    ----------
    classes : list of str
        Names of the classes.
    misclassified : list of list of list
        The most misclassified images, each with channels (H, W).
    labels : list of int
        Their true classes.
    scores : list of list of float
        Their probabilities.
    num_misclassified, num_images : int
        Number of misclassified images, and of all.
    layer : str
        Name of the first convolution; empty without any.
    filters : list of list of list
        For each of its filters the input channels or orientations, each (k, k) in one row.
    activations : dict of str to list
        Mean activation of each channel (classes, channels) by the name of the convolution.
    """

    file: ClassVar[str] = IMAGES_FILE
    what: ClassVar[str] = "images"
    command: ClassVar[str] = "pcloud explain"

    classes: Names
    misclassified: Annotated[list[list[Grid]], Len(0, 100)]
    labels: Annotated[list[Count], Len(0, 100)]
    scores: Annotated[list[Numbers], Len(0, 100)]
    num_misclassified: Count
    num_images: Count
    layer: Text
    filters: Annotated[list[list[Grid]], Len(0, 1000)]
    activations: dict[Name, Grid]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredImages:
        """Inverse of `to_dict`."""
        found = checked(cls, values)
        number = len(found.misclassified)
        if not number == len(found.labels) == len(found.scores):
            raise InputError("misclassified: not one label and one row of scores for each")
        if any(label >= len(found.classes) for label in found.labels):
            raise InputError("labels: not those of the classes")
        if any(len(row) != len(found.classes) for row in found.scores):
            raise InputError("scores: not one for each class")
        for name in ("misclassified", "filters"):
            if len({np.shape(part) for part in getattr(found, name)}) > 1:
                raise InputError(f"{name}: of different shapes")
        if any(np.shape(part)[0] != len(found.classes) for part in found.activations.values()):
            raise InputError("activations: not one row for each class")
        return found

    def rows(self) -> list[list[str]]:
        """Table of the misclassified images that are stored."""
        rows = [["true class", "probability", "predicted class", "probability"]]
        for label, scores in zip(self.labels, self.scores, strict=True):
            predicted = int(np.argmax(scores))
            names = (self.classes[label], self.classes[predicted])
            rows.append([names[0], f"{scores[label]:.3f}", names[1], f"{scores[predicted]:.3f}"])
        return rows


def image_figures(
    network: nn.Module,
    images: Tensor,
    labels: NDArray[np.integer],
    scores: NDArray[np.floating],
    classes: Sequence[str],
) -> StoredImages:
    """Collect the misclassified images, the first filters, and the activations of each class.

    Parameters
    ----------
    network : torch.nn.Module
        ``network(images) -> logits (B, C)``, in evaluation mode.
    images : Tensor, shape (B, C, H, W)
        Test images in the units of the network.
    labels : ndarray of int, shape (B,)
        True classes.
    scores : ndarray, shape (B, C)
        Probabilities.
    classes : sequence of str
        Names of the classes.
    """
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-scores[wrong, predicted[wrong]], kind="stable")][:_MAX_DRAWN]
    layer, filters, activations = "", [], {}
    if convolutions(network):
        layer, values = filters_of(network)
        filters = [
            [grid.astype(float).round(6).tolist() for grid in part[:_MAX_MAPS]]
            for part in values[:_MAX_FILTERS]
        ]
        few = slice(_MAX_IMAGES)
        found = class_activations(network, images[few], labels[few], num_classes=len(classes))
        activations = {name: values.round(6).tolist() for name, values in found.items()}
    return StoredImages(
        classes=list(classes),
        misclassified=[_stored(images[i]) for i in worst],
        labels=labels[worst].tolist(),
        scores=scores[worst].astype(float).round(6).tolist(),
        num_misclassified=len(wrong),
        num_images=len(labels),
        layer=layer,
        filters=filters,
        activations=activations,
    )


@torch.no_grad()
def _stored(image: Tensor) -> list[Any]:
    """Channels (H, W) of an image, those of a large one averaged over squares of pixels."""
    factor = -(-max(image.shape[-2:]) // _MAX_SIDE)
    channels = image if len(image) == 3 else image[:1]
    small = F.avg_pool2d(channels, factor, ceil_mode=True) if factor > 1 else channels
    return small.double().numpy().round(5).tolist()
