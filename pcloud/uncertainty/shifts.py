"""Out-of-distribution jets, made from any jets: other pT, other detector, pile-up."""

from __future__ import annotations

import awkward as ak

from pcloud.errors import UnknownNameError
from pcloud.evaluation.robustness_transformations import transform
from pcloud.io.jets import FlatJets

__all__ = ["SHIFTS", "shifted"]

SHIFTS: dict[str, tuple[str, float]] = {
    "pT x 1.5": ("energy_scale", 0.5),
    "smeared 30 %": ("energy_resolution", 0.3),
    "soft pile-up": ("soft_particles", 30.0),
}
"""Shifts by name, each a transformation of :mod:`pcloud.evaluation.robustness_transformations` with
its strength: momenta scaled by 1.5; momenta of each particle scaled by a log-normal factor of mean
1 and width 0.3; thirty soft particles with a mean pT of 1 GeV, uniform in the disc of the jet."""


def shifted(jets: ak.Array, shift: str, seed: int = 0) -> ak.Array:
    """Apply a shift to jets; labels are kept, extra columns of particles are dropped.

    Parameters
    ----------
    jets : awkward.Array
        Jets as from :func:`pcloud.read_jets`.
    shift : str
        Name of the shift in :data:`SHIFTS`.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    awkward.Array
        Jets with particles in decreasing order of pT.

    Raises
    ------
    UnknownNameError
        If there is no such shift.
    """
    if shift not in SHIFTS:
        raise UnknownNameError("shift", shift, SHIFTS)
    kept = [name for name in ("p4", "jet_p4", "label") if name in jets.fields]
    name, strength = SHIFTS[shift]
    changed = transform(FlatJets.from_awkward(jets[kept]), name, strength, seed)
    return changed.to_awkward(jets.attrs.get("classes", ()))
