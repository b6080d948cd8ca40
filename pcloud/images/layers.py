"""The layers that a convolutional network is made of: ordinary ones, or equivariant ones."""

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
    """Layers of one kind; a network built from them has their symmetry.

    Attributes
    ----------
    lift : callable
        First convolution, on the image: arguments as of ``torch.nn.Conv2d``.
    conv : callable
        All other convolutions.
    norm : callable
        ``norm(channels)``: batch normalisation; on a group, one mean and variance for all
        orientations of a channel.
    max_pool, average_pool : callable
        ``max_pool(kernel_size, stride, padding=0)``: over windows of pixels.
    pool : callable
        ``pool()``: from the last maps to ``(B, C, H, W)``, the orientations pooled.
    order : int
        Orientations of each filter, 1 for ordinary layers.
    """

    lift: Callable[..., nn.Module]
    conv: Callable[..., nn.Module]
    norm: Callable[[int], nn.Module]
    max_pool: Callable[..., nn.Module]
    average_pool: Callable[..., nn.Module]
    pool: Callable[[], nn.Module]
    order: int

    def width(self, channels: int) -> int:
        """Channels with which a layer has about as many weights as an ordinary one of `channels`.

        Cohen and Welling's rule: a group convolution has as many weights again for each
        orientation of its input, so the channels are divided by the root of their number.
        """
        return max(1, round(channels / self.order**0.5))


PLAIN = Layers(nn.Conv2d, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.Identity, 1)
"""Ordinary convolutions."""


def group_layers(group: str) -> Layers:
    """Layers equivariant under a group: ``"p4"``, ``"p4m"``, ``"c8"`` or ``"d8"``.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
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
