"""Small CNN with ordinary or equivariant layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.images.layers import PLAIN, Layers, group_layers
from pcloud.models.head import Head
from pcloud.models.registry import register_model

__all__ = ["SmallCNN", "group_cnn"]


@register_model("cnn", paper="", year=1998, use="a first network on images", kind="image")
class SmallCNN(nn.Module):
    """Convolutions with ReLU and pooling, then an MLP; by default with two layers each.

    The first hidden layer on the flattened maps is written as an equivalent convolution with
    filters as large as the maps. It can therefore have orientations, too.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    size : (int, int)
        Height and width of the images.
    widths : sequence of int
        Widths of the convolutions, 5x5; at least one.
    head_widths : sequence of int
        Widths of the hidden layers; at least one.
    pooling : {"max", "average", "none"}
        Pooling over 2x2 pixels after each convolution.
    batch_norm : bool
        Use batch normalisation after each convolution.
    dropout : float
        Dropout probability before each hidden layer.
    layers : Layers
        Ordinary or equivariant layers.

    Raises
    ------
    InputError
        If there is no convolution or no hidden layer, or if the images are too small or not
        square.

    References
    ----------
    LeCun et al., Gradient-based learning applied to document recognition,
    https://doi.org/10.1109/5.726791.
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        *,
        size: tuple[int, int],
        widths: Sequence[int] = (8, 16),
        head_widths: Sequence[int] = (64, 32),
        pooling: Literal["max", "average", "none"] = "max",
        batch_norm: bool = False,
        dropout: float = 0.0,
        layers: Layers = PLAIN,
    ) -> None:
        super().__init__()
        for option, value in (("widths", widths), ("head_widths", head_widths)):
            if not value:
                raise InputError(f"{option} needs at least one width, such as [16]")
        norm = layers.norm if batch_norm else _nothing
        pool = {"max": layers.max_pool, "average": layers.average_pool, "none": _nothing}[pooling]
        convolutions = [layers.lift(in_channels, widths[0], 5)]
        convolutions += [layers.conv(a, b, 5) for a, b in itertools.pairwise(widths)]
        parts = [
            (convolution, norm(width), nn.ReLU(), pool(2, 2))
            for convolution, width in zip(convolutions, widths, strict=True)
        ]
        self.features = nn.Sequential(*itertools.chain.from_iterable(parts))
        side = _side(self.features, in_channels, size)
        self.drop = nn.Dropout(dropout)
        first_hidden = layers.conv(widths[-1], head_widths[0], side)
        self.hidden = nn.Sequential(first_hidden, nn.ReLU(), layers.pool())
        further = [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(head_widths)]
        hidden = [nn.Flatten(), nn.Dropout(dropout), *itertools.chain.from_iterable(further)]
        self.head = Head(hidden, head_widths[-1], num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of ``images (B, in_channels, H, W)``."""
        return self.head(self.hidden(self.drop(self.features(images))))


@register_model(
    "group_cnn",
    paper="1602.07576",
    year=2016,
    use="images without a preferred direction",
    kind="image",
    symmetries=("rotation",),
)
def group_cnn(
    in_channels: int, num_outputs: int, *, size: tuple[int, int], group: str = "p4", **options: Any
) -> SmallCNN:
    """Small CNN with a score that is invariant under a group of rotations and reflections.

    Parameters
    ----------
    in_channels, num_outputs, size
        As for :class:`SmallCNN`.
    group : {"p4", "p4m", "c8", "d8"}
        Rotations by 90 degrees without and with reflections, rotations by 45 degrees without and
        with reflections.
    **options
        Options of :class:`SmallCNN`. The default widths give about as many weights as in the
        ordinary network.
    """
    layers = group_layers(group)
    usual: dict[str, Any] = {
        "widths": [layers.width(c) for c in (8, 16)],
        "head_widths": [layers.width(64), 32],
    }
    return SmallCNN(in_channels, num_outputs, size=size, layers=layers, **usual | options)


def _nothing(*_: int) -> nn.Module:
    return nn.Identity()


def _side(features: nn.Module, in_channels: int, size: tuple[int, int]) -> int:
    """Side of the last feature maps in pixels, which must be square."""
    try:
        with torch.no_grad():
            height, width = features.eval()(torch.zeros(1, in_channels, *size)).shape[-2:]
    except RuntimeError as error:
        raise InputError(f"images of {size[0]}x{size[1]} are too small for this CNN") from error
    finally:
        features.train()
    if height != width:
        raise InputError(f"this CNN takes square images, not {size[0]}x{size[1]}")
    return height
