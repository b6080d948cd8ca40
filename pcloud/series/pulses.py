"""Synthetic pulses of a cryogenic detector: two classes, pile-up and baseline drift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.series.series import Series

__all__ = ["CLASSES", "simulate_pulses"]

CLASSES = ("artefact", "pulse")

_RISE = 0.004  # time constants, as fractions of the record
_DECAY = 0.05
_FAST_DECAY = 0.02
_ONSET = (0.2, 0.3)


def simulate_pulses(
    n: int = 2000, *, length: int = 512, noise: float = 0.1, drift: float = 0.3, seed: int = 0
) -> Series:
    """Draw records with one pulse each, half of them clean.

    A clean record has one pulse ``exp(-t / decay) - exp(-t / rise)`` of random height at about a
    quarter of the record. An artefact is, each in a third of the cases, a pulse of faster decay, two
    pulses within one record (pile-up), or a step of the baseline. All records have white noise and a
    linear drift of the baseline.

    Parameters
    ----------
    n : int
        Number of records.
    length : int
        Number of samples of a record.
    noise : float
        Standard deviation of the noise; heights of pulses are between 0.5 and 2.
    drift : float
        Standard deviation of the change of the baseline over the record.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    Series
        Records of the classes ``artefact`` (0) and ``pulse`` (1).

    Raises
    ------
    InputError
        If a number cannot be used.

    Examples
    --------
    >>> pulses = simulate_pulses(10, length=256)
    >>> pulses.records.shape
    (10, 1, 256)
    """
    if n < 1 or length < 16 or noise < 0 or drift < 0:
        raise InputError(
            f"pulses need n >= 1, length >= 16, noise and drift >= 0, got {n}, {length}, {noise}, "
            f"{drift}"
        )
    rng = np.random.default_rng(seed)
    time = np.arange(length) / length
    label = rng.integers(0, 2, n)
    defect = np.where(label == 1, -1, rng.integers(0, 3, n))
    onset = rng.uniform(*_ONSET, n)
    height = rng.uniform(0.5, 2.0, n)
    decay = np.where(defect == 0, _FAST_DECAY, _DECAY)
    records = height[:, None] * _pulse(time - onset[:, None], decay[:, None])
    later = onset + rng.uniform(0.1, 0.6, n)
    second = rng.uniform(0.3, 1.0, n) * height * (defect == 1)
    records += second[:, None] * _pulse(time - later[:, None], np.full((n, 1), _DECAY))
    step = 0.5 * rng.choice([-1, 1], n) * height * (defect == 2)
    records += step[:, None] * (time > later[:, None])
    records += rng.normal(0, drift, n)[:, None] * time
    records += rng.normal(0, noise, records.shape)
    return Series(records=records.astype(np.float32), label=label, attrs={"classes": list(CLASSES)})


def _pulse(time: NDArray[np.float64], decay: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pulse of about unit height that begins at 0."""
    after = np.maximum(time, 0.0)
    return np.exp(-after / decay) - np.exp(-after / _RISE)
