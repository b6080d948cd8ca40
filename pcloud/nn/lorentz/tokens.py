"""Tokens of Lorentz-equivariant transformers: class token, reference vectors, particles.

A reference is a four-vector that is added to every jet as another token. It transforms like the
particles, so that the network remains equivariant. Because it is the same for all jets, the network
can learn a dependence on it. With two beams as references, the remaining symmetries are rotations
about the beam axis and boosts along it; with the direction of time in addition, only the rotations.

The scores are invariant, so that each jet can be boosted to any frame together with the references.
The rounding error in float32 is smallest in a frame midway between the detector, where the
references are small, and the rest frame of the jet, where its momenta are small: see
:func:`midway_frame`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud import kinematics as kin
from pcloud.errors import UnknownNameError
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.lorentz.minkowski import BEAMS, MassTreatment, mass_treatment, with_references
from pcloud.nn.pooling import sum_pool

__all__ = ["BEAM_REFERENCES", "SpacetimeTokens", "midway_frame", "vector", "wedge"]

BEAM_REFERENCES: dict[str, tuple[tuple[float, ...], ...]] = {
    "none": (),
    "plane": ((0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
    "lightlike": ((1.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0, -1.0)),
    "spacelike": ((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, -1.0)),
    "timelike": BEAMS,
}
"""Reference vectors that define the beam axis: two beams, or the transverse plane of x and y."""

TIME_REFERENCE = ((1.0, 0.0, 0.0, 0.0),)
"""Direction of time in the rest frame of the detector."""

_MAX_GAMMA = 20.0  # of the boost; it is also the size of the references after the boost


def midway_frame(p4: Tensor, references: Tensor, layout: RaggedLayout) -> tuple[Tensor, Tensor]:
    """Boost particles and references to the frame midway between detector and rest frame of the jet.

    The Minkowski product of two vectors is a small difference of large terms if their components
    are large. For a jet with gamma = 20, the momenta are large in the detector frame. In the rest
    frame of the jet, the references are 20 times larger than in the detector. In the frame midway,
    gamma is 3.2 for both. There, the difference between the scores of a trained L-GATr-slim in
    float32 and in float64 is twenty times smaller than in the rest frame of the jet.

    The boost is limited to gamma = 20, because a jet of one light particle has no rest frame.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Momenta of the particles in GeV and float64.
    references : Tensor, shape (K, 4)
        Reference vectors in float64.
    layout : RaggedLayout
        Jets of the batch.

    Returns
    -------
    Tensor, shape (N, 4)
        Momenta of the particles.
    Tensor, shape (B, K, 4)
        Reference vectors in the frame of each jet.
    """
    total = sum_pool(p4.detach(), layout)  # the score does not depend on the frame
    energy = total[:, :1].clamp(min=torch.finfo(p4.dtype).tiny)
    mass = kin.mass2(total).clamp(min=0).sqrt().unsqueeze(-1)
    beta = -total[:, 1:] / (energy + mass)  # half the rapidity of the jet
    limit = (1 - 1 / _MAX_GAMMA**2) ** 0.5
    beta = beta * (limit / beta.norm(dim=-1, keepdim=True).clamp(min=limit))
    return kin.boost(p4, beta[layout.batch]), kin.boost(references, beta.unsqueeze(1))


def vector(p4: Tensor) -> Tensor:
    """Multivectors (..., 16) of the space-time algebra from four-vectors (..., 4)."""
    return F.pad(p4, (1, 11))


def wedge(a: Tensor, b: Tensor) -> Tensor:
    """Multivector (..., 16) of the plane of two four-vectors `a` and `b` (..., 4).

    Components 5 to 10 are those of the bivector: tx, ty, tz, xy, xz, yz.
    """
    i, j = torch.triu_indices(4, 4, 1, device=a.device)
    return F.pad(a[..., i] * b[..., j] - a[..., j] * b[..., i], (5, 5))


class SpacetimeTokens(nn.Module):
    """Inputs of an equivariant transformer: class tokens, reference vectors and particles.

    Parameters
    ----------
    in_features : int
        Features per particle F, used only if `scalars` is ``"features"``.
    mass : {"regulated", "stored", "zero"} or callable
        Masses of the particles, see :mod:`pcloud.nn.lorentz.minkowski`.
    scalars : {"none", "features"}
        With ``"features"``, a particle has the features `x` in addition to its momentum.
    beams : str
        Name of the beam references, a key of `BEAM_REFERENCES`.
    time : bool
        If True, the direction of time is a reference, too.
    scale : float
        Momentum in GeV that is represented by 1.

    Raises
    ------
    UnknownNameError
        If `mass`, `scalars` or `beams` is unknown.
    """

    beams: Tensor
    time: Tensor

    def __init__(
        self,
        in_features: int,
        *,
        mass: MassTreatment | str,
        scalars: str,
        beams: str,
        time: bool,
        scale: float,
    ) -> None:
        super().__init__()
        if scalars not in ("none", "features"):
            raise UnknownNameError("kind of scalars", scalars, ("none", "features"))
        if beams not in BEAM_REFERENCES:
            raise UnknownNameError("kind of beams", beams, BEAM_REFERENCES)
        self.mass = mass_treatment(mass)
        self.use_features = scalars == "features"
        self.num_scalars = 1 + in_features * self.use_features
        self.as_plane = beams == "plane"
        self.scale = scale
        self.register_buffer("beams", _vectors(BEAM_REFERENCES[beams]), persistent=False)
        self.register_buffer("time", _vectors(TIME_REFERENCE if time else ()), persistent=False)

    def forward(
        self, x: Tensor, p4: Tensor, layout: RaggedLayout
    ) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Tokens of all jets: for each jet the class token, the references, and the particles.

        Parameters
        ----------
        x : Tensor, shape (N, F)
            Features of the particles.
        p4 : Tensor, shape (N, 4)
            Momenta of the particles in GeV.
        layout : RaggedLayout
            Jets of the batch.

        Returns
        -------
        Tensor, shape (N', 16)
            Multivectors in float64, zero for the class token.
        Tensor, shape (N', S)
            Scalars: a flag that is 1 for the class token, else 0, and the features of the particles.
        RaggedLayout
            Layout of the N' tokens.
        """
        p4, _ = self.mass(p4, layout)
        references = torch.cat([self.beams, self.time]).double()
        p4, references = midway_frame(p4, references, layout)
        references = self._embed(references)
        count = references.shape[1]
        nodes, order = with_references(layout, 1 + count)
        added = F.pad(references, (0, 0, 1, 0)).flatten(0, 1)  # (B (1 + K'), 16)
        flags = F.pad(p4.new_ones(layout.num_jets, 1, 1), (0, 0, 0, count)).flatten(0, 1)
        scalars = torch.cat([p4.new_zeros(p4.shape[0], 1), flags])
        if self.use_features:
            scalars = torch.cat([scalars, F.pad(x.to(p4), (0, 0, 0, added.shape[0]))], dim=1)
        return torch.cat([vector(p4 / self.scale), added])[order], scalars[order], nodes

    @property
    def num_added(self) -> int:
        """Number of tokens before the particles of each jet: the class token and the references."""
        beams = 1 if self.as_plane else len(self.beams)
        return 1 + beams + len(self.time)

    def _embed(self, references: Tensor) -> Tensor:
        """Multivectors (B, K', 16) of the references (B, K, 4)."""
        if not self.as_plane:
            return vector(references)
        x, y, *time = references.unbind(1)
        return torch.stack([wedge(x, y), *map(vector, time)], dim=1)


def _vectors(components: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(components, dtype=torch.float64).reshape(-1, 4)
