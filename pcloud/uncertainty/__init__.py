"""Predictive uncertainty of the score of each jet, from several predictive samples."""

from pcloud.uncertainty.dropout import dropout_switched_on
from pcloud.uncertainty.laplace import LaplaceHead
from pcloud.uncertainty.last_layer import HeadSplit
from pcloud.uncertainty.measures import Uncertainty
from pcloud.uncertainty.shifts import SHIFTS, shifted
from pcloud.uncertainty.variational import MeanFieldHead

__all__ = [
    "SHIFTS",
    "HeadSplit",
    "LaplaceHead",
    "MeanFieldHead",
    "Uncertainty",
    "dropout_switched_on",
    "shifted",
]
