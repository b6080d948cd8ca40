"""Efficiency and mistag rate of a cut against an observable of the jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import binary_signal
from pcloud.evaluation.working_points import working_points
from pcloud.typing import Floats

__all__ = ["Dependence", "measure_dependence", "signal_scores"]


@dataclass(frozen=True)
class Dependence:
    """What passes one cut in bins of an observable.

    Parameters
    ----------
    observable : str
        Its name.
    edges : sequence of float
        Edges of the K bins, of equal numbers of jets.
    signal, background : sequence of Measured
        The part of each that passes in each bin; None in a bin without jets of the kind. Where
        none or all pass, a limit.
    """

    observable: str
    edges: Sequence[float]
    signal: Sequence[Measured | None]
    background: Sequence[Measured | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "observable": self.observable,
            "edges": list(self.edges),
            "signal": [None if m is None else m.to_dict() for m in self.signal],
            "background": [None if m is None else m.to_dict() for m in self.background],
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Dependence:
        """Inverse of `to_dict`."""
        rates = {
            name: [None if m is None else Measured.from_dict(m) for m in fields[name]]
            for name in ("signal", "background")
        }
        return cls(fields["observable"], fields["edges"], **rates)


def measure_dependence(
    labels: ArrayLike,
    scores: ArrayLike,
    observables: Mapping[str, ArrayLike],
    *,
    efficiency: float = 0.5,
    bins: int = 8,
    classes: Sequence[str] | None = None,
    signal: str | int | None = None,
    background: str | int | None = None,
) -> list[Dependence]:
    """Measure what passes the cut that keeps a part of all signal, in bins of observables.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Score of the signal, or the probability of each class.
    observables : mapping of str to array_like, shape (B,)
        Such as pT, mass and multiplicity.
    efficiency : float
        Part of the signal that passes, over all bins.
    bins : int
        Bins with equal numbers of jets; fewer where values tie.
    classes, signal, background
        As for :func:`pcloud.evaluate`; of more than two classes the signal must be named.

    Returns
    -------
    list of Dependence
        One for each observable.

    Raises
    ------
    InputError
        If the arrays or options cannot be used.

    Notes
    -----
    Errors are binomial, at the threshold of this sample; no bin where all jets pass claims to be
    exact.
    """
    if bins < 1:
        raise InputError(f"bins must be at least 1, got {bins}")
    sample = Scores.from_arrays(labels, scores, classes)
    options: dict[str, Any] = {
        "classes": sample.classes,
        "signal": signal,
        "background": background,
    }
    (point,) = working_points(
        sample.labels, sample.values, efficiencies=[efficiency], mistag_rates=[], **options
    )
    values, is_signal, is_background = signal_scores(sample, signal, background)
    passed = values >= point.threshold.value
    found = []
    for name, column in observables.items():
        x = np.asarray(column, dtype=np.float64)
        if x.shape != passed.shape or not np.isfinite(x).all():
            raise InputError(f"observable {name!r} must be one finite number per jet")
        edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)))
        edges = edges if len(edges) > 1 else np.repeat(edges, 2)
        place = np.searchsorted(edges[1:-1], x, side="right")
        rates = [
            [_rate(passed[kind & (place == i)]) for i in range(len(edges) - 1)]
            for kind in (is_signal, is_background)
        ]
        found.append(Dependence(name, edges.tolist(), *rates))
    return found


def signal_scores(
    sample: Scores, signal: str | int | None = None, background: str | int | None = None
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Score that ranks jets for the signal, and which jets are signal and background, (B,) each.

    Raises
    ------
    InputError
        If there are more than two classes and no signal is named.
    """
    if len(sample.classes) == 2:
        target = binary_signal(sample, signal, background)
        return sample.discriminant(target), sample.labels == target, sample.labels != target
    if signal is None:
        raise InputError(f"which of {', '.join(sample.classes)} is the signal?")
    target = sample.index(signal)
    against = None if background is None else sample.index(background)
    others = sample.labels != target if against is None else sample.labels == against
    return sample.discriminant(target, against), sample.labels == target, others


def _rate(passed: NDArray[np.bool_]) -> Measured | None:
    return Measured.fraction(int(passed.sum()), len(passed)) if len(passed) else None
