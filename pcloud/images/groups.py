"""Groups of rotations and mirrors of the plane, and what they do to a square filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pcloud.errors import UnknownNameError

__all__ = ["GROUPS", "PlaneGroup", "group_named"]

_RING_WIDTH = 0.5  # pixels, standard deviation of a ring
_MIN_SINGULAR_VALUE = 1e-6  # relative to the largest; smaller ones are rounding


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
    https://arxiv.org/abs/1602.07576; Weiler and Cesa, General E(2)-equivariant steerable CNNs,
    https://arxiv.org/abs/1911.08251.
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

        Quarter turns and mirrors permute the pixels. On a group with turns by 45 degrees, filters
        are first projected, in all orientations alike, on the circular harmonics that the pixels
        resolve: these can be turned without interpolation, and keep their sum.
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
    """Projection on steerable filters, and their turn by 45 degrees, (2, size^2, size^2).

    A steerable filter is a sum of circular harmonics: a Gaussian ring times cos(m phi) or
    sin(m phi). A turn rotates the coefficients of each pair, and is exact, whatever the pixels.
    """
    basis, frequencies = _circular_harmonics(size)
    coefficients = torch.linalg.pinv(basis, rtol=_MIN_SINGULAR_VALUE)
    turns = [_harmonic_turn(m, math.pi / 4) for m in frequencies]
    return torch.stack(
        [basis @ coefficients, basis @ torch.block_diag(*turns) @ coefficients]
    ).float()


def _circular_harmonics(size: int) -> tuple[Tensor, list[int]]:
    """Harmonics on the pixels of a filter, (size^2, K), and the frequency of each ring and pair.

    Rings are one pixel apart; that of radius r has frequencies up to r, as more are not resolved by
    its pixels. The sum of all harmonics of m > 0 is zero on the plane, and made so on the pixels:
    filters in all orientations give the same response to a constant image.
    """
    middle = (size - 1) / 2
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) - middle] * 2, indexing="ij")
    radius = torch.hypot(x, y).flatten()
    phi = torch.atan2(-y, x).flatten()  # y points down
    columns, frequencies = [], []
    for ring in (middle - i for i in range(math.floor(middle) + 1)):
        gauss = torch.exp(-((radius - ring) ** 2) / (2 * _RING_WIDTH**2))
        for m in range(math.ceil(ring) + 1):
            waves = [torch.cos(m * phi), torch.sin(m * phi)] if m else [torch.ones_like(phi)]
            for wave in waves:
                column = torch.where((radius > 0) | (m == 0), gauss * wave, 0.0)
                columns.append(column - gauss * (column.sum() / gauss.sum()) if m else column)
            frequencies.append(m)
    return torch.stack(columns, dim=1), frequencies


def _harmonic_turn(frequency: int, angle: float) -> Tensor:
    """A turn by `angle` in rad on the coefficients of cos(m phi) and sin(m phi)."""
    if frequency == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    c, s = math.cos(frequency * angle), math.sin(frequency * angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


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
