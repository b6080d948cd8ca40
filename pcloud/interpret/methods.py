"""Parts that the attribution of jets and that of images share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FeatureSet

__all__ = ["METHODS", "as_array", "check_method", "evaluation_mode", "refuse_embedded"]

METHODS = ("saliency", "integrated_gradients", "smoothgrad", "occlusion")
"""Names of the attribution methods."""


def check_method(method: str) -> None:
    """Check that there is an attribution method of this name.

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    if method not in METHODS:
        raise UnknownNameError("attribution method", method, METHODS)


def refuse_embedded(features: FeatureSet, what: str, *, categories: bool = True) -> None:
    """Refuse networks on several collections, and on categories, which have no derivative.

    Parameters
    ----------
    features : FeatureSet
        Inputs of the network.
    what : str
        Plural noun for the message, such as ``"Taylor coefficients"``.
    categories : bool
        If False, categories are allowed.

    Raises
    ------
    InputError
        If there are any.
    """
    if names := [part.name for part in features.collections]:
        raise InputError(
            f"{what} are for networks on particles alone, and this one takes {', '.join(names)}, "
            "too: a run with --collections none can be explained"
        )
    embedded = [f.name for f in features.features if f.embed]
    if embedded and categories:
        raise InputError(
            f"{what} need derivatives, and the category {embedded[0]} has none: --method occlusion "
            "explains the network"
        )


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for the context, and restore its mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def as_array(parts: Sequence[Tensor]) -> NDArray[np.floating]:
    """Concatenate the parts of several batches to an array in double precision."""
    return torch.cat(list(parts)).detach().double().cpu().numpy()
