"""Groups of rotations and reflections of the plane, and their action on square filters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pcloud.errors import UnknownNameError

__all__ = ["GROUPS", "PlaneGroup", "group_named"]

_RING_WIDTH = 0.5  # pixels, standard deviation of a Gaussian ring
_MIN_SINGULAR_VALUE = 1e-6  # relative to the largest; smaller ones are rounding errors


@dataclass(frozen=True)
class PlaneGroup:
    """Rotations by multiples of ``360 / rotations`` degrees, with or without reflections.

    Element ``g = m * rotations + r`` first reflects left and right if ``m = 1``, then rotates ``r``
    times anticlockwise. Element 0 is the identity.

    Parameters
    ----------
    name : str
        ``"p4"``, ``"p4m"``, ``"c8"`` or ``"d8"``.
    rotations : int
        Number of rotations, 4 or 8.
    mirrors : bool
        True if reflections belong to the group.

    References
    ----------
    Cohen and Welling, Group equivariant convolutional networks,
    https://arxiv.org/abs/1602.07576; Weiler and Cesa, General E(2)-equivariant steerable CNNs,
    https://arxiv.org/abs/1911.08251.

    Examples
    --------
    >>> PlaneGroup("p4m", rotations=4, mirrors=True).order
    8
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
        # g^-1 = mirror^m rotate^-r; exchanging both inverts the rotation
        mirrored = (m[:, None] + m) % 2
        turned = (1 - 2 * m[:, None]) * (r - r[:, None])
        return mirrored * self.rotations + turned % self.rotations

    def filter_maps(self, size: int) -> Tensor:
        """Action on flattened filters of ``size x size`` pixels, shape (G, size^2, size^2).

        Rotations by 90 degrees and reflections permute the pixels. On a group with rotations by 45
        degrees, the filters of all orientations are first projected on the circular harmonics that
        the pixels resolve. These are rotated without interpolation, and their sum does not change.
        """
        identity = torch.eye(size**2).view(-1, size, size)
        mirror = identity.flip(-1)
        turn = _turn_by_45(size) if self.rotations == 8 else None
        maps = []
        for m, r in zip(*(part.tolist() for part in self._parts()), strict=True):
            quarters, eighths = divmod(r, self.rotations // 4)
            image = mirror if m else identity  # (p, size, size): image of pixel p
            if turn is not None:
                image = (image.flatten(1) @ turn[eighths].T).view_as(image)
            maps.append(torch.rot90(image, quarters, (1, 2)).flatten(1).T)
        return torch.stack(maps).contiguous()

    def transform(self, images: Tensor, element: int) -> Tensor:
        """Transform ``images (..., H, W)`` by an element without rotations by 45 degrees.

        Raises
        ------
        ValueError
            If the element rotates by an odd multiple of 45 degrees.
        """
        mirrored, turns = divmod(element, self.rotations)
        quarters, rest = divmod(4 * turns, self.rotations)
        if rest:
            raise ValueError(f"element {element} of {self.name} is not a rotation by 90 degrees")
        return torch.rot90(images.flip(-1) if mirrored else images, quarters, (-2, -1))

    def _parts(self) -> tuple[Tensor, Tensor]:
        """Reflection m and rotation r of each element."""
        index = torch.arange(self.order)
        return index // self.rotations, index % self.rotations


def _turn_by_45(size: int) -> Tensor:
    """Projection on steerable filters, and their rotation by 45 degrees, (2, size^2, size^2).

    A steerable filter is a sum of circular harmonics, Gaussian rings times cos(m phi) or
    sin(m phi). A rotation acts on the coefficients of each pair, without interpolation.
    """
    basis, frequencies = _circular_harmonics(size)
    coefficients = torch.linalg.pinv(basis, rtol=_MIN_SINGULAR_VALUE)
    turns = [_harmonic_turn(m, math.pi / 4) for m in frequencies]
    return torch.stack(
        [basis @ coefficients, basis @ torch.block_diag(*turns) @ coefficients]
    ).float()


def _circular_harmonics(size: int) -> tuple[Tensor, list[int]]:
    """Harmonics on the pixels of a filter, (size^2, K), and the frequency of each ring and pair.

    The distance between rings is one pixel. A ring of radius r has frequencies up to r, since its
    pixels do not resolve higher ones. The integral of a harmonic of m > 0 over the plane is zero.
    Its sum over the pixels is set to zero, too, so that filters in all orientations have the same
    response to a constant image.
    """
    middle = (size - 1) / 2
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) - middle] * 2, indexing="ij")
    radius = torch.hypot(x, y).flatten()
    phi = torch.atan2(-y, x).flatten()  # y points down
    columns = []
    frequencies = []
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
    """Rotation by `angle` in rad of the coefficients of cos(m phi) and sin(m phi)."""
    if frequency == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    c = math.cos(frequency * angle)
    s = math.sin(frequency * angle)
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
"""Groups by name: rotations by 90 degrees without (p4) and with reflections (p4m), rotations by 45
degrees without (c8) and with reflections (d8)."""


def group_named(name: str) -> PlaneGroup:
    """Look up a group by name.

    Raises
    ------
    UnknownNameError
        If there is no such group.

    Examples
    --------
    >>> group_named("p4").rotations
    4
    """
    if name not in GROUPS:
        raise UnknownNameError("group", name, GROUPS)
    return GROUPS[name]
