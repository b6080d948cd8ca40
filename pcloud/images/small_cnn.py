"""A CNN of a few convolutions, and the same network on a group."""

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
    """Convolutions with ReLU and max-pooling, then a perceptron; by default two layers of each.

    The first hidden layer, of the flattened maps, is written as a convolution with filters as
    large as the maps, which is the same: so that it, too, can have orientations.

    Parameters
    ----------
    in_channels : int
        Colours of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    size : (int, int)
        Height and width of the images.
    widths : sequence of int
        Widths of the convolutions, 5x5; at least one.
    head_widths : sequence of int
        Widths of the hidden layers; at least one.
    pooling : {"max", "average", "none"}
        After each convolution, over 2x2 pixels.
    batch_norm : bool
        Whether to normalise after each convolution.
    dropout : float
        Before each hidden layer.
    layers : Layers
        Ordinary or equivariant.

    Raises
    ------
    InputError
        If there is no convolution or no hidden layer, or the images are too small or not square.

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
    """The small CNN with a score that is invariant under a group of rotations and mirrors.

    Parameters
    ----------
    in_channels, num_outputs, size
        As of :class:`SmallCNN`.
    group : {"p4", "p4m", "c8", "d8"}
        Quarter turns without and with mirrors, turns by 45 degrees without and with mirrors.
    **options
        Of :class:`SmallCNN`; the widths are by default such that there are as many weights.
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
    """Side of the last maps, which must be squares."""
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
