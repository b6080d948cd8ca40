"""Axes of the tensors of a model that count features or classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pcloud.models.head import output_layer
from pcloud.models.registry import build_model

__all__ = ["Axis", "class_axes", "feature_axes"]


@dataclass(frozen=True)
class Axis:
    """Axis of a tensor whose length is ``blocks * n + others`` for n features or classes.

    Attributes
    ----------
    dim : int
        Index of the axis.
    blocks : int
        Number of times that each feature or class occurs, one block of all of them after the
        other: two in the map of ``[x_i, x_j - x_i]``.
    others : int
        Number of other entries.
    """

    dim: int
    blocks: int
    others: int


def feature_axes(
    name: str, in_features: int, num_outputs: int, options: Mapping[str, Any]
) -> dict[str, Axis]:
    """Return the tensors of a model whose shape depends on the number of features.

    They are found by building the model with one more feature, so that the result holds for any
    model. There are none if it uses no features.

    Parameters
    ----------
    name : str
        Name of the model, see :func:`~pcloud.models.build_model`.
    in_features, num_outputs : int
        Numbers of features F and outputs C.
    options : mapping
        Options of the model.
    """
    small = _shapes(name, in_features, num_outputs, options)
    return _grown(small, _shapes(name, in_features + 1, num_outputs, options), in_features)


def class_axes(model: nn.Module, num_outputs: int) -> dict[str, Axis]:
    """Return the tensors of the last map of a network, whose rows are the classes.

    Parameters
    ----------
    model : torch.nn.Module
        Network, see :func:`~pcloud.models.head.output_layer`.
    num_outputs : int
        Number of outputs C.
    """
    found = output_layer(model, num_outputs)
    if found is None:
        return {}
    name, layer = found
    return {
        f"{name}.{key}": Axis(dim=0, blocks=len(value) // num_outputs, others=0)
        for key, value in layer.state_dict().items()
        if value.dim() and len(value) and len(value) % num_outputs == 0
    }


def _shapes(
    name: str, in_features: int, num_outputs: int, options: Mapping[str, Any]
) -> dict[str, torch.Size]:
    with torch.random.fork_rng(devices=[]):
        model = build_model(name, in_features, num_outputs, **options)
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
