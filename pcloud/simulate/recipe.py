"""The Landscape recipe: which events are made and which of their jets are kept.

14 TeV, hadronic top pairs and QCD dijets, anti-kT jets with R = 0.8, the leading jet if its pT
lies in 550-650 GeV within ``|eta| < 2``, tops contained in the jet, at most 200 constituents [1]_.

The pT range of the hard process is a compromise, since events far below it rarely make a jet of
550 GeV, by initial-state radiation. Measured in slices of it, 250-1200 GeV: selected jets per event
made, cross section times that efficiency, and of the selected jets the mean multiplicity and
the median mass.

======= ======= ====== ==== ===== ======= ======= ==== =====
pT hat  QCD eff rate   n    mass  top eff rate    n    mass
======= ======= ====== ==== ===== ======= ======= ==== =====
250-350 0.0018  35 pb  44   70    0.003   0.04 pb 60   176
350-450 0.032   111 pb 51   77    0.013   0.04 pb 62   174
450-500 0.13    74 pb  47   68    0.06    0.03 pb 63   174
500-550 0.34    106 pb 46   68    0.19    0.06 pb 60   175
550-600 0.61    109 pb 46   65    0.46    0.09 pb 61   173
600-650 0.47    50 pb  45   68    0.35    0.04 pb 62   172
650-900 < 0.11  9 pb   48   70    < 0.1   0.01 pb
======= ======= ====== ==== ===== ======= ======= ==== =====

Tops do not change with it: from 450 GeV, three quarters are kept. QCD jets become heavier and
more numerous in particles below: from 400 GeV, four fifths are kept and the mean multiplicity is
one percent low.

References
----------
.. [1] The Machine Learning Landscape of Top Taggers, https://arxiv.org/abs/1902.09914
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Beam energy in GeV, jet radius, pT range in GeV, largest |eta|, number of constituents kept.
CENTRE_OF_MASS = 14_000.0
RADIUS = 0.8
PT_MIN, PT_MAX = 550.0, 650.0
ETA_MAX = 2.0
MAX_CONSTITUENTS = 200
CLASSES = ("qcd", "top")


@dataclass(frozen=True)
class Process:
    """A hard process.

    Parameters
    ----------
    label : int
        Index of the class of its jets in `CLASSES`.
    settings : tuple of str
        What Pythia reads to make it.
    pt_hat : tuple of float
        Range of the pT of the hard process in GeV.
    """

    label: int
    settings: tuple[str, ...]
    pt_hat: tuple[float, float]


PROCESSES = {
    "top": Process(
        label=1,
        settings=(
            "Top:gg2ttbar = on",
            "Top:qqbar2ttbar = on",
            "24:onMode = off",
            "24:onIfAny = 1 2 3 4 5",
        ),
        pt_hat=(450.0, 800.0),
    ),
    "qcd": Process(label=0, settings=("HardQCD:all = on",), pt_hat=(400.0, 900.0)),
}


def contained(axis: np.ndarray, decay: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """Whether a top and its three quarks lie within `radius` of a jet axis.

    Parameters
    ----------
    axis : ndarray, shape (B, 4)
        Momentum of the jet, ``(E, px, py, pz)``.
    decay : ndarray, shape (B, T, 4, 4)
        Momenta of the top, its bottom and the two quarks of its W, for T tops an event.
    radius : float, default 0.8
        Largest distance in the (eta, phi) plane.

    Returns
    -------
    ndarray of bool, shape (B, T)
    """
    eta, phi = _eta_phi(axis[:, None, None, :])
    part_eta, part_phi = _eta_phi(decay)
    dphi = (part_phi - phi + np.pi) % (2 * np.pi) - np.pi
    return (np.hypot(part_eta - eta, dphi) < radius).all(axis=-1)


def in_window(axis: np.ndarray) -> np.ndarray:
    """Whether jets lie in the pT and eta window of the recipe; `axis` has shape (B, 4)."""
    pt = np.hypot(axis[:, 1], axis[:, 2])
    eta, _ = _eta_phi(axis)
    return (pt > PT_MIN) & (pt < PT_MAX) & (np.abs(eta) < ETA_MAX)


def _eta_phi(p4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pt = np.maximum(np.hypot(p4[..., 1], p4[..., 2]), 1e-12)
    return np.arcsinh(p4[..., 3] / pt), np.arctan2(p4[..., 2], p4[..., 1])
