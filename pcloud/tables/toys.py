"""Toy samples in the plane, for first steps with networks, and a curve for a regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.tables.table import Table

__all__ = ["CLASSES", "circles", "curve", "gaussians", "moons", "spirals", "xor"]

CLASSES = ("background", "signal")

Rng = np.random.Generator


def gaussians(
    n: int = 2000,
    *,
    noise: float = 1.0,
    shift: float = 1.0,
    correlation: float = 0.0,
    seed: int = 0,
) -> Table:
    """Two Gaussians, at ``(shift, shift) / 2`` for the signal and opposite for the background.

    Without correlation a straight line is the best boundary.

    Parameters
    ----------
    n : int
        Number of events, half of each class on average.
    noise : float
        Standard deviation of both variables.
    shift : float
        Difference of the means in each variable.
    correlation : float
        Correlation of the two variables of the signal; the background has the opposite one.
    seed : int
        Seed of the random numbers.

    Raises
    ------
    InputError
        If a number cannot be used.
    """
    rng, label = _start(n, noise, seed)
    if not -1 < correlation < 1:
        raise InputError(f"correlation must be between -1 and 1, got {correlation:g}")
    sign = 2.0 * label - 1
    x, z = rng.normal(size=(2, n))
    y = correlation * sign * x + np.sqrt(1 - correlation**2) * z
    return _plane(sign * shift / 2 + noise * x, sign * shift / 2 + noise * y, label)


def moons(n: int = 2000, *, noise: float = 0.15, seed: int = 0) -> Table:
    """Two half circles that interlock, with Gaussian noise."""
    rng, label = _start(n, noise, seed)
    angle = rng.uniform(0, np.pi, n)
    x = np.where(label == 1, 1 - np.cos(angle), np.cos(angle))
    y = np.where(label == 1, 0.5 - np.sin(angle), np.sin(angle))
    return _noisy(rng, noise, x - 0.5, y - 0.25, label)


def circles(n: int = 2000, *, noise: float = 0.1, seed: int = 0) -> Table:
    """A circle of radius 1/2, the signal, inside one of radius 1, with Gaussian noise."""
    rng, label = _start(n, noise, seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = np.where(label == 1, 0.5, 1.0)
    return _noisy(rng, noise, radius * np.cos(angle), radius * np.sin(angle), label)


def spirals(n: int = 2000, *, noise: float = 0.05, turns: float = 1.5, seed: int = 0) -> Table:
    """Two spirals of some turns, rotated by 180 degrees, with Gaussian noise."""
    rng, label = _start(n, noise, seed)
    radius = np.sqrt(rng.uniform(0, 1, n))
    angle = 2 * np.pi * turns * radius + np.pi * label
    return _noisy(rng, noise, radius * np.cos(angle), radius * np.sin(angle), label)


def xor(n: int = 2000, *, noise: float = 0.1, seed: int = 0) -> Table:
    """Four quadrants of a square: signal where both variables have the same sign before the noise."""
    rng, _ = _start(n, noise, seed)
    x, y = rng.uniform(-1, 1, (2, n))
    return _noisy(rng, noise, x, y, (x * y > 0).astype(np.int64))


def curve(n: int = 500, *, noise: float = 0.1, seed: int = 0) -> Table:
    """Regression in one dimension: target ``y = sin(3 x) + x / 2`` with Gaussian noise.

    There are no events with x between -0.2 and 0.2, or beyond -2 and 2, where bands can be drawn.
    """
    rng, _ = _start(n, noise, seed)
    x = rng.uniform(0.2, 2.0, n) * rng.choice([-1, 1], n)
    y = np.sin(3 * x) + x / 2 + rng.normal(0, noise, n)
    return Table(columns={"x": x}, targets={"y": y})


def _start(n: int, noise: float, seed: int) -> tuple[Rng, NDArray[np.int64]]:
    """Random numbers and the class of each event."""
    if n < 1 or not noise >= 0:
        raise InputError(f"a toy sample needs n >= 1 and noise >= 0, got {n} and {noise:g}")
    rng = np.random.default_rng(seed)
    return rng, rng.integers(0, 2, n)


def _noisy(
    rng: Rng,
    noise: float,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    label: NDArray[np.int64],
) -> Table:
    dx, dy = rng.normal(0, noise, (2, len(x)))
    return _plane(x + dx, y + dy, label)


def _plane(x: NDArray[np.float64], y: NDArray[np.float64], label: NDArray[np.int64]) -> Table:
    return Table(columns={"x1": x, "x2": y}, label=label, attrs={"classes": list(CLASSES)})
