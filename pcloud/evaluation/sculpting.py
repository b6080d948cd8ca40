"""Whether a cut carves the mass of the background into the shape of the signal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.dependence import signal_scores
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.working_points import working_points

__all__ = ["Sculpting", "jensen_shannon", "measure_sculpting"]


@dataclass(frozen=True)
class Sculpting:
    """The mass of background jets before and after a cut.

    Parameters
    ----------
    efficiency : float
        Part of the signal that passes the cut.
    jets : int
        Number of background jets that pass.
    distance : Measured
        Jensen-Shannon distance of the two histograms, between 0 and 1, with its bootstrap error.
    noise : Measured
        What as many background jets drawn blindly would show: mean and spread. Only what exceeds
        it is sculpting.
    edges : sequence of float
        Edges of the K bins, in GeV.
    before, after, signal : sequence of int
        Background jets in each bin, those of them that pass, and signal jets.
    """

    efficiency: float
    jets: int
    distance: Measured
    noise: Measured
    edges: Sequence[float]
    before: Sequence[int]
    after: Sequence[int]
    signal: Sequence[int]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Sculpting:
        """Inverse of `to_dict`."""
        both = {name: Measured.from_dict(fields[name]) for name in ("distance", "noise")}
        return cls(**{**fields, **both})


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> float:
    """Jensen-Shannon distance of two histograms: 0 if they are alike, 1 if nowhere both.

    The square root of the divergence in bits. Histograms need not be normalised.
    """
    both = np.array([p, q], dtype=np.float64)
    both /= np.maximum(both.sum(axis=1, keepdims=True), 1e-300)
    over_mean = np.divide(both, both.mean(axis=0), out=np.ones_like(both), where=both > 0)
    return float(np.sqrt(max((both * np.log2(over_mean)).sum() / 2, 0.0)))


def measure_sculpting(
    labels: ArrayLike,
    scores: ArrayLike,
    mass: ArrayLike,
    *,
    efficiencies: Sequence[float] = (0.5, 0.7, 0.9),
    bins: int = 20,
    classes: Sequence[str] | None = None,
    signal: str | int | None = None,
    background: str | int | None = None,
    num_resamplings: int = 200,
    seed: int = 0,
) -> list[Sculpting]:
    """Compare the mass of background jets before and after cuts on the score.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Score of the signal, or the probability of each class.
    mass : array_like, shape (B,)
        Of the jets, in GeV.
    efficiencies : sequence of float
        Parts of the signal that pass each cut.
    bins : int
        Bins of equal width up to the mass that 99.5 % of the jets stay below; those above count
        in the last.
    classes, signal, background
        As for :func:`pcloud.evaluate`; of more than two classes the signal must be named.
    num_resamplings, seed : int
        Behind the error and the noise level, at least 2 of them.

    Returns
    -------
    list of Sculpting
        One for each efficiency.

    Raises
    ------
    InputError
        If the arrays or options cannot be used.

    Notes
    -----
    The distance of two histograms is positive even where both are drawn from one distribution, the
    more so the fewer jets are left: ``noise`` says by how much.
    """
    sample = Scores.from_arrays(labels, scores, classes)
    masses = np.asarray(mass, dtype=np.float64)
    if masses.shape != sample.labels.shape or not np.isfinite(masses).all():
        raise InputError("the mass must be one finite number per jet")
    if bins < 2 or num_resamplings < 2:
        raise InputError(
            f"bins and num_resamplings must be at least 2, got {bins} and {num_resamplings}"
        )
    options: dict[str, Any] = {
        "classes": sample.classes,
        "signal": signal,
        "background": background,
    }
    points = working_points(
        sample.labels, sample.values, efficiencies=efficiencies, mistag_rates=[], **options
    )
    values, is_signal, is_background = signal_scores(sample, signal, background)
    edges = np.linspace(0, max(np.quantile(masses, 0.995), 1e-9), bins + 1)
    place = np.clip(np.searchsorted(edges, masses, side="right") - 1, 0, bins - 1)
    generator = np.random.default_rng(seed)
    found = []
    for efficiency, point in zip(efficiencies, points, strict=True):
        passed = values[is_background] >= point.threshold.value
        before = np.bincount(place[is_background], minlength=bins)
        after = np.bincount(place[is_background][passed], minlength=bins)
        distance, noise = _distances(before, after, num_resamplings, generator)
        histograms = (before, after, np.bincount(place[is_signal], minlength=bins))
        found.append(
            Sculpting(
                efficiency,
                int(passed.sum()),
                distance,
                noise,
                edges.tolist(),
                *(histogram.tolist() for histogram in histograms),
            )
        )
    return found


def _distances(
    before: NDArray[np.integer], after: NDArray[np.integer], number: int, generator: Any
) -> tuple[Measured, Measured]:
    """Distance with its bootstrap error, and that of jets drawn without looking at the score."""
    kept = int(after.sum())
    if kept == 0:
        nothing = Measured(math.nan, math.nan, "no background passes")
        return nothing, nothing
    blind = [
        jensen_shannon(before, generator.multivariate_hypergeometric(before, kept))
        for _ in range(number)
    ]
    drawn = generator.multinomial(kept, after / kept, size=number)
    spread = np.std([jensen_shannon(before, h) for h in drawn], ddof=1)
    noise = Measured(float(np.mean(blind)), float(np.std(blind, ddof=1)), "blind draws")
    return Measured(jensen_shannon(before, after), float(spread), "bootstrap"), noise
