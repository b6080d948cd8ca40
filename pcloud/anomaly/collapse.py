"""Check if an anomaly detector has collapsed, so that its score knows nothing of its training."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from pcloud.anomaly.detector import Detector
from pcloud.evaluation.measured import Measured
from pcloud.modality import Dataset, Modality

__all__ = ["Collapse", "collapse_on", "measure_collapse"]

_JETS = 2000
_BATCH_SIZE = 250

_ERRORS = 3


@dataclass(frozen=True)
class Collapse:
    """Mean score of jets of the learned class, and that of a detector that has learned nothing.

    For an autoencoder the latter takes each jet's reconstruction from the code of another jet; for a
    density it is that of independent Gaussians.

    Parameters
    ----------
    score, trivial : Measured
        Means with their errors.
    gain : Measured
        Mean difference of the two, with its error on the same jets.
    least : float
        Smallest gain of a detector that has not collapsed.
    baseline : str
        Source of the score of nothing learned, in words.
    """

    score: Measured
    trivial: Measured
    gain: Measured
    least: float
    baseline: str

    @property
    def has_collapsed(self) -> bool:
        """True if the gain is not clearly above the smallest one."""
        bound = max(self.least, _ERRORS * self.gain.error)
        return not self.gain.value > bound  # also for NaN

    def __str__(self) -> str:
        """Verdict in one line."""
        numbers = (
            f"mean score {self.score} of the learned class, {self.trivial} with {self.baseline}"
        )
        if not self.has_collapsed:
            return numbers
        return (
            f"the detector has collapsed: {numbers}; more steps, another learning rate (lr) or, of an "
            "autoencoder, a larger code (code_size) may help"
        )


@torch.no_grad()
def measure_collapse(detector: Detector, batches: Iterable[tuple[Any, ...]]) -> Collapse:
    """Measure what a detector has learned, on jets of the class that it learned.

    Parameters
    ----------
    detector : Detector
        Trained detector; it is evaluated in evaluation mode and left in its mode.
    batches : iterable of tuple
        Arguments of the network for each batch, of several jets.

    Returns
    -------
    Collapse
    """
    was_training = detector.training
    detector.eval()
    pairs = [(detector.scores(*a), detector.trivial_scores(*a)) for a in batches]
    detector.train(was_training)
    own, other = (torch.cat(part).double().cpu().numpy() for part in zip(*pairs, strict=True))
    trivial = Measured.mean(other)
    least = detector.least_gain * trivial.value
    gain = Measured.mean(other - own)
    return Collapse(Measured.mean(own), trivial, gain, least, detector.baseline)


def collapse_on(detector: Detector, modality: Modality, data: Dataset) -> Collapse:
    """Measure what a detector has learned on the first entries of a data set of the learned class."""
    device = next(detector.parameters()).device
    loader = modality.loader(data, _BATCH_SIZE)
    batches = itertools.islice(loader, _JETS // _BATCH_SIZE)
    return measure_collapse(detector, (modality.arguments(b.to(device)) for b in batches))
