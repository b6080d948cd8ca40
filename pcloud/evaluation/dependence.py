"""Efficiency and mistag rate of a cut against an observable of the jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval, Len
from numpy.typing import ArrayLike

from pcloud.errors import InputError
from pcloud.evaluation.influence import weighted_fraction
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import signal_scores
from pcloud.evaluation.working_points import efficiency_threshold
from pcloud.stored_values import Text
from pcloud.text_tables import html_table
from pcloud.typing import Booleans, Floats
from pcloud.validation import checked

__all__ = ["Dependence", "dependence_of_scores", "measure_dependence"]


_Edge = Annotated[float, Interval(ge=-1e100, le=1e100)]


@dataclass(frozen=True)
class Dependence:
    """Signal efficiency and mistag rate of one cut in bins of an observable.

    Parameters
    ----------
    observable : str
        Name of the observable.
    edges : sequence of float
        Edges of the K bins, which hold equal numbers of jets.
    signal, background : sequence of Measured
        Fraction of the signal jets and of the background jets that pass in each bin. It is None
        in a bin without such jets, and a limit where none or all of them pass.
    """

    observable: Text
    edges: Annotated[Sequence[_Edge], Len(2, 10_000)]
    signal: Sequence[Measured | None]
    background: Sequence[Measured | None]

    def __post_init__(self) -> None:
        if {len(self.signal), len(self.background)} != {len(self.edges) - 1}:
            raise InputError("signal and background must be one rate for each bin")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "observable": self.observable,
            "edges": list(self.edges),
            "signal": [None if m is None else m.to_dict() for m in self.signal],
            "background": [None if m is None else m.to_dict() for m in self.background],
        }

    def rows(self) -> list[list[str]]:
        """Rows of a table, one for each bin."""
        rows = [[self.observable, "signal efficiency", "mistag rate"]]
        bins = zip(self.edges[:-1], self.edges[1:], self.signal, self.background, strict=True)
        for low, high, *rates in bins:
            cells = ["" if rate is None else str(rate) for rate in rates]
            rows.append([f"{low:.4g} to {high:.4g}", *cells])
        return rows

    def __repr__(self) -> str:
        """Observable and range of the bins."""
        bins = f"{len(self.signal)} bins from {self.edges[0]:.4g} to {self.edges[-1]:.4g}"
        return f"Dependence of signal efficiency and mistag rate on {self.observable}: {bins}"

    def _repr_html_(self) -> str:
        return html_table(self.rows(), caption=repr(self))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Dependence:
        """Inverse of `to_dict`."""
        return checked(cls, fields)


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
    weights: ArrayLike | None = None,
) -> list[Dependence]:
    """Measure signal efficiency and mistag rate of one cut in bins of observables.

    The cut is the one with the given signal efficiency over all bins.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Score of the signal, or the probability of each class.
    observables : mapping of str to array_like, shape (B,)
        Observables by name, such as pT, mass and multiplicity.
    efficiency : float
        Signal efficiency of the cut, over all bins.
    bins : int
        Number of bins with equal numbers of jets; fewer where values tie.
    classes, signal, background
        As for :func:`pcloud.evaluate`; with more than two classes the signal must be named.
    weights : array_like, shape (B,), optional
        Weights of the jets.

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
    Errors are binomial, or from influence functions for jets with weights, at the threshold of this sample. A bin in which all jets pass has a
    limit, not an error of zero.
    """
    sample = Scores.from_arrays(labels, scores, classes, weights)
    return dependence_of_scores(
        sample,
        observables,
        efficiency=efficiency,
        bins=bins,
        signal=signal,
        background=background,
    )


def dependence_of_scores(
    sample: Scores,
    observables: Mapping[str, ArrayLike],
    *,
    efficiency: float = 0.5,
    bins: int = 8,
    signal: str | int | None = None,
    background: str | int | None = None,
) -> list[Dependence]:
    """Measure as :func:`measure_dependence`, from `Scores` that are already checked."""
    if bins < 1:
        raise InputError(f"bins must be at least 1, got {bins}")
    values, is_signal, is_background = signal_scores(sample, signal, background)
    passed = values >= efficiency_threshold(
        values[is_signal], efficiency, sample.weights_of(is_signal)
    )
    found = []
    for name, column in observables.items():
        x = np.asarray(column, dtype=np.float64)
        if x.shape != passed.shape or not np.isfinite(x).all():
            raise InputError(f"observable {name!r} must be one finite number per jet")
        edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)))
        edges = edges if len(edges) > 1 else np.repeat(edges, 2)
        place = np.searchsorted(edges[1:-1], x, side="right")
        rates = [
            [_rate(passed, kind & (place == i), sample.weights) for i in range(len(edges) - 1)]
            for kind in (is_signal, is_background)
        ]
        found.append(Dependence(name, edges.tolist(), *rates))
    return found


def _rate(passed: Booleans, jets: Booleans, weights: Floats | None) -> Measured | None:
    """Fraction of `jets` that pass; None without such jets."""
    if not jets.any():
        return None
    return weighted_fraction(passed[jets], None if weights is None else weights[jets])
