"""Two roads to the error of a statistic of the test jets, which must agree.

Both answer one question: how would the number move if the same tagger met another test
sample with the same number of jets of each class?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray


def counting_error(influence: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Standard error of a statistic from what each jet adds to it.

    Jets fluctuate about the mean of their own class, the classes being of fixed size. For
    an accuracy this is the binomial error, class by class; for an AUC it is DeLong's.

    Parameters
    ----------
    influence : ndarray, shape (B,)
        First-order change of the statistic due to each jet.
    labels : ndarray of int, shape (B,)
        Class of each jet.
    """
    number = np.bincount(labels)
    mean = np.bincount(labels, weights=influence) / np.maximum(number, 1)
    mean[number == 1] = 0.0  # one jet tells nothing of its class: count all it adds
    square = np.bincount(labels, weights=(influence - mean[labels]) ** 2)
    variance = (square * number / np.maximum(number - 1, 1)).sum()
    # jets of a class that all add the same do not fluctuate, however their sum is rounded
    rounding = len(influence) * np.finfo(np.float64).eps * np.abs(influence).max(initial=0.0)
    return float(np.sqrt(variance)) if variance > len(influence) * rounding**2 else 0.0


def resamplings(labels: NDArray[np.integer], number: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """How often each jet is drawn, for `number` draws with replacement within each class.

    A byte per jet, so that the weights of a large sample stay in the processor's cache
    when they are read in the order of a ranking. No jet is ever drawn 256 times: fewer jets
    of a class make it impossible, more make it less likely than 1e-500.
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
    """Values of a statistic of the jets' weights in `number` resamplings, a row for each."""
    return np.array([statistic(weights) for weights in resamplings(labels, number, seed)])
