"""Which axes of a model's tensors count features, and which classes: found by building it larger.

No model need say where its first and its last layer are: what grows with the number of classes is
its head, what grows with the number of features are its input layers. So it holds for a model of
one's own, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pcloud.models.registry import build_model

__all__ = ["Axis", "class_axes", "feature_axes"]


@dataclass(frozen=True)
class Axis:
    """An axis of a tensor whose length is ``blocks * n + others`` for n features or classes.

    Attributes
    ----------
    dim : int
        Which axis.
    blocks : int
        How often each feature or class occurs, all of them one block after the other: twice in
        the map of ``[x_i, x_j - x_i]``.
    others : int
        Entries that stand for something else.
    """

    dim: int
    blocks: int
    others: int


def feature_axes(
    name: str, in_features: int, num_classes: int, options: Mapping[str, Any]
) -> dict[str, Axis]:
    """The tensors of a model that depend on the number of features; none where it uses no features.

    Parameters
    ----------
    name : str
        As in :func:`~pcloud.models.build_model`.
    in_features, num_classes : int
        Features F and classes C.
    options : mapping
        Options of the model.
    """
    small = _shapes(name, in_features, num_classes, options)
    return _grown(small, _shapes(name, in_features + 1, num_classes, options), in_features)


def class_axes(
    name: str, in_features: int, num_classes: int, options: Mapping[str, Any]
) -> dict[str, Axis]:
    """The tensors of a model that depend on the number of classes: its head.

    Parameters are those of :func:`feature_axes`.
    """
    small = _shapes(name, in_features, num_classes, options)
    return _grown(small, _shapes(name, in_features, num_classes + 1, options), num_classes)


def _shapes(
    name: str, in_features: int, num_classes: int, options: Mapping[str, Any]
) -> dict[str, torch.Size]:
    with torch.random.fork_rng(devices=[]):
        model = build_model(name, in_features, num_classes, **options)
    return {key: value.shape for key, value in model.state_dict().items()}


def _grown(
    small: dict[str, torch.Size], large: dict[str, torch.Size], number: int
) -> dict[str, Axis]:
    axes = {}
    for name, shape in small.items():
        for dim, (a, b) in enumerate(zip(shape, large.get(name, shape), strict=False)):
            if a != b:
                axes[name] = Axis(dim, blocks=b - a, others=a - (b - a) * number)
    return axes
