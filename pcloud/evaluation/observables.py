"""High-level observables of jets, from their constituents alone: flat arrays in, columns out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pcloud.io.jets import FlatJets

__all__ = ["jet_observables"]

Floats = NDArray[np.floating]

_TINY = 1e-12


def jet_observables(jets: FlatJets) -> dict[str, Floats]:
    """Columns (B,) that describe each jet, float64.

    ``pt`` in GeV, ``eta`` and ``mass`` in GeV of the vector sum of the constituents;
    ``multiplicity``, their number; ``width``, their mean distance to the axis in eta and phi,
    weighted by pT; ``pt_dispersion``, sqrt(sum pT^2) / sum pT, 1 for a jet of one particle;
    ``leading_share``, the largest pT over the sum. An empty jet has zeros.

    Parameters
    ----------
    jets : FlatJets
        Momenta in GeV.
    """
    number, count = len(jets), jets.counts
    jet = np.repeat(np.arange(number), count)

    def total(values: Floats) -> Floats:
        return np.bincount(jet, values, number).astype(np.float64)

    e, px, py, pz = (component.astype(np.float64) for component in jets.p4)
    axis = [total(component) for component in (e, px, py, pz)]
    pt, jet_pt = np.hypot(px, py), np.hypot(axis[1], axis[2])
    eta, jet_eta = _eta(pt, pz), _eta(jet_pt, axis[3])
    angle = np.arctan2(py, px) - np.arctan2(axis[2], axis[1])[jet]
    distance = np.hypot(eta - jet_eta[jet], np.remainder(angle + np.pi, 2 * np.pi) - np.pi)
    scalar = np.maximum(total(pt), _TINY)
    hardest = np.zeros(number)
    np.maximum.at(hardest, jet, pt)
    mass2 = axis[0] ** 2 - axis[1] ** 2 - axis[2] ** 2 - axis[3] ** 2
    return {
        "pt": jet_pt,
        "eta": jet_eta,
        "mass": np.sqrt(np.maximum(mass2, 0)),
        "multiplicity": count.astype(np.float64),
        "width": total(pt * distance) / scalar,
        "pt_dispersion": np.sqrt(total(pt**2)) / scalar,
        "leading_share": hardest / scalar,
    }


def _eta(pt: Floats, pz: Floats) -> Floats:
    return np.arcsinh(pz / np.maximum(pt, _TINY))
