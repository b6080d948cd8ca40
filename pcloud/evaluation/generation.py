"""Distances between generated and real jets, each beside that of two real samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pcloud.evaluation.measured import Measured
from pcloud.stored_values import Name, Text
from pcloud.typing import Floats

__all__ = [
    "COVERAGE",
    "Distance",
    "compare_samples",
    "coverage",
    "frechet_distance",
    "frechet_limit",
    "kernel_distance",
    "spacing",
    "wasserstein",
]

COVERAGE = "coverage"
"""Name of the fraction of real jets near which there are generated ones."""

_NEIGHBOURS = 5
_DRAWS = 10
_SIZES = 10  # sample sizes of the extrapolation
_SMALLEST = 0.4  # of the largest sample size, as 20 000 to 50 000 in the paper
_BATCHES = 20  # samples of each size
_KERNEL_JETS = 5000
_ONE_SIGMA = (15.865525393145708, 84.1344746068543)  # per cent


@dataclass(frozen=True)
class Distance:
    """Distance of generated jets from real ones, and that of two real samples of the same size.

    Parameters
    ----------
    label : str
        Class of the jets; ``"all"`` without classes.
    quantity : str
        Observable whose Wasserstein distance it is, ``"FPD"``, ``"KPD"``, or ``"coverage"``, which is
        no distance but a fraction.
    distance : Measured
        Distance of real and generated jets.
    floor : Measured
        Distance of two real samples.
    """

    label: Name
    quantity: Text
    distance: Measured
    floor: Measured

    @property
    def is_of_observable(self) -> bool:
        """True for the Wasserstein distance of an observable."""
        return self.quantity not in ("FPD", "KPD", COVERAGE)

    @property
    def ratio(self) -> Measured:
        """Distance over the floor, NaN if this is not positive."""
        value, floor = self.distance.value, self.floor.value
        if not floor > 0:
            return Measured(math.nan, math.nan, "floor not positive")
        ratio = value / floor
        errors = [self.distance.error / value if value else math.nan, self.floor.error / floor]
        error = abs(ratio) * math.sqrt(sum(e**2 for e in errors if not math.isnan(e)))
        return Measured(ratio, error, "from both errors")


def wasserstein(first: Floats, second: Floats) -> float:
    """Wasserstein-1 distance of two samples of one number, in its unit.

    Examples
    --------
    >>> import numpy as np
    >>> wasserstein(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
    2.0
    """
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(first, second))


def frechet_distance(first: Floats, second: Floats) -> float:
    """Squared Fréchet distance of Gaussians with the means and covariances of samples (B, F)."""
    difference = first.mean(0) - second.mean(0)
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    return float(difference @ difference + np.trace(a) + np.trace(b) - 2 * cross)


def frechet_limit(first: Floats, second: Floats, seed: int = 0) -> Measured:
    """Fréchet distance of samples (B, F) in the limit of infinite size (FPD).

    The bias of the distance of finite samples is proportional to 1/B. Distances of random parts of
    ten sizes, evenly spaced in 1/B, twenty parts each, are extrapolated by a line. The parts share
    jets, so that the error of the line is a lower bound.

    References
    ----------
    Kansal et al., Evaluating generative models in high energy physics,
    https://arxiv.org/abs/2211.10295.
    """
    generator = np.random.default_rng(seed)
    largest = min(len(first), len(second))
    inverse = np.linspace(1 / largest, 1 / max(_SMALLEST * largest, 2), _SIZES)
    means = []
    for share in inverse:
        size = round(1 / share)
        found = [
            frechet_distance(_some(first, size, generator), _some(second, size, generator))
            for _ in range(_BATCHES)
        ]
        means.append(np.mean(found))
    line, covariance = np.polyfit(inverse, means, 1, cov=True)
    return Measured(float(line[1]), float(np.sqrt(covariance[1, 1])), "of the extrapolation")


def kernel_distance(first: Floats, second: Floats, seed: int = 0) -> Measured:
    """Squared maximum mean discrepancy of samples (B, F) with a polynomial kernel (KPD).

    The kernel of two jets is ``(x . y / F + 1)^4``, and the estimate has no bias, so that it can be
    negative. It is the median over ten pairs of random parts of at most 5000 jets, and the error is
    half the distance between the quantiles 16 % and 84 % of these.

    References
    ----------
    Kansal et al., Evaluating generative models in high energy physics,
    https://arxiv.org/abs/2211.10295.
    """
    generator = np.random.default_rng(seed)
    size = min(len(first), len(second), _KERNEL_JETS)
    size = size if size < 100 else min(size, max(len(first), len(second)) // 2)
    found = [
        _discrepancy(_some(first, size, generator), _some(second, size, generator))
        for _ in range(_DRAWS)
    ]
    low, median, high = np.percentile(found, (_ONE_SIGMA[0], 50, _ONE_SIGMA[1]))
    return Measured(float(median), float(high - low) / 2, "of parts")


def _discrepancy(x: Floats, y: Floats) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of equally large samples."""
    n = len(x)
    kernels = [(a @ b.T / x.shape[1] + 1) ** 4 for a, b in ((x, x), (y, y), (x, y))]
    own = sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in kernels[:2])
    return float(own - 2 * kernels[2].mean())


def coverage(real: Floats, generated: Floats) -> float:
    """Fraction of real jets (B, F) with a generated one nearer than their fifth real neighbour.

    It is about 0.97 for samples of one distribution and equal size, and small for a generator that
    makes only some kinds of jets.

    References
    ----------
    Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models,
    https://arxiv.org/abs/2002.09797.
    """
    from scipy.spatial import cKDTree

    radius = cKDTree(real).query(real, k=_NEIGHBOURS + 1)[0][:, -1]
    nearest = cKDTree(generated).query(real, k=1)[0]
    return float(np.mean(nearest <= radius))


def spacing(real: Floats, generated: Floats) -> float:
    """Median distance of generated jets (B, F) from the nearest other one, over that of real jets.

    It is about 1 for samples of one distribution, of which the smaller size is used, and small for
    a generator that makes the same jets again and again.
    """
    from scipy.spatial import cKDTree

    size = min(len(real), len(generated))
    scale = np.where(real.std(0) > 0, real.std(0), 1.0)
    medians = []
    for sample in (real[:size] / scale, generated[:size] / scale):
        medians.append(np.median(cKDTree(sample).query(sample, k=2)[0][:, 1]))
    return float(medians[1] / medians[0]) if medians[0] > 0 else math.nan


def compare_samples(
    label: str,
    real: Floats,
    generated: Floats,
    names: Sequence[str],
    polynomials: tuple[Floats, Floats],
    *,
    seed: int = 0,
) -> list[Distance]:
    """Distances of generated from real jets of one class.

    In each of ten draws, the real jets are divided at random into two samples of equal size, and as
    many generated jets are drawn: the distance is that of the first from these, the floor that of the
    first from the second. Value and error are mean and standard deviation over the draws.

    Parameters
    ----------
    label : str
        Name of the class.
    real, generated : ndarray, shape (B, K)
        Observables.
    names : sequence of str
        Names of the observables.
    polynomials : tuple of ndarray, each of shape (B, E)
        Energy flow polynomials of the real and of the generated jets.
    seed : int
        Seed of the draws.
    """
    generator = np.random.default_rng(seed)
    size = min(len(real) // 2, len(generated))
    scale = np.where(real.std(0) > 0, real.std(0), 1.0)
    scaled = [(sample - real.mean(0)) / scale for sample in (real, generated)]
    found = np.empty((_DRAWS, 2, len(names) + 1))
    for draw in range(_DRAWS):
        order = generator.permutation(len(real))
        parts = (order[size : 2 * size], generator.permutation(len(generated))[:size])
        first = order[:size]
        for i, (sample, part) in enumerate(zip((real, generated), parts, strict=True)):
            distances = [wasserstein(real[first, k], sample[part, k]) for k in range(len(names))]
            found[draw, 1 - i] = [*distances, coverage(scaled[0][first], scaled[i][part])]
    quantities = [*names, COVERAGE]
    rows = [
        Distance(label, quantity, *(_spread(found[:, i, k]) for i in (0, 1)))
        for k, quantity in enumerate(quantities)
    ]
    largest = np.abs(polynomials[0]).max(0)
    x, y = (p / np.where(largest > 0, largest, 1.0) for p in polynomials)
    order = generator.permutation(len(x))
    one, other, made = x[order[:size]], x[order[size : 2 * size]], y[:size]
    measures: dict[str, Callable[..., Measured]] = {"FPD": frechet_limit, "KPD": kernel_distance}
    for quantity, measure in measures.items():
        rows.append(Distance(label, quantity, measure(one, made, seed), measure(one, other, seed)))
    return rows


def _some(sample: Floats, size: int, generator: np.random.Generator) -> Floats:
    """Random rows without repetition."""
    return sample[generator.permutation(len(sample))[:size]]


def _spread(values: Floats) -> Measured:
    return Measured(float(values.mean()), float(values.std(ddof=1)), "spread of ten draws")
