"""Split-conformal prediction: sets of classes that contain the true one at a given rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.calibration import probabilities
from pcloud.evaluation.scores import Scores
from pcloud.stored_values import Fraction
from pcloud.typing import Floats

__all__ = ["ConformalSets", "conformal_sets_of_scores", "fit_conformal"]


@dataclass(frozen=True)
class ConformalSets:
    """Prediction sets: all classes whose probability reaches a cut.

    Parameters
    ----------
    alpha : float
        Requested fraction of jets whose set does not contain the true class.
    cuts : tuple of float
        Smallest probability with which each class is in the set. It is 0 where there were too few
        jets for this `alpha`.
    """

    alpha: Annotated[float, Interval(gt=0, lt=1)]
    cuts: tuple[Fraction, ...]

    def __call__(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Mask (B, C) of the classes in the set of each jet, from probabilities (B, C).

        A set may be empty, where no class is likely, or contain all classes.
        """
        return np.asarray(scores) >= np.array(self.cuts)

    def __repr__(self) -> str:
        """Requested coverage and cuts."""
        cuts = ", ".join(f"{cut:.4g}" for cut in self.cuts)
        return f"ConformalSets(coverage {1 - self.alpha:.4g}, probability of at least {cuts})"


def fit_conformal(
    labels: ArrayLike,
    scores: ArrayLike,
    alpha: float = 0.1,
    *,
    by_class: bool = False,
    weights: ArrayLike | None = None,
) -> ConformalSets:
    """Fit the cuts on jets that were used neither in the training nor for a calibration map.

    If these and future jets are exchangeable, the set of a future jet contains its true class with
    a probability of at least 1 - alpha, and of at most ``1 - alpha + 1 / (n + 1)`` if no scores
    tie. This holds for any network, calibrated or not. It is an average over all jets. With
    `by_class` it holds for the jets of each class, for any class fractions.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
        True class of each jet.
    scores : array_like, shape (n,) or (n, C)
        Probability of the second of two classes, or of each class.
    alpha : float
        Requested fraction of jets whose set does not contain the true class.
    by_class : bool
        Use a separate cut for each class.
    weights : array_like, shape (n,), optional
        Weights of the jets, not negative. The coverage is that of jets drawn with these weights; a
        future jet counts with the largest of them, so that the coverage is not lower.

    Raises
    ------
    InputError
        If `alpha` is not between 0 and 1, the arrays cannot be used, or a weight is negative.

    References
    ----------
    Sadinle, Lei and Wasserman, https://arxiv.org/abs/1609.00451; Angelopoulos and Bates,
    A Gentle Introduction to Conformal Prediction, https://arxiv.org/abs/2107.07511; Tibshirani et
    al., Conformal Prediction under Covariate Shift, https://arxiv.org/abs/1904.06019 (weights).

    Examples
    --------
    >>> sets = fit_conformal([0, 1, 1, 0], [0.2, 0.9, 0.6, 0.4], alpha=0.4)
    >>> sets([[0.7, 0.3], [0.5, 0.5]]).tolist()
    [[True, False], [False, False]]
    """
    return conformal_sets_of_scores(
        Scores.from_arrays(labels, scores, weights=weights), alpha, by_class=by_class
    )


def conformal_sets_of_scores(
    sample: Scores, alpha: float = 0.1, *, by_class: bool = False
) -> ConformalSets:
    """Fit as :func:`fit_conformal`, from `Scores` that are already checked."""
    sample.refuse_negative_weights("conformal calibration")
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be between 0 and 1, got {alpha:g}")
    p = probabilities(sample)
    of_truth = p[np.arange(len(p)), sample.labels]
    if not by_class:
        return ConformalSets(alpha, (_cut(of_truth, alpha, sample.weights),) * p.shape[1])
    members = [sample.labels == c for c in range(p.shape[1])]
    cuts = (_cut(of_truth[jets], alpha, sample.weights_of(jets)) for jets in members)
    return ConformalSets(alpha, tuple(cuts))


def _cut(of_truth: Floats, alpha: float, weights: Floats | None) -> float:
    """Weighted quantile at `alpha` of the probability of the true class; 0 if there is none."""
    if weights is None or len(weights) == 0:
        return _unweighted_cut(of_truth, alpha)
    order = np.argsort(of_truth)
    below = np.cumsum(weights[order]) - weights[order]
    # the future jet, with the largest weight, may have any probability
    allowed = alpha * (weights.sum() + weights.max()) * (1 + 1e-12) - weights.max()
    k = int(np.searchsorted(below, allowed, side="right"))
    return float(of_truth[order][k - 1]) if k else 0.0


def _unweighted_cut(of_truth: Floats, alpha: float) -> float:
    """k-th smallest probability of the true class, k = floor(alpha (n + 1)); 0 if k is 0."""
    k = int(np.floor(alpha * (len(of_truth) + 1) * (1 + 1e-12)))
    return float(np.sort(of_truth)[k - 1]) if k else 0.0
