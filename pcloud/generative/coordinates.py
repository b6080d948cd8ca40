"""Coordinates in which clouds are generated: inputs of a generator that can be inverted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import awkward as ak
import numpy as np
import torch
from annotated_types import Interval, Len
from torch import Tensor
from typing_extensions import TypedDict

from pcloud import kinematics
from pcloud.errors import InputError
from pcloud.feature import Feature
from pcloud.features import FeatureSet
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_by_index, sum_pool
from pcloud.python_jets import components_of
from pcloud.stored_values import Float, Name
from pcloud.validation import checked

__all__ = ["PARTICLE_COORDINATES", "CloudCoordinates", "jet_variables", "particle_coordinates"]

PARTICLE_COORDINATES = ("log_pt_rel", "deta", "dphi")
"""Coordinates of a particle, relative to the sum of the particles of its jet."""

_JET_VARIABLES = ("jet_pt", "jet_eta", "jet_mass")
_CORE = 0.2  # rad; angles below are resolved linearly, larger ones logarithmically
_MIN_MASS = 0.01  # of pT, added before the logarithm: a single particle has no mass
_FITTED_JETS = 20_000

_Positive = Annotated[float, Interval(gt=0, le=1e6)]
_Three = Annotated[tuple[Float, Float, Float], Len(3, 3)]
_ThreeScales = Annotated[tuple[_Positive, _Positive, _Positive], Len(3, 3)]


def particle_coordinates(p4: Tensor, jet: Tensor, batch: Tensor) -> Tensor:
    """Coordinates (N, 3) of massless particles relative to their jet.

    They are ``log(pT / pT_jet)`` and the angles (deta, dphi), stretched along their direction: the
    distance R becomes ``asinh(R / 0.2)``, which resolves the core of a jet. Angles are relative to
    rapidity and azimuth of the jet, so that a boost along the beam changes nothing.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Momenta of the particles in GeV.
    jet : Tensor, shape (B, 4)
        Sums of the particles of each jet in GeV.
    batch : Tensor, shape (N,)
        Jet of each particle.
    """
    share = kinematics.pt(p4).clamp(min=kinematics.MIN_GEV) / _safe(kinematics.pt(jet))[batch]
    deta = kinematics.finite_eta(p4) - _rapidity(jet)[batch]
    dphi = kinematics.wrap_phi(kinematics.phi(p4) - kinematics.phi(jet)[batch])
    angles = torch.stack([deta, dphi], dim=-1) / _CORE
    distance = angles.norm(dim=-1, keepdim=True)
    stretched = angles * torch.where(distance > 0, torch.asinh(distance) / _safe(distance), 1.0)
    return torch.cat([share.log().unsqueeze(-1), stretched], dim=-1)


def jet_variables(jet: Tensor) -> Tensor:
    """Variables (B, 3) of jets ``jet (B, 4)``: log(pT), rapidity and log(m / pT + 0.01)."""
    pt = _safe(kinematics.pt(jet))
    ratio = kinematics.safe_sqrt(kinematics.mass2(jet)) / pt
    return torch.stack([pt.log(), _rapidity(jet), (ratio + _MIN_MASS).log()], dim=-1)


@dataclass(frozen=True, repr=False)
class CloudCoordinates(FeatureSet):
    """Inputs of a generator of clouds, standardised by the training jets, and their inverse.

    Particles are taken as massless.

    Parameters
    ----------
    classes : tuple of str
        Names of the classes that are a condition; none if the jets have no labels.
    max_particles : int
        Largest number of particles of a training jet, which no generated jet exceeds.
    max_distance : float
        Largest stretched distance of a particle of a training jet from its axis.
    shift, scale : tuple of float
        Mean and standard deviation of the coordinates of particles.
    jet_shift, jet_scale : tuple of float
        Mean and standard deviation of the variables of jets.
    """

    kind: ClassVar[str] = "generator"

    features: tuple[Feature, ...] = tuple(Feature(name) for name in PARTICLE_COORDINATES)
    reference: str = "particles"
    jet_features: tuple[Feature, ...] = tuple(Feature(name) for name in _JET_VARIABLES)
    classes: tuple[str, ...] = ()
    max_particles: int = 1
    max_distance: float = 1.0
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    jet_shift: tuple[float, ...] = (0.0, 0.0, 0.0)
    jet_scale: tuple[float, ...] = (1.0, 1.0, 1.0)

    @classmethod
    def fit(cls, jets: ak.Array, classes: Sequence[str] = ()) -> CloudCoordinates:
        """Coordinates with the standardisation of training jets, at most 20 000 of them."""
        plain = cls(classes=tuple(classes))
        number = int(ak.max(ak.num(jets.p4, axis=1)))
        some = jets[:: -(-len(jets) // _FITTED_JETS)]
        p4 = torch.from_numpy(np.stack(components_of(some), axis=-1))
        counts = torch.from_numpy(ak.num(some.p4, axis=1).to_numpy())
        batch = torch.repeat_interleave(torch.arange(len(some)), counts)
        if not len(p4):
            raise InputError("the training jets have no particles")
        x = plain(p4, batch, num_jets=len(some)).double()
        u = plain.of_jets(p4, batch, num_jets=len(some)).double()
        return replace(
            plain,
            max_particles=number,
            max_distance=float(x[:, 1:].norm(dim=-1).max().clamp(min=1.0)),
            shift=tuple(x.mean(0).tolist()),
            scale=_spread(x),
            jet_shift=tuple(u.mean(0).tolist()),
            jet_scale=_spread(u),
        )

    def __call__(
        self,
        p4: Tensor,
        batch: Tensor,
        extras: Mapping[str, Tensor] | None = None,
        num_jets: int | None = None,
        jet_p4: Tensor | None = None,
    ) -> Tensor:
        """Standardised coordinates (N, 3); arguments as for :class:`~pcloud.features.FeatureSet`."""
        values = particle_coordinates(p4.double(), _sum_of(p4, batch, num_jets), batch)
        return ((values - _row(values, self.shift)) / _row(values, self.scale)).to(p4.dtype)

    def of_jets(
        self,
        p4: Tensor,
        batch: Tensor,
        extras: Mapping[str, Tensor] | None = None,
        num_jets: int | None = None,
        jet_p4: Tensor | None = None,
        *,
        is_sorted: bool = True,
    ) -> Tensor:
        """Standardised variables (B, 3) of jets: log(pT), rapidity, log(m / pT + 0.01)."""
        values = jet_variables(_sum_of(p4, batch, num_jets))
        return ((values - _row(values, self.jet_shift)) / _row(values, self.jet_scale)).to(p4.dtype)

    def momenta(self, x: Tensor, u: Tensor, phi: Tensor, layout: RaggedLayout) -> Tensor:
        """Momenta of massless particles from their coordinates.

        The transverse momenta are multiplied by one factor for each jet, and all particles are
        turned and boosted along the beam, so that the sum of the particles has exactly the pT and
        the rapidity of ``u``, and the azimuth ``phi``.

        Parameters
        ----------
        x : Tensor, shape (N, 3)
            Standardised coordinates.
        u : Tensor, shape (B, 3)
            Standardised variables of the jets.
        phi : Tensor, shape (B,)
            Azimuths of the jets in rad.
        layout : RaggedLayout
            Jets of the batch, none of which is empty.

        Returns
        -------
        Tensor, shape (N, 4), float64
            Momenta in GeV.
        """
        x = x.double() * _row(x.double(), self.scale) + _row(x.double(), self.shift)
        u = u.double() * _row(u.double(), self.jet_scale) + _row(u.double(), self.jet_shift)
        stretched = x[:, 1:]
        rho = stretched.norm(dim=-1, keepdim=True)
        distance = _CORE * torch.sinh(rho.clamp(max=self.max_distance))
        angles = stretched * torch.where(rho > 0, distance / _safe(rho), _CORE)
        share = x[:, 0].clamp(max=0.7).exp()  # twice the pT of the jet
        near = kinematics.from_pt_eta_phi_mass(share, angles[:, 0], angles[:, 1])
        total = sum_pool(near, layout)  # (B, 4)
        of_jet = layout.batch
        factor = u[:, 0].exp() / _safe(kinematics.pt(total))
        boost = u[:, 1] - _rapidity(total)
        turn = phi.double() - kinematics.phi(total)
        return kinematics.from_pt_eta_phi_mass(
            share * factor[of_jet], angles[:, 0] + boost[of_jet], angles[:, 1] + turn[of_jet]
        )

    def to_dict(self) -> dict[str, Any]:
        """Dictionary of plain values, for a checkpoint."""
        names = ("classes", "shift", "scale", "jet_shift", "jet_scale")
        plain: dict[str, Any] = {name: list(getattr(self, name)) for name in names}
        return plain | {"max_particles": self.max_particles, "max_distance": self.max_distance}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CloudCoordinates:
        """Inverse of :meth:`to_dict`."""
        found: dict[str, Any] = dict(checked(_Stored, dict(values)))
        return cls(**found | {"classes": tuple(found["classes"])})


class _Stored(TypedDict):
    """Plain values of the inputs of a generator."""

    classes: Annotated[list[Name], Len(0, 10_000)]
    max_particles: Annotated[int, Interval(ge=1, le=10**6)]
    max_distance: Annotated[float, Interval(gt=0, le=50)]
    shift: _Three
    scale: _ThreeScales
    jet_shift: _Three
    jet_scale: _ThreeScales


def _sum_of(p4: Tensor, batch: Tensor, num_jets: int | None) -> Tensor:
    """Sums (B, 4) of the particles of each jet in float64."""
    number = (int(batch.max()) + 1 if len(batch) else 0) if num_jets is None else num_jets
    return sum_by_index(p4.double(), batch, number)


def _spread(values: Tensor) -> tuple[float, ...]:
    """Standard deviation of each column, 1 where all values are equal."""
    spread = values.std(0, correction=0)
    return tuple(torch.where(spread > 1e-6, spread, 1.0).tolist())


def _row(values: Tensor, numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=values.dtype, device=values.device)


def _safe(values: Tensor) -> Tensor:
    return values.clamp(min=kinematics.MIN_GEV)


def _rapidity(p4: Tensor) -> Tensor:
    return kinematics.rapidity(p4).clamp(-kinematics.MAX_ETA, kinematics.MAX_ETA)
