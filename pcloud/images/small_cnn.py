"""Small CNN with ordinary or equivariant layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.images.layers import PLAIN, Layers, group_layers
from pcloud.models.head import Head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths, sides

__all__ = ["SmallCNN", "group_cnn"]


@register_model("cnn", paper="", year=1998, use="a first network on images", kind="image")
class SmallCNN(nn.Module):
    """Convolutions with ReLU and pooling, then an MLP; by default with two layers each.

    The first hidden layer on all pixels of the maps is computed as an equivalent convolution with
    filters as large as the maps. It can therefore have orientations, too.

    The first two convolutions have no padding. A further one is padded by two pixels where nothing
    would be left of its maps otherwise, and maps of one pixel are not pooled, so that there may be
    any number of convolutions.

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
        If there is no convolution or no hidden layer, or if the images are not square or too small
        for the first two convolutions.

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
        widths = layer_widths("widths", widths, required=True)
        head_widths = layer_widths("head_widths", head_widths, required=True)
        plan = _plan(sides("size", size), len(widths), pooled=pooling != "none")
        norm = layers.norm if batch_norm else _nothing
        pool = {"max": layers.max_pool, "average": layers.average_pool, "none": _nothing}[pooling]
        parts: list[nn.Module] = []
        for i, (before, width) in enumerate(itertools.pairwise([in_channels, *widths])):
            convolve = layers.conv if i else layers.lift
            parts += [convolve(before, width, 5, padding=plan.paddings[i]), norm(width), nn.ReLU()]
            parts += [pool(2, 2) if plan.pooled[i] else nn.Identity()]
        self.features = nn.Sequential(*parts)
        self.drop = nn.Dropout(dropout)
        first_hidden = layers.full(widths[-1], head_widths[0], plan.side)
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


@dataclass(frozen=True)
class _Plan:
    """Padding of each convolution, whether its maps are pooled, and the side of the last maps."""

    paddings: list[int]
    pooled: list[bool]
    side: int


def _plan(size: tuple[int, int], number: int, *, pooled: bool) -> _Plan:
    """Choose padding and pooling so that any number of 5x5 convolutions fits the images.

    The first two convolutions are never padded. A further one is padded where nothing would be left
    of its maps without, and maps of one pixel are not pooled.

    Raises
    ------
    InputError
        If the images are too small for the first two convolutions, or not square.
    """
    sides = list(size)
    plan = _Plan([], [], 0)
    for i in range(number):
        least = 6 if pooled else 5
        padding = 2 if i >= 2 and min(sides) < least else 0
        sides = [side - 4 + 2 * padding for side in sides]
        plan.paddings.append(padding)
        plan.pooled.append(pooled and (min(sides) > 1 or not padding))
        if plan.pooled[-1]:
            sides = [side // 2 for side in sides]
        if min(sides) < 1:
            raise InputError(
                f"images of {size[0]}x{size[1]} are too small for this CNN: two convolutions need "
                "16x16 pixels with pooling and 9x9 without, one needs 6x6 and 5x5"
            )
    if sides[0] != sides[1]:
        raise InputError(f"this CNN takes square images, not {size[0]}x{size[1]}")
    return replace(plan, side=sides[0])
