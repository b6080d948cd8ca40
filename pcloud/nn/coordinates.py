"""Maps from four-momenta to the coordinates in which neighbours are sought."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import UnknownNameError
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_pool

__all__ = ["Coordinates", "coordinates_named", "eta_phi", "identity"]

Coordinates = Callable[[Tensor, RaggedLayout], Tensor]
"""``(p4 or pos, layout) -> positions (N, D)``."""


def eta_phi(p4: Tensor, layout: RaggedLayout) -> Tensor:
    """Pseudorapidity and azimuth relative to the jet axis, the vector sum; shape (N, 2).

    Relative to the axis so that a jet at phi = pi is not cut in two. Computed in float64 and rounded
    once, so that the result does not depend on the order in which the axis was summed.
    """
    momenta = p4.double()
    axis = sum_pool(momenta, layout)[layout.batch]
    deta = kinematics.eta(momenta) - kinematics.eta(axis)
    return torch.stack([deta, kinematics.delta_phi(momenta, axis)], dim=-1).to(p4.dtype)


def identity(pos: Tensor, layout: RaggedLayout) -> Tensor:
    """The positions themselves, for clouds whose points are no four-momenta."""
    return pos


def coordinates_named(name: str | Coordinates) -> Coordinates:
    """The map of that name, or `name` itself where it is a function already.

    Raises
    ------
    UnknownNameError
        If there is no map of that name.
    """
    if callable(name):
        return name
    known: dict[str, Coordinates] = {"eta_phi": eta_phi, "identity": identity}
    if name not in known:
        raise UnknownNameError("coordinate map", name, known)
    return known[name]
