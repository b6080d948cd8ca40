"""Transformations of jets with a strength, such as energy scale, pile-up or a boost.

A transformation takes jets, its strength and a random generator, and returns new jets; the original
jets are not modified. Momenta are computed in double precision and rounded once. The stored
momentum of a jet, if it has one, changes accordingly: rotations and boosts act on it as on a
particle, other transformations add the change of the sum of the particles. Rotations and boosts act
on further collections, too; other transformations change only the particles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import STORED_ANGLES
from pcloud.io.jets import JET_MOMENTUM, FlatCollection, FlatJets, as_offsets
from pcloud.typing import Floats

__all__ = ["TRANSFORMATIONS", "Transformation", "prepare", "transform"]

Generator = np.random.Generator
Change = Callable[[FlatJets, float, Generator], FlatJets]

_RADIUS = 0.8  # radius of the disc around the jet axis in which particles are added
_SOFT_PT = 1.0  # GeV, mean pT of an added pile-up particle
_NUM_EMISSIONS = 5  # soft emissions per jet
_ETA_MAX = 20.0  # bound on pseudorapidities, which are infinite along the beam
_STORED_ANGLES = (
    *STORED_ANGLES,
    "deta",
    "dphi",
)  # columns that are computed again from the momenta


@dataclass(frozen=True)
class Transformation:
    """Transformation of jets with a strength.

    Attributes
    ----------
    name : str
        Name in :data:`TRANSFORMATIONS`.
    title : str
        Short description.
    meaning : str
        Meaning of the strength, with its unit.
    strengths : tuple of float
        Default strengths.
    change : callable
        Function ``change(jets, strength, generator) -> jets``.
    is_valid : callable
        Function that returns True for an allowed strength.
    moves_jet : bool
        True if `change` also transforms the stored momentum of a jet.
    """

    name: str
    title: str
    meaning: str
    strengths: tuple[float, ...]
    change: Change
    is_valid: Callable[[float], bool] = lambda strength: strength >= 0
    moves_jet: bool = False


TRANSFORMATIONS: dict[str, Transformation] = {}
"""Transformations by name; `register` adds one."""


def register(
    name: str,
    title: str,
    meaning: str,
    strengths: Sequence[float],
    is_valid: Callable[[float], bool] = lambda strength: strength >= 0,
    *,
    moves_jet: bool = False,
) -> Callable[[Change], Change]:
    """Register a function as a transformation (decorator); see :class:`Transformation`."""

    def add(change: Change) -> Change:
        TRANSFORMATIONS[name] = Transformation(
            name, title, meaning, tuple(strengths), change, is_valid, moves_jet
        )
        return change

    return add


def prepare(jets: FlatJets) -> FlatJets:
    """Convert jets to the form that all transformations return, for a comparison with them.

    Particles are in decreasing order of pT. The columns ``stored_deta`` and ``stored_dphi`` of some files are
    dropped, because they would not change with the momenta.
    """
    columns = {k: v for k, v in jets.particle.items() if k not in _STORED_ANGLES}
    return _take(replace(jets, particle=columns), _by_pt(jets), jets.counts)


def transform(jets: FlatJets, name: str, strength: float, seed: int = 0) -> FlatJets:
    """Transform jets; the result has the form of :func:`prepare`.

    Parameters
    ----------
    jets : FlatJets
        Momenta in GeV.
    name : str
        Name in :data:`TRANSFORMATIONS`.
    strength : float
        Strength of the transformation; at 0 the jets do not change.
    seed : int
        Seed of the random numbers.

    Raises
    ------
    UnknownNameError
        If there is no such transformation.
    InputError
        If this strength is not allowed.

    Examples
    --------
    >>> two = FlatJets(np.array([0, 2]), tuple(np.ones((4, 2))))
    >>> transform(two, "energy_scale", 0.05).p4[0]
    array([1.05, 1.05])
    """
    if name not in TRANSFORMATIONS:
        raise UnknownNameError("transformation", name, TRANSFORMATIONS)
    transformation = TRANSFORMATIONS[name]
    if not transformation.is_valid(strength):
        raise InputError(f"{name} cannot have the strength {strength:g}: {transformation.meaning}")
    generator = np.random.default_rng(seed)
    before = prepare(jets)
    after = transformation.change(before, strength, generator)
    if not transformation.moves_jet and all(name in jets.jet for name in JET_MOMENTUM):
        after = replace(after, jet=before.jet | _following(before, after))
    return prepare(after)


def _following(before: FlatJets, after: FlatJets) -> dict[str, Floats]:
    """Stored momenta of the jets plus the change of the sum of their particles."""
    change = (_jet_p4(after) - _jet_p4(before)).numpy()
    return {name: before.jet[name] + change[:, i] for i, name in enumerate(JET_MOMENTUM)}


# Energies


@register(
    "energy_scale",
    "energy scale of all particles",
    "relative shift",
    (-0.05, -0.02, 0.02, 0.05),
    lambda strength: strength > -1,
)
def _energy_scale(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    return _scaled(jets, 1 + strength)


@register(
    "energy_resolution",
    "energies smeared particle by particle",
    "relative width of a log-normal factor of mean 1",
    (0.05, 0.1, 0.2),
)
def _energy_resolution(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    width = np.sqrt(np.log1p(strength**2))
    normal = generator.normal(size=jets.offsets[-1])
    return _scaled(jets, np.exp(width * normal - width**2 / 2))


# Lost and added particles


@register(
    "particle_loss",
    "particles lost",
    "probability of losing a particle; the one with the highest pT is kept",
    (0.02, 0.05, 0.1, 0.2),
    lambda strength: 0 <= strength <= 1,
)
def _particle_loss(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    keep = generator.random(jets.offsets[-1]) >= strength
    keep[jets.offsets[:-1][jets.counts > 0]] = True  # the particle with the highest pT is the first
    counts = np.add.reduceat(keep, jets.offsets[:-1]) * (jets.counts > 0) if len(jets) else keep
    return _take(jets, np.flatnonzero(keep), counts.astype(np.int64))


@register(
    "soft_particles",
    "soft particles added (pile-up)",
    f"mean number per jet, in a disc of radius {_RADIUS}, with a mean pT of {_SOFT_PT:g} GeV",
    (2.0, 10.0, 30.0),
)
def _soft_particles(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    counts = generator.poisson(strength, len(jets))
    return _with_added(jets, counts, generator.exponential(_SOFT_PT, counts.sum()), generator)


@register(
    "soft_emission",
    f"{_NUM_EMISSIONS} soft emissions per jet (infrared safety)",
    f"pT of each emission over that of the jet, in a disc of radius {_RADIUS}",
    (1e-4, 1e-3, 1e-2),
)
def _soft_emission(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    if strength == 0:
        return jets
    counts = np.full(len(jets), _NUM_EMISSIONS)
    jet_pt = kinematics.pt(_jet_p4(jets)).numpy()
    return _with_added(jets, counts, np.repeat(strength * jet_pt, counts), generator)


@register(
    "collinear_splitting",
    "particles split into two parallel ones (collinear safety)",
    "probability of splitting; the energy fraction is uniform",
    (0.1, 0.5, 1.0),
    lambda strength: 0 <= strength <= 1,
)
def _collinear_splitting(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    splits = generator.random(jets.offsets[-1]) < strength
    share = np.where(splits, generator.random(len(splits)), 1.0)
    rows = np.repeat(np.arange(len(splits)), 1 + splits)
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    counts = np.bincount(_jet(jets), weights=1 + splits, minlength=len(jets)).astype(np.int64)
    factor = (1 - share)[rows]
    factor[first] = share
    return _scaled(_take(jets, rows, counts), factor)


# Directions


@register(
    "angular_smearing",
    "directions smeared particle by particle",
    "width in eta and in phi (rad); pT and mass do not change",
    (0.005, 0.02, 0.05),
)
def _angular_smearing(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    p4 = _particle_p4(jets)
    normal = torch.from_numpy(generator.normal(size=(2, len(p4))))
    eta = kinematics.eta(p4).clamp(-_ETA_MAX, _ETA_MAX) + strength * normal[0]
    phi = kinematics.phi(p4) + strength * normal[1]
    smeared = kinematics.from_pt_eta_phi_mass(kinematics.pt(p4), eta, phi)
    # the stored squared mass may be negative by rounding: a mass could not keep it
    energy = kinematics.safe_sqrt(kinematics.energy(smeared) ** 2 + kinematics.mass2(p4))
    return _with_momenta(jets, torch.cat([energy.unsqueeze(-1), smeared[:, 1:]], dim=-1))


@register(
    "rotation",
    "jets rotated about the beam",
    "angle in rad",
    (0.5, 2.0),
    lambda strength: True,
    moves_jet=True,
)
def _rotation(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    return _mapped(jets, lambda p4: kinematics.rotate_z(p4, strength))


@register(
    "boost",
    "jets boosted along the beam",
    "rapidity",
    (0.1, 0.5, 1.0),
    lambda strength: True,
    moves_jet=True,
)
def _boost(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    beta = torch.tensor([0.0, 0.0, np.tanh(strength)], dtype=torch.float64)
    return _mapped(jets, lambda p4: kinematics.boost(p4, beta))


# Jets as columns


def _jet(jets: FlatJets) -> NDArray[np.integer]:
    """Index of the jet of each particle, (N,)."""
    return np.repeat(np.arange(len(jets)), jets.counts)


def _by_pt(jets: FlatJets) -> NDArray[np.integer]:
    """Order of the particles, jet by jet in decreasing order of pT."""
    return np.lexsort((-np.hypot(jets.p4[1], jets.p4[2]), _jet(jets)))


def _stacked(components: Iterable[NDArray[np.floating]]) -> Tensor:
    """Components as four-momenta (..., 4) in double precision."""
    return torch.from_numpy(np.stack([c.astype(np.float64) for c in components], axis=-1))


def _particle_p4(jets: FlatJets) -> Tensor:
    """Four-momenta of the particles, (N, 4), in double precision."""
    return _stacked(jets.p4)


def _jet_p4(jets: FlatJets) -> Tensor:
    """Sums of the four-momenta of the particles of each jet, (B, 4), in double precision."""
    jet = _jet(jets)
    sums = [np.bincount(jet, c.astype(np.float64), len(jets)) for c in jets.p4]
    return _stacked(total.astype(np.float64) for total in sums)


def _with_momenta(jets: FlatJets, p4: Tensor) -> FlatJets:
    """Jets whose particles have the four-momenta ``p4 (N, 4)``, rounded to the stored type."""
    dtype = jets.p4[0].dtype
    return replace(jets, p4=tuple(component.astype(dtype) for component in p4.numpy().T))


def _mapped(jets: FlatJets, change: Callable[[Tensor], Tensor]) -> FlatJets:
    """Jets with a change of every momentum, of those of further collections and of the jet, too."""
    changed = _with_momenta(jets, change(_particle_p4(jets)))
    moved = {name: _moved(entries, change) for name, entries in jets.collections.items()}
    changed = replace(changed, collections=moved)
    if not all(name in jets.jet for name in JET_MOMENTUM):
        return changed
    jet_p4 = change(_stacked(jets.jet[name] for name in JET_MOMENTUM)).numpy()
    return replace(changed, jet=jets.jet | dict(zip(JET_MOMENTUM, jet_p4.T, strict=True)))


def _moved(entries: FlatCollection, change: Callable[[Tensor], Tensor]) -> FlatCollection:
    """Entries of a collection with a change of their momenta or positions."""
    if entries.p4 is not None:
        changed = change(_stacked(entries.p4)).numpy().T
        rounded = (new.astype(old.dtype) for old, new in zip(entries.p4, changed, strict=True))
        return replace(entries, p4=tuple(rounded))
    if not {"eta", "phi"} <= entries.columns.keys():
        return entries
    eta, phi = (
        torch.from_numpy(entries.columns[name].astype(np.float64)) for name in ("eta", "phi")
    )
    p4 = change(kinematics.from_pt_eta_phi_mass(torch.ones_like(eta), eta, phi))
    columns = {"eta": kinematics.eta(p4).numpy(), "phi": kinematics.phi(p4).numpy()}
    return replace(entries, columns=entries.columns | columns)


def _scaled(jets: FlatJets, factor: Floats | float) -> FlatJets:
    """Jets whose momenta are multiplied by one factor, or by one for each particle."""
    factors = torch.as_tensor(factor, dtype=torch.float64).unsqueeze(-1)
    return _with_momenta(jets, factors * _particle_p4(jets))


def _take(jets: FlatJets, rows: NDArray[np.integer], counts: NDArray[np.integer]) -> FlatJets:
    """Jets of the particles `rows`, with `counts` particles each."""
    columns = {name: values[rows] for name, values in jets.particle.items()}
    p4 = tuple(c[rows] for c in jets.p4)
    return replace(jets, offsets=as_offsets(counts), p4=p4, particle=columns)


def _with_added(
    jets: FlatJets, counts: NDArray[np.integer], pt: Floats, generator: Generator
) -> FlatJets:
    """Jets with added massless particles, uniform in the disc; their other columns are zero."""
    jet = np.repeat(np.arange(len(jets)), counts)
    axis = _jet_p4(jets)[jet]
    distance = _RADIUS * np.sqrt(generator.random(len(jet)))
    angle = generator.uniform(0, 2 * np.pi, len(jet))
    eta = kinematics.eta(axis).clamp(-_ETA_MAX, _ETA_MAX) + torch.from_numpy(
        distance * np.cos(angle)
    )
    phi = kinematics.phi(axis) + torch.from_numpy(distance * np.sin(angle))
    added = kinematics.from_pt_eta_phi_mass(torch.from_numpy(pt), eta, phi).numpy()
    order = np.argsort(np.concatenate([_jet(jets), jet]), kind="stable")
    p4 = tuple(
        np.concatenate([old, new.astype(old.dtype)])[order]
        for old, new in zip(jets.p4, added.T, strict=True)
    )
    columns = {
        name: np.concatenate([values, np.zeros(len(jet), values.dtype)])[order]
        for name, values in jets.particle.items()
    }
    return replace(jets, offsets=as_offsets(jets.counts + counts), p4=p4, particle=columns)
