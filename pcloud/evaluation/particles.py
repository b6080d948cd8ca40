"""Performance of predictions for the particles of jets: classes and vertices, with errors.

Particles of a jet are not independent. Errors are those of jets: the influence of a jet is the sum of
those of its particles, and jets are resampled, with all of their particles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from pcloud.errors import InputError
from pcloud.evaluation.influence import METHOD, Estimate, effective_size
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.resampling import resamplings
from pcloud.evaluation.vertices import VertexCounts, match_vertices
from pcloud.typing import Booleans, Floats, Integers

__all__ = ["PredictedParticles", "PredictedVertices", "evaluate_particles"]

_METHOD = f"{METHOD}, of jets"


@dataclass(frozen=True)
class PredictedParticles:
    """Predicted classes of the particles of jets.

    Parameters
    ----------
    name : str
        Name of the label.
    classes : sequence of str
        Names of the classes.
    probabilities : ndarray, shape (N, C)
        Probabilities of the classes of each particle.
    counts : ndarray of int, shape (B,)
        Number of particles of each jet.
    labels : ndarray of int, shape (N,), optional
        True classes; negative for particles without a label. None if not known.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: Floats
    counts: Integers
    labels: Integers | None = None

    @property
    def known(self) -> Booleans:
        """Mask (N,) of the particles with a label."""
        assert self.labels is not None
        return self.labels >= 0

    @property
    def jet(self) -> Integers:
        """Jet (N,) of each particle."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(frozen=True)
class PredictedVertices:
    """Predicted vertices of the particles of jets.

    Parameters
    ----------
    name : str
        Name of the label.
    groups : ndarray of int, shape (N,)
        Number of the predicted vertex of each particle, negative for none.
    counts : ndarray of int, shape (B,)
        Number of particles of each jet.
    labels : ndarray of int, shape (N,), optional
        Number of the true vertex, negative for none. None if not known.
    known : ndarray of bool, shape (N,), optional
        Mask of the particles whose true vertex, or its absence, is known.
    """

    name: str
    groups: Integers
    counts: Integers
    labels: Integers | None = None
    known: Booleans | None = None

    @property
    def jet(self) -> Integers:
        """Jet (N,) of each particle."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def matched(self) -> VertexCounts:
        """Numbers (B,) of true, predicted and matched vertices of each jet."""
        assert self.labels is not None
        assert self.known is not None
        return match_vertices(self.labels, self.groups, self.known, self.jet, len(self.counts))


def evaluate_particles(
    sample: PredictedParticles | PredictedVertices,
    weights: Floats | None = None,
    *,
    num_bootstrap: int = 200,
    seed: int = 0,
) -> dict[str, Measured]:
    """Measure a prediction for particles, with statistical errors of the jets.

    Parameters
    ----------
    sample : PredictedParticles or PredictedVertices
        Predictions of particles with known labels.
    weights : ndarray, shape (B,), optional
        Weights of the jets.
    num_bootstrap : int
        Number of resamplings of the jets.
    seed : int
        Seed of the resamplings.

    Returns
    -------
    dict of str to Measured
        Of classes ``accuracy``, and ``class_auc@<class>``, the area under the ROC curve of each class
        against the rest. Of vertices ``efficiency``, the fraction of true vertices that are found,
        and ``purity``, the fraction of predicted vertices that match a true one, see
        :func:`~pcloud.evaluation.vertices.match_vertices`.

    Raises
    ------
    InputError
        If no particle has a known label.
    """
    w = np.ones(len(sample.counts)) if weights is None else weights

    def drawn() -> Iterator[Integers]:
        return resamplings(np.zeros(len(w), dtype=np.int64), num_bootstrap, seed)

    if isinstance(sample, PredictedVertices):
        counts = sample.matched()
        return {
            "efficiency": _ratio(counts.matched, counts.true, w, drawn),
            "purity": _ratio(counts.matched, counts.predicted, w, drawn),
        }
    known = sample.known
    if not known.any():
        raise InputError(f"particle label {sample.name!r} is missing for all of the jets")
    assert sample.labels is not None
    jet, labels, scores = sample.jet[known], sample.labels[known], sample.probabilities[known]
    correct = np.bincount(jet, scores.argmax(axis=1) == labels, minlength=len(w))
    found = {"accuracy": _ratio(correct, np.bincount(jet, minlength=len(w)), w, drawn)}
    for i, name in enumerate(sample.classes):
        is_class = labels == i
        if is_class.any() and not is_class.all():
            found[f"class_auc@{name}"] = _area(scores[:, i], is_class, jet, w, drawn)
    return found


def _ratio(
    passed: Integers | Floats,
    total: Integers,
    weights: Floats,
    drawn: Callable[[], Iterator[Integers]],
) -> Measured:
    """Fraction of things of which each jet has several, from their numbers (B,) in each jet."""
    number = float((weights * total).sum())
    if not number > 0:
        return Measured(float("nan"), float("nan"), "none")
    value = float((weights * passed).sum()) / number
    estimate = Estimate(value, weights * (passed - value * total) / number)
    effective = effective_size(weights[total > 0])
    again = [
        float((m * weights * passed).sum()) / float((m * weights * total).sum())
        for m in drawn()
        if (m * weights * total).sum() > 0
    ]
    return _measured(estimate.fraction(effective), again)


def _area(
    scores: Floats,
    is_class: Booleans,
    jet: Integers,
    weights: Floats,
    drawn: Callable[[], Iterator[Integers]],
) -> Measured:
    """Area under the ROC curve of a class of particles against the rest."""
    ranking = Ranking(scores, is_class, ~is_class, weights[jet])
    influence: Floats = np.bincount(jet, ranking.auc_influence(), minlength=len(weights)) * 1.0
    estimate = Estimate(float(ranking.counts.auc()), influence)
    again = [float(ranking.resampled(multiplicity[jet]).auc()) for multiplicity in drawn()]
    return _measured(Measured(estimate.value, estimate.error(), _METHOD), again)


def _measured(value: Measured, again: list[float]) -> Measured:
    """Value with the spread of its resamplings."""
    method = _METHOD if value.method == METHOD else value.method
    spread = float(np.nanstd(again, ddof=1)) if len(again) > 1 else None
    return replace(value, method=method, bootstrap=spread)
