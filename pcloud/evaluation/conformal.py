"""Sets of classes that hold the true one as often as wanted: split-conformal prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.calibration import probabilities
from pcloud.evaluation.scores import Scores

__all__ = ["ConformalSets", "fit_conformal"]


@dataclass(frozen=True)
class ConformalSets:
    """Sets of the classes whose probability is not too small.

    Parameters
    ----------
    alpha : float
        Wanted rate of failure.
    cuts : tuple of float
        Smallest probability with which each class is in the set; 0 where there were too few jets
        to say so with this `alpha`.
    """

    alpha: float
    cuts: tuple[float, ...]

    def __call__(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which classes are in the set of each jet, (B, C), from probabilities (B, C).

        A set may be empty, where no class is likely, or hold all classes.
        """
        return np.asarray(scores) >= np.array(self.cuts)


def fit_conformal(
    labels: ArrayLike, scores: ArrayLike, alpha: float = 0.1, *, by_class: bool = False
) -> ConformalSets:
    """Fit the sets on jets that neither training nor calibration have seen.

    If these and future jets are exchangeable, the set of a future jet holds its true class with a
    probability of at least 1 - alpha, and at most ``1 - alpha + 1 / (n + 1)`` if no scores tie:
    for any network, calibrated or not. It is an average over jets; with `by_class` it holds for
    the jets of each class, whatever the mix of classes.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
        True class of each jet.
    scores : array_like, shape (n,) or (n, C)
        Probabilities.
    alpha : float
        Wanted rate of failure.
    by_class : bool
        Whether each class has a cut of its own.

    Raises
    ------
    InputError
        If `alpha` is not between 0 and 1, or the arrays cannot be used.

    References
    ----------
    Sadinle, Lei and Wasserman, https://arxiv.org/abs/1609.00451; Angelopoulos and Bates,
    A Gentle Introduction to Conformal Prediction, https://arxiv.org/abs/2107.07511.

    Examples
    --------
    >>> sets = fit_conformal([0, 1, 1, 0], [0.2, 0.9, 0.6, 0.4], alpha=0.4)
    >>> sets([[0.7, 0.3], [0.5, 0.5]]).tolist()
    [[True, False], [False, False]]
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be between 0 and 1, got {alpha:g}")
    sample = Scores.from_arrays(labels, scores)
    p = probabilities(sample)
    of_truth = p[np.arange(len(p)), sample.labels]
    if not by_class:
        return ConformalSets(alpha, (_cut(of_truth, alpha),) * p.shape[1])
    groups = [of_truth[sample.labels == c] for c in range(p.shape[1])]
    return ConformalSets(alpha, tuple(_cut(group, alpha) for group in groups))


def _cut(of_truth: NDArray[np.floating], alpha: float) -> float:
    """The k-th smallest probability of the truth, k = floor(alpha (n + 1)); 0 if k is 0."""
    k = int(np.floor(alpha * (len(of_truth) + 1) * (1 + 1e-12)))
    return float(np.sort(of_truth)[k - 1]) if k else 0.0
