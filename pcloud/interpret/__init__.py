"""Interpretation of networks: attribution, attention and Taylor coefficients."""

from pcloud.interpret.taylor import TaylorCoefficients, mean_in_plane, taylor_coefficients
from pcloud.interpret.taylor_cloud import cloud_taylor

__all__ = [
    "TaylorCoefficients",
    "cloud_taylor",
    "mean_in_plane",
    "taylor_coefficients",
]
