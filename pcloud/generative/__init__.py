"""Generators: networks that make new jets, points and images.

A generator of clouds is a function ``model(x, u, label, layout) -> losses (B, K)`` with methods
that sample, see :class:`FlowMatching`.
"""

from pcloud.generative.coordinates import CloudCoordinates
from pcloud.generative.flow_matching import FlowMatching
from pcloud.generative.integrate import METHODS, integrate

__all__ = ["METHODS", "CloudCoordinates", "FlowMatching", "integrate"]
