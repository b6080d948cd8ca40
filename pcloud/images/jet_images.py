"""Images of jets in steps: centre, rotate, flip, fill pixels, normalise.

Every step takes flat tensors of all particles of all jets, and is optional. Coordinates are
pseudorapidity and azimuth relative to the jet, ``pos (N, 2)``. The transverse momentum is the
`weight` that determines the axes. The pixels are linear in the values that are summed, so that an
image can be differentiated with respect to these values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcloud import kinematics
from pcloud.errors import UnknownNameError
from pcloud.models.sequence_options import names
from pcloud.nn.graph.coordinates import eta_phi
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_pool

__all__ = ["JetImages", "centre", "flip", "normalise", "pixelate", "turn"]

_CHANNELS = ("pt", "count", "charged", "neutral")


def centre(pos: Tensor, weight: Tensor, layout: RaggedLayout) -> Tensor:
    """Shift positions to the centroid of each jet.

    Parameters
    ----------
    pos : Tensor, shape (N, 2)
        Pseudorapidity and azimuth (rad), with no jump of 2 pi within a jet.
    weight : Tensor, shape (N,)
        Weight of each particle, such as its transverse momentum.
    layout : RaggedLayout
        Jets of the batch.

    Returns
    -------
    Tensor, shape (N, 2)
        Positions whose weighted mean is zero.

    Examples
    --------
    >>> layout = RaggedLayout.from_batch(torch.tensor([0, 0]))
    >>> centre(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.ones(2), layout)
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    """
    total = sum_pool(weight, layout).clamp(min=torch.finfo(weight.dtype).tiny)
    mean = sum_pool(pos * weight.unsqueeze(-1), layout) / total.unsqueeze(-1)
    return pos - mean[layout.batch]


def turn(pos: Tensor, weight: Tensor, layout: RaggedLayout) -> Tensor:
    """Rotate centred positions so that the second axis, azimuth, is the principal axis of the jet.

    Parameters and result are those of :func:`centre`. Afterwards the weighted mean of the product
    of the coordinates is zero, and the mean square of the second coordinate is the larger one. A
    jet with equal mean squares in all directions is not rotated.
    """
    eta, phi = pos.unbind(-1)
    # angle of the principal axis: tan 2a = 2 <eta phi> / (<eta^2> - <phi^2>)
    products = torch.stack([eta * phi, eta.square() - phi.square()], dim=-1)
    mixed, difference = sum_pool(products * weight.unsqueeze(-1), layout).unbind(-1)
    angle = (torch.pi - torch.atan2(2 * mixed, difference)) / 2
    angle = torch.where((mixed == 0) & (difference <= 0), 0.0, angle)[layout.batch]
    c = angle.cos()
    s = angle.sin()
    return torch.stack([c * eta - s * phi, s * eta + c * phi], dim=-1)


def flip(pos: Tensor, weight: Tensor, layout: RaggedLayout) -> Tensor:
    """Reflect positions so that their third moments along both axes are not negative.

    Parameters and result are those of :func:`centre`. Unlike the sum of weights on one side of an
    axis, the third moment is continuous when a particle crosses the axis.
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
        Positions; particles outside the image are left out.
    values : Tensor, shape (N, C)
        Values of each particle that are summed in the C channels.
    layout : RaggedLayout
        Jets of the batch.
    pixels : int
        Number of pixels on a side. If it is odd, the centre of a jet is the centre of a pixel.
    half_width : float
        Half-width of the image, which covers ``-half_width`` to ``half_width``.

    Returns
    -------
    Tensor, shape (B, C, pixels, pixels)
        Images with the first coordinate along the rows, downwards; differentiable in `values`.
    """
    cell = torch.floor((pos.detach() + half_width) * (pixels / (2 * half_width))).long()
    inside = ((cell >= 0) & (cell < pixels)).all(dim=-1)
    row, column = cell.unbind(-1)
    pixel = (layout.batch * pixels + row) * pixels + column
    images = values.new_zeros(layout.num_jets * pixels**2, values.shape[-1])
    # particles outside are added to pixel 0 with weight zero: shapes do not depend on the data
    filled = torch.where(inside.unsqueeze(-1), values, 0.0)
    images = images.index_add(0, torch.where(inside, pixel, 0), filled)
    return images.view(layout.num_jets, pixels, pixels, -1).permute(0, 3, 1, 2)


def normalise(images: Tensor) -> Tensor:
    """Normalise the sum of each channel of images (B, C, H, W) to 1; empty channels are kept.

    Examples
    --------
    >>> normalise(torch.tensor([[[[1.0, 3.0]]]]))
    tensor([[[[0.2500, 0.7500]]]])
    """
    total = images.sum(dim=(-2, -1), keepdim=True)
    return images / torch.where(total > 0, total, 1.0)


class JetImages(nn.Module):
    """Images of jets from four-momenta, with all steps.

    Parameters
    ----------
    channels : sequence of str
        Contents of the channels: ``"pt"``, transverse momentum; ``"count"``, number of particles;
        ``"charged"`` and ``"neutral"``, transverse momentum of charged and neutral particles.
    pixels : int
        Number of pixels on a side.
    half_width : float
        Half-width of the image in pseudorapidity and azimuth (rad).
    steps : sequence of callable
        Functions ``step(pos, weight, layout) -> pos``, applied in this order.
    charge : int, optional
        Column of `x` with the charge, for the channels ``"charged"`` and ``"neutral"``.

    Raises
    ------
    UnknownNameError
        If there is no such channel.
    ValueError
        If there is a channel of charged or neutral particles and `charge` is not given.
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
        self.channels = names("channels", channels)
        for name in self.channels:
            if name not in _CHANNELS:
                raise UnknownNameError("channel of jet images", name, _CHANNELS)
        if charge is None and {"charged", "neutral"} & set(self.channels):
            raise ValueError("the channels charged and neutral need `charge`, the column of `x`")
        self.pixels = pixels
        self.half_width = half_width
        self.steps = tuple(steps)
        self.charge = charge

    def forward(self, x: Tensor, p4: Tensor, layout: RaggedLayout) -> Tensor:
        """Images (B, C, pixels, pixels) of ``p4 (N, 4)`` in GeV; only the charge is used of `x`."""
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
