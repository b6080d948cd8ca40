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

    Relative to the axis so that a jet at phi = pi is not cut in two.
    """
    n, momenta = p4.shape[0], torch.cat([p4, sum_pool(p4, layout).to(p4)])  # particles, then axes
    eta, phi = kinematics.eta(momenta), kinematics.phi(momenta)
    deta = eta[:n] - eta[n:][layout.batch]
    return torch.stack([deta, kinematics.wrap_phi(phi[:n] - phi[n:][layout.batch])], dim=-1)


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
