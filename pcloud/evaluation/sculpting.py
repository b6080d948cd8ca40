"""Mass sculpting: how far a cut changes the shape of the background's mass distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval, Len
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import signal_scores
from pcloud.evaluation.working_points import efficiency_threshold
from pcloud.stored_values import Count, Float, Fraction
from pcloud.typing import Booleans, Floats
from pcloud.validation import checked

__all__ = ["Sculpting", "measure_sculpting", "sculpting_of_scores"]


_Edge = Annotated[float, Interval(ge=0, le=1e12)]  # GeV


@dataclass(frozen=True)
class Sculpting:
    """Mass distribution of the background jets before and after a cut.

    Parameters
    ----------
    efficiency : float
        Signal efficiency of the cut.
    jets : int
        Number of background jets that pass.
    distance : Measured
        Jensen-Shannon distance between the two histograms, from 0 (equal) to 1 (disjoint), with
        its bootstrap error.
    noise : Measured
        Distance for as many background jets drawn at random: mean and standard deviation. Only
        the excess over it is sculpting.
    edges : sequence of float
        Edges of the K bins in GeV.
    before, after, signal : sequence of int
        Number in each bin of background jets, of background jets that pass, and of signal jets; sums
        of weights for jets with weights.
    """

    efficiency: Fraction
    jets: Count
    distance: Measured
    noise: Measured
    edges: Annotated[Sequence[_Edge], Len(2, 10_000)]
    before: Sequence[Count | Float]
    after: Sequence[Count | Float]
    signal: Sequence[Count | Float]

    def __post_init__(self) -> None:
        if np.any(np.diff(self.edges) <= 0):
            raise InputError("edges must be increasing")
        for name in ("before", "after", "signal"):
            if len(getattr(self, name)) != len(self.edges) - 1:
                raise InputError(f"{name} must be one number for each bin")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        """Distance, its noise level and the cut."""
        return (
            f"Sculpting of the background mass at signal efficiency {self.efficiency:g}: "
            f"Jensen-Shannon distance {self.distance} ({self.noise} for a random selection), "
            f"{self.jets:,} background jets pass"
        )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Sculpting:
        """Inverse of `to_dict`."""
        return checked(cls, fields)


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
    weights: ArrayLike | None = None,
) -> list[Sculpting]:
    """Compare the mass of background jets before and after cuts on the score.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Score of the signal, or the probability of each class.
    mass : array_like, shape (B,)
        Mass of each jet in GeV.
    efficiencies : sequence of float
        Signal efficiency of each cut.
    bins : int
        Number of bins of equal width, from 0 to the 99.5 % quantile of the mass. The last bin
        includes the jets above.
    classes, signal, background
        As for :func:`pcloud.evaluate`; with more than two classes the signal must be named.
    num_resamplings : int
        Number of resamplings for the error and for the noise level, at least 2.
    seed : int
        Seed of the resamplings.
    weights : array_like, shape (B,), optional
        Weights of the jets. Bins with a negative sum count as empty.

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
    The distance is positive even between two samples of one distribution, and it grows as fewer
    jets are left. ``noise`` is its size in that case.
    """
    sample = Scores.from_arrays(labels, scores, classes, weights)
    return sculpting_of_scores(
        sample,
        mass,
        efficiencies=efficiencies,
        bins=bins,
        signal=signal,
        background=background,
        num_resamplings=num_resamplings,
        seed=seed,
    )


def sculpting_of_scores(
    sample: Scores,
    mass: ArrayLike,
    *,
    efficiencies: Sequence[float] = (0.5, 0.7, 0.9),
    bins: int = 20,
    signal: str | int | None = None,
    background: str | int | None = None,
    num_resamplings: int = 200,
    seed: int = 0,
) -> list[Sculpting]:
    """Measure as :func:`measure_sculpting`, from `Scores` that are already checked."""
    masses = np.asarray(mass, dtype=np.float64)
    if masses.shape != sample.labels.shape or not np.isfinite(masses).all():
        raise InputError("the mass must be one finite number per jet")
    if bins < 2 or num_resamplings < 2:
        raise InputError(
            f"bins and num_resamplings must be at least 2, got {bins} and {num_resamplings}"
        )
    values, is_signal, is_background = signal_scores(sample, signal, background)
    edges = np.linspace(0, max(np.quantile(masses, 0.995), 1e-9), bins + 1)
    place = np.clip(np.searchsorted(edges, masses, side="right") - 1, 0, bins - 1)
    generator = np.random.default_rng(seed)
    found = []
    of_background = sample.weights_of(is_background)
    before = np.bincount(place[is_background], of_background, bins)
    of_signal = np.bincount(place[is_signal], sample.weights_of(is_signal), bins)
    for efficiency in efficiencies:
        threshold = efficiency_threshold(
            values[is_signal], efficiency, sample.weights_of(is_signal)
        )
        passed = values[is_background] >= threshold
        if of_background is None:
            after = np.bincount(place[is_background][passed], minlength=bins)
            distance, noise = _distances(before, after, num_resamplings, generator)
        else:
            after = np.bincount(place[is_background][passed], of_background[passed], bins)
            distance, noise = _weighted_distances(
                place[is_background], passed, of_background, bins, num_resamplings, generator
            )
        found.append(
            Sculpting(
                efficiency,
                int(passed.sum()),
                distance,
                noise,
                edges.tolist(),
                before.tolist(),
                after.tolist(),
                of_signal.tolist(),
            )
        )
    return found


def _distances(
    before: NDArray[np.integer], after: NDArray[np.integer], number: int, generator: Any
) -> tuple[Measured, Measured]:
    """Distance with its bootstrap error, and the distance of jets drawn at random."""
    from scipy.spatial.distance import jensenshannon

    kept = int(after.sum())
    if kept == 0:
        nothing = Measured(math.nan, math.nan, "no background passes")
        return nothing, nothing
    random = np.array([generator.multivariate_hypergeometric(before, kept) for _ in range(number)])
    drawn = generator.multinomial(kept, after / kept, size=number)
    repeated = np.broadcast_to(before, random.shape)
    distances = jensenshannon(repeated, random, base=2, axis=1)
    spread = np.std(jensenshannon(repeated, drawn, base=2, axis=1), ddof=1)
    noise = Measured(float(np.mean(distances)), float(np.std(distances, ddof=1)), "random draws")
    distance = float(jensenshannon(before, after, base=2))
    return Measured(distance, float(spread), "bootstrap"), noise


def _weighted_distances(
    place: NDArray[np.integer],
    passed: Booleans,
    weights: Floats,
    bins: int,
    number: int,
    generator: np.random.Generator,
) -> tuple[Measured, Measured]:
    """Distances as :func:`_distances`, of background jets in the bins `place` with `weights`."""
    from scipy.spatial.distance import jensenshannon

    def histogram(jets: NDArray[Any]) -> Floats:
        return np.maximum(np.bincount(place[jets], weights[jets], bins), 0.0)

    kept = np.flatnonzero(passed)
    before = histogram(np.arange(len(place)))
    if not histogram(kept).sum() > 0:
        nothing = Measured(math.nan, math.nan, "no background passes")
        return nothing, nothing
    random = [histogram(generator.permutation(len(place))[: len(kept)]) for _ in range(number)]
    drawn = [histogram(generator.choice(kept, len(kept))) for _ in range(number)]
    repeated = np.broadcast_to(before, (number, bins))
    distances = jensenshannon(repeated, np.array(random), base=2, axis=1)
    spread = np.nanstd(jensenshannon(repeated, np.array(drawn), base=2, axis=1), ddof=1)
    noise = Measured(
        float(np.nanmean(distances)), float(np.nanstd(distances, ddof=1)), "random draws"
    )
    distance = float(jensenshannon(before, histogram(kept), base=2))
    return Measured(distance, float(spread), "bootstrap"), noise
