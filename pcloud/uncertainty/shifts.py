"""Jets unlike those of the training, made from any: other pT, other detector, pile-up."""

from __future__ import annotations

from collections.abc import Callable

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from pcloud.errors import UnknownNameError
from pcloud.io import momenta

__all__ = ["SHIFTS", "shifted"]

_Array = NDArray[np.floating]


def _harder(
    p4: _Array, counts: NDArray[np.integer], rng: np.random.Generator
) -> tuple[_Array, NDArray[np.integer]]:
    return 1.5 * p4, counts


def _smeared(
    p4: _Array, counts: NDArray[np.integer], rng: np.random.Generator
) -> tuple[_Array, NDArray[np.integer]]:
    """Energies of the particles by 30 %, directions kept."""
    return p4 * np.exp(0.3 * rng.normal(size=(len(p4), 1))), counts


def _soft_particles(
    p4: _Array, counts: NDArray[np.integer], rng: np.random.Generator
) -> tuple[_Array, NDArray[np.integer]]:
    """Thirty massless particles of 1 GeV on average, evenly over a disc of radius 0.8."""
    number = rng.poisson(30, len(counts))
    jet = np.repeat(np.arange(len(counts)), counts)
    total = np.stack([np.bincount(jet, p4[:, i], len(counts)) for i in range(4)], axis=1)
    axis = np.repeat(total, number, axis=0)
    pt = rng.exponential(1.0, len(axis))
    radius, angle = 0.8 * np.sqrt(rng.random(len(axis))), 2 * np.pi * rng.random(len(axis))
    eta = np.arcsinh(axis[:, 3] / np.hypot(axis[:, 1], axis[:, 2])) + radius * np.cos(angle)
    phi = np.arctan2(axis[:, 2], axis[:, 1]) + radius * np.sin(angle)
    energy = pt * np.cosh(eta)
    soft = np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1)
    order = np.argsort(
        np.concatenate([jet, np.repeat(np.arange(len(counts)), number)]), kind="stable"
    )
    return np.concatenate([p4, soft.astype(p4.dtype)])[order], counts + number


SHIFTS: dict[str, Callable[..., tuple[_Array, NDArray[np.integer]]]] = {
    "pT x 1.5": _harder,
    "smeared 30 %": _smeared,
    "soft pile-up": _soft_particles,
}
"""The shifts by name: momenta scaled by 1.5; each particle's by a log-normal factor; thirty soft
particles of 1 GeV on average, spread evenly over the disc of the jet, as pile-up leaves them."""


def shifted(jets: ak.Array, shift: str, seed: int = 0) -> ak.Array:
    """Jets changed in one way, with their labels; extra columns of particles are dropped.

    Parameters
    ----------
    jets : awkward.Array
        As from :func:`pcloud.read_jets`.
    shift : str
        One of :data:`SHIFTS`.
    seed : int
        Of random changes.

    Raises
    ------
    UnknownNameError
        If there is no such shift.
    """
    if shift not in SHIFTS:
        raise UnknownNameError("shift", shift, SHIFTS)
    counts = ak.num(jets.p4, axis=1).to_numpy()
    p4, counts = SHIFTS[shift](momenta(jets), counts, np.random.default_rng(seed))
    columns = {name: p4[:, i] for i, name in enumerate(("E", "px", "py", "pz"))}
    fields = {"p4": ak.unflatten(ak.zip(columns, with_name="Momentum4D"), counts)}
    if "label" in jets.fields:
        fields["label"] = jets.label
    changed = ak.zip(fields, depth_limit=1)
    changed.attrs = dict(jets.attrs)
    return changed
