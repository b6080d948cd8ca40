"""Networks on images by name."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from pcloud.models.old_names import renamed_keyword
from pcloud.models.registry import build_model, model_factory
from pcloud.models.trust import user_names

__all__ = ["build_network"]


@renamed_keyword("num_classes", "num_outputs")
def build_network(
    name: str, in_channels: int, num_outputs: int, size: tuple[int, int], **options: Any
) -> nn.Module:
    """Build a network on images with random weights.

    Parameters
    ----------
    name : str
        Registered name, or ``file:Class`` for a network in a file of the user.
    in_channels : int
        Number of channels of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    size : (int, int)
        Height and width of the images, for networks with an argument `size`.
    **options
        Further arguments of the network.

    Returns
    -------
    torch.nn.Module
        Network ``model(images) -> logits (B, C)`` with ``images (B, in_channels, H, W)``.
    """
    with user_names():
        return build_model(name, in_channels, num_outputs, **size_option(name, size) | options)


def size_option(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """``{"size": [height, width]}`` for a network with an argument `size`, else an empty dict."""
    known = inspect.signature(model_factory(name)).parameters
    return {"size": list(size)} if "size" in known else {}
