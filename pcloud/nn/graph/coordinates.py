"""Maps from four-momenta to the coordinates in which neighbours are searched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import UnknownNameError
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_pool

__all__ = [
    "Coordinates",
    "coordinates_named",
    "eta_phi",
    "follow_particles",
    "identity",
    "jet_momenta",
]

Coordinates = Callable[[Tensor, RaggedLayout], Tensor]
"""``(p4 or pos, layout) -> positions (N, D)``."""


def jet_momenta(p4: Tensor, layout: RaggedLayout) -> Tensor:
    """Momenta (B, 4) of the jets in GeV and float64: the stored ones, else the sums of ``p4 (N, 4)``.

    Examples
    --------
    >>> p4 = torch.tensor([[2.0, 1.0, 0.0, 0.0], [3.0, 0.0, 1.0, 1.0], [4.0, 1.0, 1.0, 1.0]])
    >>> jet_momenta(p4, RaggedLayout.from_batch(torch.tensor([0, 0, 1])))
    tensor([[5., 1., 1., 1.],
            [4., 1., 1., 1.]], dtype=torch.float64)
    """
    if layout.jet_p4 is not None:
        return layout.jet_p4.double()
    return sum_pool(p4.double(), layout)


def follow_particles(jet_p4: Tensor, before: Tensor, after: Tensor, layout: RaggedLayout) -> Tensor:
    """Update the stored momenta of jets whose particles have changed.

    The change of the sum of the particles is added to the stored momentum.

    Parameters
    ----------
    jet_p4 : Tensor, shape (B, 4)
        Momenta of the jets in GeV before the change.
    before, after : Tensor, shape (N, 4)
        Momenta of the particles in GeV before and after the change.
    layout : RaggedLayout
        Jets of the batch.

    Returns
    -------
    Tensor, shape (B, 4)
    """
    return jet_p4 + sum_pool(after.double() - before.double(), layout).to(jet_p4)


def eta_phi(p4: Tensor, layout: RaggedLayout) -> Tensor:
    """Pseudorapidity and azimuth relative to the axis of the jet; shape (N, 2).

    Differences are taken so that a jet at phi = pi is not split in two parts. They are computed in
    float64 and rounded once, so that the result does not depend on the order of summation. Rows
    without momentum, which have `p4` zero, are where ``layout.pos`` says.

    Examples
    --------
    >>> p4 = torch.tensor([[2.0, 2.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0]])
    >>> eta_phi(p4, RaggedLayout.from_batch(torch.tensor([0, 0]))).shape
    torch.Size([2, 2])
    """
    momenta = p4.double()
    axes = jet_momenta(momenta, layout)
    rows = momenta.shape[0]  # `len` would be constant in an exported network
    eta = kinematics.eta(torch.cat([momenta, axes]))
    deta = eta[:rows] - eta[rows:].index_select(0, layout.batch)
    dphi = kinematics.delta_phi(momenta, axes.index_select(0, layout.batch))
    pos = torch.stack([deta, dphi], dim=-1).to(p4.dtype)
    if layout.pos is None:
        return pos
    return torch.where((p4 != 0).any(-1, keepdim=True), pos, layout.pos.to(pos.dtype))


def identity(pos: Tensor, layout: RaggedLayout) -> Tensor:
    """Positions without change, for clouds whose points are not four-momenta.

    Examples
    --------
    >>> pos = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    >>> identity(pos, RaggedLayout.from_batch(torch.tensor([0, 0])))
    tensor([[0., 1.],
            [2., 3.]])
    """
    return pos


def coordinates_named(name: str | Coordinates) -> Coordinates:
    """Coordinate map of the given name; a function is returned as it is.

    Raises
    ------
    UnknownNameError
        If there is no map of this name.
    """
    if callable(name):
        return name
    known: dict[str, Coordinates] = {"eta_phi": eta_phi, "identity": identity}
    if name not in known:
        raise UnknownNameError("coordinate map", name, known)
    return known[name]
