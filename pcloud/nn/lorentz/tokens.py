"""Tokens of Lorentz-equivariant transformers: class token, references, particles.

A reference is a fixed direction of space-time that every jet is given beside its particles. It
transforms like them, and so breaks no symmetry of the network; as it is the same for all jets, the
network can learn what depends on it: a pair of beams leaves rotations about the beam axis and
boosts along it, the direction of time in addition rotations alone.

The scores being invariant, jets may be boosted to any frame together with the references. Midway
between the detector, where the references are small, and the jet at rest, where its momenta are,
rounding to float32 loses least: see :func:`midway_frame`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud import kinematics as kin
from pcloud.errors import UnknownNameError
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.lorentz.minkowski import MassTreatment, mass_treatment, with_references
from pcloud.nn.pooling import sum_pool

__all__ = ["BEAMS", "SpacetimeTokens", "midway_frame", "vector", "wedge"]

BEAMS: dict[str, tuple[tuple[float, ...], ...]] = {
    "none": (),
    "plane": ((0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
    "lightlike": ((1.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0, -1.0)),
    "spacelike": ((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, -1.0)),
    "timelike": ((2**0.5, 0.0, 0.0, 1.0), (2**0.5, 0.0, 0.0, -1.0)),
}
"""Four-vectors that tell the beam axis: two beams, or the transverse plane that x and y span."""

TIME = ((1.0, 0.0, 0.0, 0.0),)
"""The direction of time in the frame of the detector."""

_GAMMA = 20.0  # of the boost, at most: it is the size of the references there


def midway_frame(p4: Tensor, references: Tensor, layout: RaggedLayout) -> tuple[Tensor, Tensor]:
    """Particles and references in the frame midway between the detector and the jet at rest.

    Products of vectors cancel from the squares of their components. In the detector those of a jet
    of gamma = 20 are large, in its rest frame those of the references, 20 times what they were;
    midway both have gamma = 3.2. In float32 the scores of a trained L-GATr-slim then differ from
    those in float64 by twenty times less than with jets at rest.

    No boost is larger than gamma = 20: a jet of one light particle has no rest frame.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        In GeV and float64.
    references : Tensor, shape (K, 4)
        In float64.
    layout : RaggedLayout
        Jets of the batch.

    Returns
    -------
    Tensor, shape (N, 4)
        Particles.
    Tensor, shape (B, K, 4)
        References, in the frame of each jet.
    """
    total = sum_pool(p4.detach(), layout)  # the score does not depend on the frame
    energy = total[:, :1].clamp(min=torch.finfo(p4.dtype).tiny)
    mass = kin.mass2(total).clamp(min=0).sqrt().unsqueeze(-1)
    beta = -total[:, 1:] / (energy + mass)  # half the rapidity of the jet
    limit = (1 - 1 / _GAMMA**2) ** 0.5
    beta = beta * (limit / beta.norm(dim=-1, keepdim=True).clamp(min=limit))
    return kin.boost(p4, beta[layout.batch]), kin.boost(references, beta.unsqueeze(1))


def vector(p4: Tensor) -> Tensor:
    """Four-vectors (..., 4) as multivectors (..., 16) of the geometric algebra of space-time."""
    return F.pad(p4, (1, 11))


def wedge(a: Tensor, b: Tensor) -> Tensor:
    """The plane of four-vectors `a` and `b` (..., 4) as a multivector (..., 16).

    The bivector has the components tx, ty, tz, xy, xz, yz, from the sixth on.
    """
    i, j = torch.triu_indices(4, 4, 1, device=a.device)
    return F.pad(a[..., i] * b[..., j] - a[..., j] * b[..., i], (5, 5))


class SpacetimeTokens(nn.Module):
    """What an equivariant transformer sees of the jets: class tokens, references and particles.

    Parameters
    ----------
    in_features : int
        Features per particle F, not used unless `scalars` is ``"features"``.
    mass : {"regulated", "stored", "zero"} or callable
        What masses the particles have, see :mod:`pcloud.nn.lorentz.minkowski`.
    scalars : {"none", "features"}
        Whether a particle is described by the features `x` beside its momentum.
    beams : str
        Name of the vectors that tell the beam axis.
    time : bool
        Whether the direction of time is a reference, too.
    scale : float
        Momentum in GeV that counts as 1.
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
        if beams not in BEAMS:
            raise UnknownNameError("kind of beams", beams, BEAMS)
        self.mass = mass_treatment(mass)
        self.use_features = scalars == "features"
        self.num_scalars = 1 + in_features * self.use_features
        self.as_plane = beams == "plane"
        self.scale = scale
        self.register_buffer("beams", _vectors(BEAMS[beams]), persistent=False)
        self.register_buffer("time", _vectors(TIME if time else ()), persistent=False)

    def forward(
        self, x: Tensor, p4: Tensor, layout: RaggedLayout
    ) -> tuple[Tensor, Tensor, RaggedLayout]:
        """Tokens of all jets, the class token of each first, then the references.

        Parameters
        ----------
        x : Tensor, shape (N, F)
            Features.
        p4 : Tensor, shape (N, 4)
            In GeV.
        layout : RaggedLayout
            Jets of the batch.

        Returns
        -------
        Tensor, shape (N', 16)
            Multivectors, zero for the class token; in float64.
        Tensor, shape (N', S)
            Scalars: 1 for the class token alone, and the features of particles.
        RaggedLayout
            Of the N' tokens.
        """
        p4, _ = self.mass(p4, layout)
        references = torch.cat([self.beams, self.time]).double()
        p4, references = midway_frame(p4, references, layout)
        known = self._embed(references)
        nodes, order = with_references(layout, 1 + known.shape[1])
        first = F.pad(known, (0, 0, 1, 0)).flatten(0, 1)  # (B + K B, 16)
        flags = F.pad(p4.new_ones(layout.num_jets, 1, 1), (0, 0, 0, known.shape[1])).flatten(0, 1)
        scalars = torch.cat([p4.new_zeros(len(p4), 1), flags])
        if self.use_features:
            scalars = torch.cat([scalars, F.pad(x.to(p4), (0, 0, 0, len(first)))], dim=1)
        return torch.cat([vector(p4 / self.scale), first])[order], scalars[order], nodes

    def _embed(self, references: Tensor) -> Tensor:
        """Beams and time (B, K, 4) as multivectors (B, K', 16)."""
        if not self.as_plane:
            return vector(references)
        x, y, *time = references.unbind(1)
        return torch.stack([wedge(x, y), *map(vector, time)], dim=1)


def _vectors(components: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(components, dtype=torch.float64).reshape(-1, 4)
