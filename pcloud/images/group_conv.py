"""Group-equivariant convolutions: each filter is used in all its orientations.

Feature maps on a group have shape ``(B, C, G, H, W)``: a channel has a map for each of the G
orientations of its filter. If the image is rotated, the maps are rotated and permuted.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.images.groups import PlaneGroup

__all__ = ["GroupConv2d", "GroupPool2d", "LiftingConv2d", "OrientationPool", "fit_to_stride"]


class _OrientedConv2d(nn.Module):
    """Convolution with every filter in G orientations, which a subclass computes in `filters`."""

    filter_maps: Tensor
    from_inverse: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        *,
        group: PlaneGroup,
    ) -> None:
        super().__init__()
        self.group = group
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        shape = (in_channels, *self.input_orientations(group), kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(out_channels, *shape))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.register_buffer("filter_maps", group.filter_maps(kernel_size), persistent=False)
        self.register_buffer("from_inverse", group.from_inverse, persistent=False)
        self._reset()

    @staticmethod
    def input_orientations(group: PlaneGroup) -> tuple[int, ...]:
        """Shape of the axis of input orientations: ``(G,)`` for maps on a group, else ``()``."""
        raise NotImplementedError

    def filters(self) -> Tensor:
        """All orientations of all filters, shape (C_out, G, C_in, ..., k, k)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps (B, C_out, G, H', W') of ``images (B, C_in, ..., H, W)``."""
        images = images.flatten(1, -3)
        images = fit_to_stride(images, self.kernel_size, self.stride, self.padding)
        filters = self.filters().flatten(2, -3).flatten(0, 1)  # (C_out G, C_in ..., k, k)
        bias = None if self.bias is None else self.bias.repeat_interleave(self.group.order)
        maps = F.conv2d(images, filters, bias, self.stride, self.padding)
        return maps.unflatten(1, (-1, self.group.order))

    def _reset(self) -> None:
        """Initialise as ``torch.nn.Conv2d``; the fan-in includes the input orientations.

        Filters that are projected on fewer dimensions are scaled to the same variance.
        """
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        with torch.no_grad():
            dimensions = self.filter_maps[0].trace()  # rank of the projection
            self.weight.mul_((self.kernel_size**2 / dimensions).sqrt())
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)


class LiftingConv2d(_OrientedConv2d):
    """Convolution from an image to maps on a group, with every filter in G orientations.

    ``forward`` takes ``(B, C_in, H, W)`` to ``(B, C_out, G, H', W')``.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of channels of the input and of the output.
    kernel_size : int
        Side of the filters in pixels.
    stride, padding : int
        As in ``torch.nn.Conv2d``. A stride that does not fit the size of a map is made symmetric
        by :func:`fit_to_stride`.
    bias : bool
        Add a learned constant to each channel.
    group : PlaneGroup
        Group of rotations and reflections.
    """

    @staticmethod
    def input_orientations(group: PlaneGroup) -> tuple[int, ...]:
        """Empty shape, since images have no axis of orientations."""
        return ()

    def filters(self) -> Tensor:
        """All orientations of all filters, shape (C_out, G, C_in, k, k)."""
        turned = torch.einsum("gpq,oiq->ogip", self.filter_maps, self.weight.flatten(-2))
        return turned.unflatten(-1, self.weight.shape[-2:])


class GroupConv2d(_OrientedConv2d):
    """Convolution between maps on a group.

    The filter of output orientation g is the filter of orientation 0 with its pixels transformed by
    g and the weights of input orientation ``g^-1 h`` at h. There is one weight for every relative
    orientation. ``forward`` takes ``(B, C_in, G, H, W)`` to ``(B, C_out, G, H', W')``.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, bias, group
        As for :class:`LiftingConv2d`.
    """

    @staticmethod
    def input_orientations(group: PlaneGroup) -> tuple[int, ...]:
        """Shape ``(G,)`` of the axis of orientations."""
        return (group.order,)

    def filters(self) -> Tensor:
        """All orientations of all filters, shape (C_out, G, C_in, G, k, k)."""
        shifted = self.weight.flatten(-2)[:, :, self.from_inverse]  # (C_out, C_in, G, G, k^2)
        turned = torch.einsum("gpq,oighq->ogihp", self.filter_maps, shifted)
        return turned.unflatten(-1, self.weight.shape[-2:])


class GroupPool2d(nn.Module):
    """Maximum or mean over windows of each map on a group.

    Parameters
    ----------
    kernel_size, stride, padding : int
        As in ``torch.nn.MaxPool2d``; a stride that does not fit as in :func:`fit_to_stride`.
    pool : callable
        Function ``torch.nn.functional.max_pool2d`` or ``avg_pool2d``.
    """

    def __init__(
        self,
        kernel_size: int,
        stride: int,
        padding: int = 0,
        *,
        pool: Callable[..., Tensor] = F.max_pool2d,
    ) -> None:
        super().__init__()
        self.window = (kernel_size, stride, padding)
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        """Pooled maps (B, C, G, H', W') of ``maps (B, C, G, H, W)``."""
        flat = fit_to_stride(maps.flatten(1, 2), *self.window)
        return self.pool(flat, *self.window).unflatten(1, maps.shape[1:3])


class OrientationPool(nn.Module):
    """Maximum over the orientations; the result rotates with the image."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) of ``maps (B, C, G, H, W)``."""
        return maps.amax(dim=2)


def fit_to_stride(images: Tensor, kernel_size: int, stride: int, padding: int) -> Tensor:
    """Reduce ``images (B, C, H, W)`` to a size to which the stride fits symmetrically.

    A window that moves by `stride` omits ``rest = (H + 2 padding - kernel_size) % stride`` rows at
    one side, which are other rows of a rotated image. If there is a rest, the image is first made
    smaller by this number of rows by averaging ``rest + 1`` neighbours, which is symmetric.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Images or feature maps.
    kernel_size, stride, padding : int
        Parameters of the convolution or pooling that follows, in pixels.
    """
    rests = [(size + 2 * padding - kernel_size) % stride for size in images.shape[-2:]]
    return F.avg_pool2d(images, [1 + rest for rest in rests], stride=1) if any(rests) else images
