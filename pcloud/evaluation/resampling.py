"""Statistical error of a statistic of the test jets: influence functions and the bootstrap.

Both methods estimate the same error: the standard deviation of the statistic over test samples
with the same number of jets of each class, for the same tagger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray


def counting_error(influence: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Standard error of a statistic from its influence function.

    Jets fluctuate about the mean of their class, and the numbers of jets of the classes are
    fixed. For an accuracy this is the binomial error of each class, for an AUC that of DeLong.

    Parameters
    ----------
    influence : ndarray, shape (B,)
        First-order change of the statistic due to each jet.
    labels : ndarray of int, shape (B,)
        Class of each jet.
    """
    number = np.bincount(labels)
    mean = np.bincount(labels, weights=influence) / np.maximum(number, 1)
    mean[number == 1] = 0.0  # one jet gives no mean of its class: use its whole contribution
    square = np.bincount(labels, weights=(influence - mean[labels]) ** 2)
    variance = (square * number / np.maximum(number - 1, 1)).sum()
    # equal contributions of all jets of a class have no variance, apart from rounding errors
    rounding = len(influence) * np.finfo(np.float64).eps * np.abs(influence).max(initial=0.0)
    return float(np.sqrt(variance)) if variance > len(influence) * rounding**2 else 0.0


def resamplings(labels: NDArray[np.integer], number: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the multiplicity of each jet in `number` resamplings with replacement in each class.

    The multiplicities are bytes, so that those of a large sample stay in the processor's cache
    when they are read in the order of a ranking. A jet cannot be drawn 256 times if its class has
    fewer jets than that; otherwise the probability is below 1e-500.
    """
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(number):
        weights = np.empty(len(labels), dtype=np.uint8)
        for jets in members:
            drawn = generator.integers(len(jets), size=len(jets))
            weights[jets] = np.bincount(drawn, minlength=len(jets))
        yield weights


def bootstrap(
    statistic: Callable[[NDArray[np.uint8]], NDArray[np.floating]],
    labels: NDArray[np.integer],
    number: int,
    seed: int,
) -> NDArray[np.floating]:
    """Values of a statistic in `number` resamplings, one row for each.

    Parameters
    ----------
    statistic : callable
        Function of the multiplicity (B,) of each jet.
    labels : ndarray of int, shape (B,)
        Class of each jet; the number of jets of each class is kept.
    number : int
        Number of resamplings.
    seed : int
        Seed of the resamplings.
    """
    return np.array([statistic(weights) for weights in resamplings(labels, number, seed)])
