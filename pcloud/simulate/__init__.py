"""Jets by the recipe of the Landscape sample, any number, any seed (extra ``sim``)."""

from pcloud.simulate.detector import Calorimeter, Detector, Resolution, TrackRegion
from pcloud.simulate.sample import simulate, simulate_jets

__all__ = ["Calorimeter", "Detector", "Resolution", "TrackRegion", "simulate", "simulate_jets"]
