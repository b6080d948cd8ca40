"""Jets to images, step by step: centre, turn, flip, fill pixels, normalise.

Every step takes flat tensors of all particles of all jets, and any of them can be left out.
Coordinates are pseudorapidity and azimuth relative to the jet, ``pos (N, 2)``; `weight` is the
transverse momentum, which sets the axes. The pixels are linear in what is filled into them, so that
an image can be differentiated with respect to the momenta.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcloud import kinematics
from pcloud.errors import UnknownNameError
from pcloud.nn.graph.coordinates import eta_phi
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_pool

__all__ = ["JetImages", "centre", "flip", "normalise", "pixelate", "turn"]

_CHANNELS = ("pt", "count", "charged", "neutral")


def centre(pos: Tensor, weight: Tensor, layout: RaggedLayout) -> Tensor:
    """Positions relative to the centroid of each jet.

    Parameters
    ----------
    pos : Tensor, shape (N, 2)
        Pseudorapidity and azimuth, the latter not cut in two within a jet.
    weight : Tensor, shape (N,)
        Such as the transverse momentum.
    layout : RaggedLayout
        Jets of the batch.

    Returns
    -------
    Tensor, shape (N, 2)
        Their weighted mean is zero.
    """
    total = sum_pool(weight, layout).clamp(min=torch.finfo(weight.dtype).tiny)
    mean = sum_pool(pos * weight.unsqueeze(-1), layout) / total.unsqueeze(-1)
    return pos - mean[layout.batch]


def turn(pos: Tensor, weight: Tensor, layout: RaggedLayout) -> Tensor:
    """Centred positions turned so that the jet is longest along the second axis, azimuth.

    Parameters and result as of :func:`centre`. Afterwards the weighted mean of the product of the
    coordinates is zero, and the mean square of the second is the larger one. A jet that is as long
    in all directions stays as it is.
    """
    eta, phi = pos.unbind(-1)
    # angle of the longest axis: tan 2a = 2 <eta phi> / (<eta^2> - <phi^2>)
    products = torch.stack([eta * phi, eta.square() - phi.square()], dim=-1)
    mixed, difference = sum_pool(products * weight.unsqueeze(-1), layout).unbind(-1)
    angle = (torch.pi - torch.atan2(2 * mixed, difference)) / 2
    angle = torch.where((mixed == 0) & (difference <= 0), 0.0, angle)[layout.batch]
    c, s = angle.cos(), angle.sin()
    return torch.stack([c * eta - s * phi, s * eta + c * phi], dim=-1)


def flip(pos: Tensor, weight: Tensor, layout: RaggedLayout) -> Tensor:
    """Positions mirrored at both axes so that the positive sides hold the larger third moment.

    Parameters and result as of :func:`centre`. Neither sums of cubes nor of weights on one side
    are zero for a centred jet of three particles or more; those of cubes do not jump when a
    particle crosses an axis.
    """
    side = sum_pool(pos**3 * weight.unsqueeze(-1), layout)
    return pos * torch.where(side < 0, -1.0, 1.0)[layout.batch]


def pixelate(
    pos: Tensor, values: Tensor, layout: RaggedLayout, *, pixels: int = 37, half_width: float = 0.8
) -> Tensor:
    """Sum values into square pixels.

    Parameters
    ----------
    pos : Tensor, shape (N, 2)
        Positions; those outside of the image are left out.
    values : Tensor, shape (N, C)
        What to fill into each channel.
    layout : RaggedLayout
        Jets of the batch.
    pixels : int
        Pixels on a side; with an odd number the middle of a jet is the middle of a pixel.
    half_width : float
        The image reaches from ``-half_width`` to ``half_width``.

    Returns
    -------
    Tensor, shape (B, C, pixels, pixels)
        The first coordinate runs along the rows, downwards; differentiable in `values`.
    """
    cell = torch.floor((pos.detach() + half_width) * (pixels / (2 * half_width))).long()
    inside = ((cell >= 0) & (cell < pixels)).all(dim=-1)
    row, column = cell.unbind(-1)
    pixel = (layout.batch * pixels + row) * pixels + column
    images = values.new_zeros(layout.num_jets * pixels**2, values.shape[-1])
    # what lies outside is added to pixel 0 with weight zero: the shapes do not depend on the data
    filled = torch.where(inside.unsqueeze(-1), values, 0.0)
    images = images.index_add(0, torch.where(inside, pixel, 0), filled)
    return images.view(layout.num_jets, pixels, pixels, -1).permute(0, 3, 1, 2)


def normalise(images: Tensor) -> Tensor:
    """Images (B, C, H, W) with the sum of each channel 1; an empty channel stays empty."""
    total = images.sum(dim=(-2, -1), keepdim=True)
    return images / torch.where(total > 0, total, 1.0)


class JetImages(nn.Module):
    """The steps together: four-momenta to images.

    Parameters
    ----------
    channels : sequence of str
        ``"pt"``: transverse momentum; ``"count"``: number of particles; ``"charged"`` and
        ``"neutral"``: transverse momentum of either.
    pixels : int
        Pixels on a side.
    half_width : float
        Half the side of the image in pseudorapidity and azimuth.
    steps : sequence of callable
        ``step(pos, weight, layout) -> pos``, one after another.
    charge : int, optional
        Column of `x` that holds the charge, for the last two channels.

    Raises
    ------
    UnknownNameError
        If there is no such channel.
    ValueError
        If charged or neutral particles are wanted and `charge` is not given.
    """

    def __init__(
        self,
        channels: Sequence[str] = ("pt", "count"),
        *,
        pixels: int = 37,
        half_width: float = 0.8,
        steps: Sequence = (centre, turn, flip),
        charge: int | None = None,
    ) -> None:
        super().__init__()
        for name in channels:
            if name not in _CHANNELS:
                raise UnknownNameError("channel of jet images", name, _CHANNELS)
        if charge is None and {"charged", "neutral"} & set(channels):
            raise ValueError("charged and neutral particles need `charge`, the column that has it")
        self.channels = tuple(channels)
        self.pixels = pixels
        self.half_width = half_width
        self.steps = tuple(steps)
        self.charge = charge

    def forward(self, x: Tensor, p4: Tensor, layout: RaggedLayout) -> Tensor:
        """Images (B, C, pixels, pixels) of ``p4 (N, 4)`` in GeV; `x` for the charge alone."""
        pt = kinematics.pt(p4)
        pos = eta_phi(p4, layout)
        for step in self.steps:
            pos = step(pos, pt, layout)
        values = torch.stack([self._values(name, x, pt) for name in self.channels], dim=-1)
        images = pixelate(pos, values, layout, pixels=self.pixels, half_width=self.half_width)
        return normalise(images)

    def _values(self, name: str, x: Tensor, pt: Tensor) -> Tensor:
        if name == "pt":
            return pt
        if name == "count":
            return torch.ones_like(pt)
        assert self.charge is not None
        charged = x[:, self.charge] != 0
        return torch.where(charged if name == "charged" else ~charged, pt, 0.0)
