"""Building blocks of convolutional networks: ordinary or equivariant layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.images.group_conv import GroupConv2d, GroupPool2d, LiftingConv2d, OrientationPool
from pcloud.images.groups import group_named

__all__ = ["PLAIN", "Layers", "MapLinear", "group_layers"]


class MapLinear(nn.Linear):
    """Linear layer on all pixels of all maps, written as a convolution as large as the maps.

    The weights keep the shape of the maps, as those of a convolution, so that they can be drawn.

    Parameters
    ----------
    in_channels, out_features : int
        Number of maps and of outputs.
    side : int
        Side of the maps in pixels.
    """

    def __init__(self, in_channels: int, out_features: int, side: int) -> None:
        super().__init__(in_channels * side**2, out_features)
        shape = (out_features, in_channels, side, side)
        self.weight = nn.Parameter(self.weight.detach().view(shape))

    def forward(self, maps: Tensor) -> Tensor:
        """Outputs (B, F, 1, 1) of ``maps (B, C, side, side)``."""
        return F.conv2d(maps, self.weight, self.bias)


@dataclass(frozen=True)
class Layers:
    """Constructors of layers with one symmetry; a network built from them has this symmetry.

    Attributes
    ----------
    lift : callable
        Constructor of the first convolution, on the image; arguments of ``torch.nn.Conv2d``.
    conv : callable
        Constructor of all other convolutions.
    norm : callable
        Constructor ``norm(channels)`` of batch normalisation; on a group, with one mean and
        variance for all orientations of a channel.
    max_pool, average_pool : callable
        Constructors ``max_pool(kernel_size, stride, padding=0)`` of pooling over windows of
        pixels.
    full : callable
        Constructor ``full(in_channels, out_channels, side)`` of a layer on whole maps with a side of
        `side` pixels.
    pool : callable
        Constructor ``pool()`` of pooling over orientations, which gives maps ``(B, C, H, W)``.
    order : int
        Number of orientations of each filter, 1 for ordinary layers.
    """

    lift: Callable[..., nn.Module]
    conv: Callable[..., nn.Module]
    norm: Callable[[int], nn.Module]
    max_pool: Callable[..., nn.Module]
    average_pool: Callable[..., nn.Module]
    full: Callable[[int, int, int], nn.Module]
    pool: Callable[[], nn.Module]
    order: int

    def width(self, channels: int) -> int:
        """Number of channels for about as many weights as an ordinary layer with `channels`.

        The number of weights of a group convolution is proportional to the number of orientations
        of its input. The channels are therefore divided by the square root of this number (Cohen
        and Welling).
        """
        return max(1, round(channels / self.order**0.5))


PLAIN = Layers(
    lift=nn.Conv2d,
    conv=nn.Conv2d,
    norm=nn.BatchNorm2d,
    max_pool=nn.MaxPool2d,
    average_pool=nn.AvgPool2d,
    full=MapLinear,
    pool=nn.Identity,
    order=1,
)
"""Ordinary convolutions."""


def group_layers(group: str) -> Layers:
    """Return layers that are equivariant under the group ``"p4"``, ``"p4m"``, ``"c8"`` or ``"d8"``.

    Raises
    ------
    UnknownNameError
        If there is no such group.
    """
    found = group_named(group)
    conv = partial(GroupConv2d, group=found)
    return Layers(
        lift=partial(LiftingConv2d, group=found),
        conv=conv,
        norm=nn.BatchNorm3d,  # over images, orientations and pixels
        max_pool=GroupPool2d,
        average_pool=partial(GroupPool2d, pool=F.avg_pool2d),
        full=conv,
        pool=OrientationPool,
        order=found.order,
    )
