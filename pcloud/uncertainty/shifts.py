"""Jets unlike those of the training, made from any: other pT, other detector, pile-up."""

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
"""The shifts by name, as transformations of :mod:`pcloud.evaluation.robustness_transformations` and
their strengths: momenta scaled by 1.5; each particle's by a log-normal factor of mean 1 and width
0.3; thirty soft particles of 1 GeV on average, spread evenly over the disc of the jet."""


def shifted(jets: ak.Array, shift: str, seed: int = 0) -> ak.Array:
    """Jets changed in one way, with their labels; extra columns of particles are dropped.

    Parameters
    ----------
    jets : awkward.Array
        As from :func:`pcloud.read_jets`.
    shift : str
        One of :data:`SHIFTS`.
    seed : int
        Seed of random changes.

    Returns
    -------
    awkward.Array
        Jets with particles in falling order of pT.

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
