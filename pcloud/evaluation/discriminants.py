"""Discriminants of several classes, and the rejection of each background class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.calibration import probabilities
from pcloud.evaluation.estimates import (
    inverse_fraction,
    measured_area,
    measured_background_efficiency,
)
from pcloud.evaluation.influence import weighted_fraction
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import Task
from pcloud.evaluation.working_points import efficiency_threshold, mistag_point
from pcloud.typing import Floats

__all__ = [
    "EFFICIENCIES",
    "MISTAG_RATES",
    "Discriminant",
    "auc_matrix",
    "efficiencies_at_mistag_rates",
    "fraction_scan",
    "rejections",
    "rejections_in_bins",
]

EFFICIENCIES = (0.6, 0.65, 0.7, 0.77, 0.85, 0.9)
"""Signal efficiencies of the working points of ATLAS flavour tagging."""
MISTAG_RATES = (0.1, 0.01, 0.001)
"""Mistag rates of the loose, medium and tight working points of CMS flavour tagging."""

_MIN_PROBABILITY = 1e-300


@dataclass(frozen=True)
class Discriminant:
    """``D = log(p_signal / sum_k f_k p_k)``, the logarithm of a likelihood ratio.

    Parameters
    ----------
    classes : tuple of str
        Names of the C classes.
    signal : str
        Name of the signal.
    fractions : tuple of float
        Fraction f of each class in the background, which add up to 1; 0 for the signal.
    """

    classes: tuple[str, ...]
    signal: str
    fractions: tuple[float, ...]

    @classmethod
    def of(
        cls, classes: Sequence[str], signal: str, fractions: Mapping[str, float] | None = None
    ) -> Discriminant:
        """Discriminant with the given fractions; classes without one share the rest equally.

        ``Discriminant.of(["u", "c", "b"], "b", {"c": 0.2})`` is
        ``log(p_b / (0.2 p_c + 0.8 p_u))``.

        Raises
        ------
        InputError
            If a name is not that of a class, or the fractions are not between 0 and 1, or do not
            add up to 1.
        """
        given = dict(fractions or {})
        for name in (signal, *given):
            if name not in classes:
                raise InputError(f"no class named {name!r}: classes are {', '.join(classes)}")
        if signal in given:
            raise InputError(f"{signal!r} is the signal: fractions are those of the background")
        if any(not 0 <= value <= 1 for value in given.values()):
            raise InputError(f"fractions must lie between 0 and 1, got {given}")
        rest = 1 - sum(given.values())
        others = [name for name in classes if name != signal and name not in given]
        if rest < -1e-9 or (not others and abs(rest) > 1e-9):
            raise InputError(f"fractions must add up to 1, got {given}")
        given |= {name: max(rest, 0.0) / len(others) for name in others}
        return cls(tuple(classes), signal, tuple(given.get(name, 0.0) for name in classes))

    def __call__(self, p: Floats) -> Floats:
        """Discriminant (B,) of probabilities (B, C)."""
        index = self.classes.index(self.signal)
        background = p @ np.array(self.fractions)
        return np.log(np.maximum(p[:, index], _MIN_PROBABILITY)) - np.log(
            np.maximum(background, _MIN_PROBABILITY)
        )

    @property
    def backgrounds(self) -> list[str]:
        """Names of all classes but the signal."""
        return [name for name in self.classes if name != self.signal]

    def __str__(self) -> str:
        """Formula, such as ``log(p_b / (0.2 p_c + 0.8 p_u))``."""
        parts = zip(self.fractions, self.classes, strict=True)
        terms = [
            f"p_{name}" if fraction == 1 else f"{fraction:.3g} p_{name}"
            for fraction, name in parts
            if fraction > 0
        ]
        below = terms[0] if len(terms) == 1 else f"({' + '.join(terms)})"
        return f"log(p_{self.signal} / {below})"


def rejections(
    sample: Scores, discriminant: Discriminant, efficiencies: Sequence[float] = EFFICIENCIES
) -> dict[str, list[Measured]]:
    """Rejection of each background class at signal efficiencies, by its name.

    Classes with fewer than two jets are left out.
    """
    values = discriminant(probabilities(sample))
    found = {}
    for name in _present_backgrounds(sample, discriminant):
        ranking = _ranking(sample, values, discriminant.signal, name)
        points = [measured_background_efficiency(ranking, e) for e in efficiencies]
        found[name] = [inverse_fraction(point) for point in points]
    return found


def efficiencies_at_mistag_rates(
    sample: Scores, discriminant: Discriminant, rates: Sequence[float] = MISTAG_RATES
) -> dict[str, list[Measured]]:
    """Signal efficiency where each background class has the given mistag rates, by its name.

    The mistag rate of the cut is at most the requested one.
    """
    values = discriminant(probabilities(sample))
    is_signal = sample.labels == sample.index(discriminant.signal)
    found = {}
    for name in _present_backgrounds(sample, discriminant):
        is_background = sample.labels == sample.index(name)
        points = (
            mistag_point(values, is_background, is_signal, rate, sample.weights) for rate in rates
        )
        found[name] = [efficiency for _, _, efficiency in points]
    return found


def fraction_scan(
    sample: Scores,
    discriminant: Discriminant,
    first: str,
    second: str,
    efficiency: float = 0.7,
    num_points: int = 21,
) -> tuple[list[float], list[Measured], list[Measured]]:
    """Rejections of two background classes at one signal efficiency, for all their fractions.

    The sum of the two fractions and those of other classes stay as they are.

    Parameters
    ----------
    sample : Scores
        Labels and probabilities of jets.
    discriminant : Discriminant
        Discriminant, whose fractions are changed.
    first, second : str
        Names of the two background classes.
    efficiency : float
        Signal efficiency.
    num_points : int
        Number of fractions.

    Returns
    -------
    fractions : list of float
        Share of the first class in the sum of both fractions, from 0 to 1.
    first, second : list of Measured
        Rejection of each of the two classes.
    """
    p = probabilities(sample)
    indices = [sample.index(first), sample.index(second)]
    total = sum(discriminant.fractions[i] for i in indices) or 1.0
    shares = np.linspace(0, 1, num_points).tolist()
    found: tuple[list[Measured], list[Measured]] = ([], [])
    for share in shares:
        fractions = list(discriminant.fractions)
        fractions[indices[0]] = share * total
        fractions[indices[1]] = (1 - share) * total
        values = Discriminant(discriminant.classes, discriminant.signal, tuple(fractions))(p)
        for name, entries in zip((first, second), found, strict=True):
            ranking = _ranking(sample, values, discriminant.signal, name)
            point = measured_background_efficiency(ranking, efficiency)
            entries.append(inverse_fraction(point))
    return shares, *found


def rejections_in_bins(
    sample: Scores,
    discriminant: Discriminant,
    observable: Floats,
    efficiency: float = 0.7,
    bins: int = 6,
) -> tuple[list[float], dict[str, list[Measured | None]]]:
    """Signal efficiency and rejection of each background class in bins of an observable.

    The cut is the one with the given signal efficiency over all bins. Errors are those of counting
    at this cut.

    Parameters
    ----------
    sample : Scores
        Labels and probabilities of jets.
    discriminant : Discriminant
        Discriminant.
    observable : ndarray, shape (B,)
        Observable of the jets.
    efficiency : float
        Signal efficiency of the cut, over all bins.
    bins : int
        Number of bins with equal numbers of jets; fewer where values tie.

    Returns
    -------
    edges : list of float
        Edges of the K bins.
    values : dict of str to list of Measured or None
        Efficiency of the signal and rejection of the other classes in each bin, by name; None in a
        bin without jets of the class.
    """
    values = discriminant(probabilities(sample))
    is_signal = sample.labels == sample.index(discriminant.signal)
    cut = efficiency_threshold(values[is_signal], efficiency, sample.weights_of(is_signal))
    passed = values >= cut
    edges = np.unique(np.quantile(observable, np.linspace(0, 1, bins + 1)))
    edges = edges if len(edges) > 1 else np.repeat(edges, 2)
    place = np.searchsorted(edges[1:-1], observable, side="right")
    found: dict[str, list[Measured | None]] = {}
    for name in (discriminant.signal, *_present_backgrounds(sample, discriminant)):
        found[name] = []
        for i in range(len(edges) - 1):
            jets = (sample.labels == sample.index(name)) & (place == i)
            rate = weighted_fraction(passed[jets], sample.weights_of(jets)) if jets.any() else None
            if rate is not None and name != discriminant.signal:
                rate = inverse_fraction(rate)
            found[name].append(rate)
    return edges.tolist(), found


def auc_matrix(sample: Scores) -> list[list[Measured | None]]:
    """AUC of each class (row) against each other class (column), ranked by s / (s + b).

    The matrix is symmetric. It is None on the diagonal and for classes with fewer than two jets.
    """
    p = probabilities(sample)
    both = Scores(sample.labels, p, sample.classes, sample.weights)
    number = len(sample.classes)
    found: list[list[Measured | None]] = [[None] * number for _ in range(number)]
    for i in range(number):
        for j in range(i):
            if min(sample.counts[i], sample.counts[j]) < 2:
                continue
            values = both.discriminant(i, j)
            ranking = _ranking(sample, values, sample.classes[i], sample.classes[j])
            found[i][j] = measured_area(Task("", sample.classes[i], ranking), sample.labels)
            found[j][i] = found[i][j]
    return found


def _present_backgrounds(sample: Scores, discriminant: Discriminant) -> list[str]:
    if sample.counts[sample.index(discriminant.signal)] < 2:
        raise InputError(f"too few jets of the signal {discriminant.signal!r}: at least two")
    return [name for name in discriminant.backgrounds if sample.counts[sample.index(name)] > 1]


def _ranking(sample: Scores, values: Floats, signal: str, background: str) -> Ranking:
    labels: NDArray[np.int64] = sample.labels
    is_signal = labels == sample.index(signal)
    is_background = labels == sample.index(background)
    return Ranking(values, is_signal, is_background, sample.weights)
