"""Groups of rotations and mirrors of the plane, and what they do to a square filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pcloud.errors import UnknownNameError

__all__ = ["GROUPS", "PlaneGroup", "group_named"]


@dataclass(frozen=True)
class PlaneGroup:
    """Rotations by multiples of ``360 / rotations`` degrees, with or without mirrors.

    Element ``g = m * rotations + r`` mirrors left and right if ``m = 1``, then rotates ``r`` times
    anticlockwise. Element 0 is the identity.

    Parameters
    ----------
    name : str
        ``"p4"``, ``"p4m"``, ``"c8"`` or ``"d8"``.
    rotations : int
        Number of rotations, a multiple of 4 at most 8.
    mirrors : bool
        Whether mirror images belong to the group.

    References
    ----------
    Cohen and Welling, Group equivariant convolutional networks,
    https://arxiv.org/abs/1602.07576.
    """

    name: str
    rotations: int
    mirrors: bool = False

    @property
    def order(self) -> int:
        """Number of elements G."""
        return self.rotations * (1 + self.mirrors)

    @cached_property
    def from_inverse(self) -> Tensor:
        """Index of ``g^-1 h`` at ``[g, h]``, shape (G, G)."""
        m, r = self._parts()
        # g^-1 = mirror^m rotate^-r; passing a mirror turns a rotation around
        mirrored = (m[:, None] + m) % 2
        turned = (1 - 2 * m[:, None]) * (r - r[:, None])
        return mirrored * self.rotations + turned % self.rotations

    def filter_maps(self, size: int) -> Tensor:
        """The action on flattened filters of ``size x size`` pixels, shape (G, size^2, size^2).

        Quarter turns and mirrors permute the pixels. A turn by 45 degrees interpolates between the
        four nearest pixels and cuts the filter to its inscribed disc, in all its orientations
        alike: what comes from the corners would be different at 0 and 45 degrees.
        """
        identity = torch.eye(size**2).view(-1, size, size)
        mirror = identity.flip(-1)
        turn = _turn_by_45(size) if self.rotations == 8 else None
        maps = []
        for m, r in zip(*(part.tolist() for part in self._parts()), strict=True):
            quarters, eighths = divmod(r, self.rotations // 4)
            image = mirror if m else identity  # (p, size, size): where pixel p goes
            if turn is not None:
                image = (image.flatten(1) @ turn[eighths].T).view_as(image)
            maps.append(torch.rot90(image, quarters, (1, 2)).flatten(1).T)
        return torch.stack(maps).contiguous()

    def transform(self, images: Tensor, element: int) -> Tensor:
        """``images (..., H, W)`` turned, where the element is made of quarter turns and mirrors.

        Raises
        ------
        ValueError
            If the element turns by 45 degrees.
        """
        mirrored, turns = divmod(element, self.rotations)
        quarters, rest = divmod(4 * turns, self.rotations)
        if rest:
            raise ValueError(f"element {element} of {self.name} is no quarter turn")
        return torch.rot90(images.flip(-1) if mirrored else images, quarters, (-2, -1))

    def _parts(self) -> tuple[Tensor, Tensor]:
        """Mirror and rotation of each element."""
        index = torch.arange(self.order)
        return index // self.rotations, index % self.rotations


def _turn_by_45(size: int) -> Tensor:
    """Filters cut to a disc, and the same turned by 45 degrees, as matrices (2, size^2, size^2)."""
    middle = (size - 1) / 2
    y, x = torch.meshgrid(*[torch.arange(size) - middle] * 2, indexing="ij")
    # half a pixel inside the circle counts whole, half outside not at all
    disc = (middle + 1 - torch.hypot(x, y)).clamp(0, 1).flatten()
    c = math.sqrt(0.5)
    # the value at (x, y) is that at the position turned back; y points down
    from_x, from_y = c * x - c * y + middle, c * x + c * y + middle
    pixels = torch.arange(size)
    weight_x = (1 - (from_x.flatten()[:, None] - pixels).abs()).clamp(min=0)
    weight_y = (1 - (from_y.flatten()[:, None] - pixels).abs()).clamp(min=0)
    turned = (weight_y[:, :, None] * weight_x[:, None, :]).flatten(1)
    return torch.stack([disc.diag(), disc[:, None] * turned])


GROUPS = {
    group.name: group
    for group in (
        PlaneGroup("p4", 4),
        PlaneGroup("p4m", 4, mirrors=True),
        PlaneGroup("c8", 8),
        PlaneGroup("d8", 8, mirrors=True),
    )
}
"""The groups by name: quarter turns without and with mirrors, turns by 45 degrees likewise."""


def group_named(name: str) -> PlaneGroup:
    """Look up a group.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    if name not in GROUPS:
        raise UnknownNameError("group", name, GROUPS)
    return GROUPS[name]
