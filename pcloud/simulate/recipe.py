"""The Landscape recipe: which events are made and which of their jets are kept.

14 TeV, hadronic top pairs and QCD dijets, anti-kT jets with R = 0.8, the leading jet if its pT
lies in 550-650 GeV within ``|eta| < 2``, tops contained in the jet, at most 200 constituents [1]_.

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
    "qcd": Process(label=0, settings=("HardQCD:all = on",), pt_hat=(450.0, 800.0)),
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
