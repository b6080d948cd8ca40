"""Simulation of jets by the recipe of the Landscape sample (extra ``sim``).

:mod:`~pcloud.simulate.recipe` defines the events and the selection of jets,
:mod:`~pcloud.simulate.engines` runs Pythia and FastJet, and :mod:`~pcloud.simulate.detector` is the
detector simulation. A block of jets (:mod:`~pcloud.simulate.block`) depends only on its seed; blocks
are produced by several processes (:mod:`~pcloud.simulate.workers`) and combined to a sample
(:mod:`~pcloud.simulate.sample`). :mod:`~pcloud.simulate.embedded` produces the sample that is part
of the package.
"""

from pcloud.simulate.detector import DETECTORS, Calorimeter, Detector, Resolution, TrackRegion
from pcloud.simulate.sample import simulate, simulate_jets

__all__ = [
    "DETECTORS",
    "Calorimeter",
    "Detector",
    "Resolution",
    "TrackRegion",
    "simulate",
    "simulate_jets",
]
