"""Generators: networks that make new jets, points and images.

A generator of clouds is a function ``model(x, u, label, layout) -> losses (B, K)`` with methods
that sample, see :class:`FlowMatching`. Points and small images are vectors, for which there are a
:class:`VAE` and a :class:`GAN`.
"""

from pcloud.generative.coordinates import CloudCoordinates
from pcloud.generative.flow_matching import FlowMatching
from pcloud.generative.gan import GAN
from pcloud.generative.integrate import METHODS, integrate
from pcloud.generative.vae import VAE
from pcloud.generative.vectors import VectorGenerator, fit_generator

__all__ = [
    "GAN",
    "METHODS",
    "VAE",
    "CloudCoordinates",
    "FlowMatching",
    "VectorGenerator",
    "fit_generator",
    "integrate",
]
