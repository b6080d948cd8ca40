"""What may happen to jets between one sample and another: each a function with a strength.

A transformation takes jets, its strength and a generator of random numbers, and gives new jets; the
old ones stay as they are. Momenta are moved in double precision and rounded once. The stored momentum
of a jet, where there is one, follows: rotations and boosts act on it as on a particle, any other
change adds the change of the sum of the particles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.jets import JET_MOMENTUM, FlatJets, as_offsets
from pcloud.typing import Floats

__all__ = ["TRANSFORMATIONS", "Transformation", "prepare", "transform"]

Generator = np.random.Generator
Change = Callable[[FlatJets, float, Generator], FlatJets]

_RADIUS = 0.8  # of the disc about the axis in which particles are added
_SOFT_PT = 1.0  # GeV, mean pT of a pile-up-like particle
_EMISSIONS = 5  # soft emissions per jet
_STORED_ANGLES = ("deta", "dphi")  # columns that momenta give anew


@dataclass(frozen=True)
class Transformation:
    """A change of jets that has a strength.

    Attributes
    ----------
    name : str
        Name in :data:`TRANSFORMATIONS`.
    title : str
        What it does, for a reader.
    meaning : str
        What the strength is, with its unit.
    strengths : tuple of float
        Strengths at which to measure it, if none are asked for.
    change : callable
        ``change(jets, strength, generator) -> jets``.
    is_valid : callable
        Whether a strength is possible.
    moves_jet : bool
        Whether `change` acts on the stored momentum of a jet itself.
    """

    name: str
    title: str
    meaning: str
    strengths: tuple[float, ...]
    change: Change
    is_valid: Callable[[float], bool] = lambda strength: strength >= 0
    moves_jet: bool = False


TRANSFORMATIONS: dict[str, Transformation] = {}
"""All transformations by name; `register` adds to them."""


def register(
    name: str,
    title: str,
    meaning: str,
    strengths: Sequence[float],
    is_valid: Callable[[float], bool] = lambda strength: strength >= 0,
    *,
    moves_jet: bool = False,
) -> Callable[[Change], Change]:
    """Decorator that makes a change of jets known; see :class:`Transformation`."""

    def add(change: Change) -> Change:
        TRANSFORMATIONS[name] = Transformation(
            name, title, meaning, tuple(strengths), change, is_valid, moves_jet
        )
        return change

    return add


def prepare(jets: FlatJets) -> FlatJets:
    """Jets in the form in which all transformations leave them, to compare with.

    Particles in falling order of pT, and without the columns ``deta`` and ``dphi`` of some files,
    which would otherwise stay what they were while momenta move.
    """
    columns = {k: v for k, v in jets.particle.items() if k not in _STORED_ANGLES}
    return _take(replace(jets, particle=columns), _by_pt(jets), jets.counts)


def transform(jets: FlatJets, name: str, strength: float, seed: int = 0) -> FlatJets:
    """Jets after a transformation, in the form of :func:`prepare`.

    Parameters
    ----------
    jets : FlatJets
        Momenta in GeV.
    name : str
        Name in :data:`TRANSFORMATIONS`.
    strength : float
        How much; at 0 nothing happens.
    seed : int
        Of what is random in it.

    Raises
    ------
    UnknownNameError
        If there is no such transformation.
    InputError
        If it cannot have this strength.

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
    sums = zip(JET_MOMENTUM, _axis(before), _axis(after), strict=True)
    return {name: before.jet[name] + (new - old) for name, old, new in sums}


# Energies


@register(
    "energy_scale",
    "all energies too large or small",
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


# Particles that are lost, or come in addition


@register(
    "particle_loss",
    "particles not seen",
    "probability of losing a particle; the hardest of a jet stays",
    (0.02, 0.05, 0.1, 0.2),
    lambda strength: 0 <= strength <= 1,
)
def _particle_loss(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    keep = generator.random(jets.offsets[-1]) >= strength
    keep[jets.offsets[:-1][jets.counts > 0]] = True  # in falling order of pT
    counts = np.add.reduceat(keep, jets.offsets[:-1]) * (jets.counts > 0) if len(jets) else keep
    return _take(jets, np.flatnonzero(keep), counts.astype(np.int64))


@register(
    "soft_particles",
    "soft particles added, as by pile-up",
    f"mean number per jet, in a disc of radius {_RADIUS}, of {_SOFT_PT:g} GeV on average",
    (2.0, 10.0, 30.0),
)
def _soft_particles(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    counts = generator.poisson(strength, len(jets))
    return _with_added(jets, counts, generator.exponential(_SOFT_PT, counts.sum()), generator)


@register(
    "soft_emission",
    f"{_EMISSIONS} soft emissions per jet (infrared safety)",
    f"pT of each over that of the jet, in a disc of radius {_RADIUS}",
    (1e-4, 1e-3, 1e-2),
)
def _soft_emission(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    if strength == 0:
        return jets
    counts = np.full(len(jets), _EMISSIONS)
    pt = np.repeat(strength * np.hypot(*_axis(jets)[1:3]), counts)
    return _with_added(jets, counts, pt, generator)


@register(
    "collinear_splitting",
    "particles split into parallel ones (collinear safety)",
    "probability of splitting, the energy shared uniformly",
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
    "width in eta and in phi (rad), pT and mass kept",
    (0.005, 0.02, 0.05),
)
def _angular_smearing(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    e, px, py, pz = _double(jets)
    pt, mass2 = np.hypot(px, py), e**2 - px**2 - py**2 - pz**2
    eta, phi = np.arcsinh(pz / np.maximum(pt, 1e-12)), np.arctan2(py, px)
    eta, phi = (angle + strength * generator.normal(size=len(e)) for angle in (eta, phi))
    pz = pt * np.sinh(eta)
    e = np.sqrt(np.maximum(pt**2 + pz**2 + mass2, 0))
    return _moved(jets, e, pt * np.cos(phi), pt * np.sin(phi), pz)


@register(
    "rotation",
    "jets turned about the beam",
    "angle in rad",
    (0.5, 2.0),
    lambda strength: True,
    moves_jet=True,
)
def _rotation(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    cos, sin = np.cos(strength), np.sin(strength)
    return _mapped(jets, lambda e, px, py, pz: (e, cos * px - sin * py, sin * px + cos * py, pz))


@register(
    "boost",
    "jets boosted along the beam",
    "rapidity",
    (0.1, 0.5, 1.0),
    lambda strength: True,
    moves_jet=True,
)
def _boost(jets: FlatJets, strength: float, generator: Generator) -> FlatJets:
    cosh, sinh = np.cosh(strength), np.sinh(strength)
    return _mapped(jets, lambda e, px, py, pz: (cosh * e + sinh * pz, px, py, sinh * e + cosh * pz))


# Jets as columns


def _jet(jets: FlatJets) -> NDArray[np.integer]:
    return np.repeat(np.arange(len(jets)), jets.counts)


def _by_pt(jets: FlatJets) -> NDArray[np.integer]:
    """Particles jet by jet in falling order of pT."""
    return np.lexsort((-np.hypot(jets.p4[1], jets.p4[2]), _jet(jets)))


def _double(jets: FlatJets) -> tuple[Floats, ...]:
    return tuple(component.astype(np.float64) for component in jets.p4)


def _axis(jets: FlatJets) -> tuple[Floats, ...]:
    jet = _jet(jets)
    return tuple(np.bincount(jet, c, len(jets)).astype(np.float64) for c in _double(jets))


def _moved(jets: FlatJets, *p4: Floats) -> FlatJets:
    dtype = jets.p4[0].dtype
    return replace(jets, p4=tuple(component.astype(dtype) for component in p4))


def _mapped(jets: FlatJets, change: Callable[..., tuple[Floats, ...]]) -> FlatJets:
    """Jets with a change of every momentum, their own included where it is stored."""
    moved = _moved(jets, *change(*_double(jets)))
    if not all(name in jets.jet for name in JET_MOMENTUM):
        return moved
    own = change(*(jets.jet[name].astype(np.float64) for name in JET_MOMENTUM))
    return replace(moved, jet=jets.jet | dict(zip(JET_MOMENTUM, own, strict=True)))


def _scaled(jets: FlatJets, factor: Floats | float) -> FlatJets:
    return _moved(jets, *(factor * component for component in _double(jets)))


def _take(jets: FlatJets, rows: NDArray[np.integer], counts: NDArray[np.integer]) -> FlatJets:
    """Jets of these particles, `counts` of them each."""
    columns = {name: values[rows] for name, values in jets.particle.items()}
    return FlatJets(as_offsets(counts), tuple(c[rows] for c in jets.p4), columns, jets.jet)


def _with_added(
    jets: FlatJets, counts: NDArray[np.integer], pt: Floats, generator: Generator
) -> FlatJets:
    """Jets with massless particles uniformly in the disc; their other columns are zero."""
    jet = np.repeat(np.arange(len(jets)), counts)
    axis = _axis(jets)
    jet_pt = np.maximum(np.hypot(axis[1], axis[2]), 1e-12)
    distance = _RADIUS * np.sqrt(generator.random(len(jet)))
    angle = generator.uniform(0, 2 * np.pi, len(jet))
    eta = np.arcsinh(axis[3] / jet_pt)[jet] + distance * np.cos(angle)
    phi = np.arctan2(axis[2], axis[1])[jet] + distance * np.sin(angle)
    added = (pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta))
    order = np.argsort(np.concatenate([_jet(jets), jet]), kind="stable")
    p4 = tuple(
        np.concatenate([old, new.astype(old.dtype)])[order]
        for old, new in zip(jets.p4, added, strict=True)
    )
    columns = {
        name: np.concatenate([values, np.zeros(len(jet), values.dtype)])[order]
        for name, values in jets.particle.items()
    }
    return FlatJets(as_offsets(jets.counts + counts), p4, columns, jets.jet)
