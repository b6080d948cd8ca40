"""Jets by the recipe of the Landscape sample, any number, any seed (extra ``sim``)."""

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
