"""How sure a tagger is of each jet: several opinions, and what they disagree on."""

from pcloud.uncertainty.dropout import dropout_switched_on
from pcloud.uncertainty.head import HeadSplit
from pcloud.uncertainty.laplace import LaplaceHead
from pcloud.uncertainty.measures import Uncertainty
from pcloud.uncertainty.opinions import METHODS, Opinions, opinions_of
from pcloud.uncertainty.shifts import SHIFTS, shifted
from pcloud.uncertainty.variational import MeanFieldHead

__all__ = [
    "METHODS",
    "SHIFTS",
    "HeadSplit",
    "LaplaceHead",
    "MeanFieldHead",
    "Opinions",
    "Uncertainty",
    "dropout_switched_on",
    "opinions_of",
    "shifted",
]
