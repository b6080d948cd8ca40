"""Recipe of the Landscape sample: generated events and selection of jets.

Events are hadronic top pairs, QCD dijets and, beyond that sample, pairs of hadronic W bosons at 14 TeV. The leading anti-kT jet with R = 0.8 is
selected if its pT is 550-650 GeV and ``|eta| < 2``. A top jet must contain the top quark and its
decay products, and a W jet the W boson and its two quarks. At most 200 constituents are stored [1]_.

The pT range of the hard process is a compromise: events far below it rarely contain a jet of 550 GeV,
from initial-state radiation. The table shows for slices of this pT the efficiency (selected jets per
generated event), the rate (cross section times efficiency), and the mean multiplicity and median mass
(GeV) of the selected jets.

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

Top jets do not depend on this pT; the range from 450 GeV contains three quarters of them. QCD jets
have larger masses and multiplicities at small pT. The range from 400 GeV contains four fifths of
them, and the mean multiplicity is 1 % too small.

References
----------
.. [1] The Machine Learning Landscape of Top Taggers, https://arxiv.org/abs/1902.09914
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Centre-of-mass energy in GeV.
CENTRE_OF_MASS = 14_000.0

#: Jet radius.
RADIUS = 0.8

#: pT range of jets in GeV.
PT_MIN = 550.0
PT_MAX = 650.0

#: Largest |eta| of jets.
ETA_MAX = 2.0

#: Number of stored constituents.
MAX_CONSTITUENTS = 200
CLASSES = ("qcd", "top")
W_CLASSES = ("qcd", "w")

#: Processes that are simulated together.
MIXTURES = {"both": ("top", "qcd"), "w_qcd": ("w", "qcd")}


@dataclass(frozen=True)
class Process:
    """Hard process.

    Parameters
    ----------
    label : int
        Index of the class of the jets in `classes_of` the process.
    settings : tuple of str
        Settings of Pythia.
    pt_hat : tuple of float
        Range of the pT of the hard process in GeV.
    seed_key : int
        Number that tells its random numbers from those of other processes.
    resonance : int
        PDG code of the particle whose decay a jet must contain, 6 or 24; 0 for none.
    """

    label: int
    settings: tuple[str, ...]
    pt_hat: tuple[float, float]
    seed_key: int
    resonance: int = 0


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
        seed_key=1,
        resonance=6,
    ),
    "qcd": Process(label=0, settings=("HardQCD:all = on",), pt_hat=(400.0, 900.0), seed_key=0),
    "w": Process(
        label=1,
        settings=(
            "WeakDoubleBoson:ffbar2WW = on",
            "24:onMode = off",
            "24:onIfAny = 1 2 3 4 5",
        ),
        pt_hat=(450.0, 800.0),
        seed_key=3,  # 2 is that of the shuffling
        resonance=24,
    ),
}


def classes_of(process: str) -> tuple[str, str]:
    """Names of the classes of a process or a mixture, in the order of the labels."""
    return W_CLASSES if process in ("w", "w_qcd") else CLASSES


def contained(axis: np.ndarray, decay: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """Return True for top quarks or W bosons that are contained in a jet, with their quarks.

    Parameters
    ----------
    axis : ndarray, shape (B, 4)
        Momenta of the jets, ``(E, px, py, pz)``.
    decay : ndarray, shape (B, T, D, 4)
        Momenta of the particle and its quarks, see `EventGenerator.events`, for T particles per event.
    radius : float, default 0.8
        Largest distance to the jet axis in eta and phi.

    Returns
    -------
    ndarray of bool, shape (B, T)
    """
    eta, phi = _eta_phi(axis[:, None, None, :])
    part_eta, part_phi = _eta_phi(decay)
    dphi = (part_phi - phi + np.pi) % (2 * np.pi) - np.pi
    return (np.hypot(part_eta - eta, dphi) < radius).all(axis=-1)


def in_window(axis: np.ndarray) -> np.ndarray:
    """Return True for jets, ``axis (B, 4)``, in the range of pT and eta of the recipe."""
    pt = np.hypot(axis[:, 1], axis[:, 2])
    eta, _ = _eta_phi(axis)
    return (pt > PT_MIN) & (pt < PT_MAX) & (np.abs(eta) < ETA_MAX)


def _eta_phi(p4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pt = np.maximum(np.hypot(p4[..., 1], p4[..., 2]), 1e-12)
    return np.arcsinh(p4[..., 3] / pt), np.arctan2(p4[..., 2], p4[..., 1])
