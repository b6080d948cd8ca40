"""Building blocks of convolutional networks: ordinary or equivariant layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn
from torch.nn import functional as F

from pcloud.images.group_conv import GroupConv2d, GroupPool2d, LiftingConv2d, OrientationPool
from pcloud.images.groups import group_named

__all__ = ["PLAIN", "Layers", "group_layers"]


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
    pool: Callable[[], nn.Module]
    order: int

    def width(self, channels: int) -> int:
        """Number of channels for about as many weights as an ordinary layer with `channels`.

        The number of weights of a group convolution is proportional to the number of orientations
        of its input. The channels are therefore divided by the square root of this number (Cohen
        and Welling).
        """
        return max(1, round(channels / self.order**0.5))


PLAIN = Layers(nn.Conv2d, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.Identity, 1)
"""Ordinary convolutions."""


def group_layers(group: str) -> Layers:
    """Return layers that are equivariant under the group ``"p4"``, ``"p4m"``, ``"c8"`` or ``"d8"``.

    Raises
    ------
    UnknownNameError
        If there is no such group.
    """
    found = group_named(group)
    return Layers(
        partial(LiftingConv2d, group=found),
        partial(GroupConv2d, group=found),
        nn.BatchNorm3d,  # over images, orientations and pixels
        GroupPool2d,
        partial(GroupPool2d, pool=F.avg_pool2d),
        OrientationPool,
        found.order,
    )
