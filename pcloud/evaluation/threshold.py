"""Counts at a threshold on the score: true and false positives, precision, recall, matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.influence import weighted_fraction
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import binary_signal
from pcloud.run_files import THRESHOLD_FILE, StoredResult
from pcloud.stored_values import Float, Name
from pcloud.validation import checked

__all__ = ["AtThreshold", "ThresholdCounts", "counts_at_threshold"]


@dataclass(frozen=True)
class ThresholdCounts:
    """Jets of one signal that pass a threshold, and others.

    Parameters
    ----------
    signal, background : str
        Names of the signal and of all other classes.
    true_positives, false_positives, false_negatives, true_negatives : float
        Numbers, or sums of weights: signal that passes, background that passes, signal that fails,
        background that fails.
    precision : Measured
        Fraction of the jets that pass that are signal, for a sample with this mix of classes.
    recall : Measured
        Fraction of the signal that passes.
    """

    signal: Name
    background: Name
    true_positives: Float
    false_positives: Float
    false_negatives: Float
    true_negatives: Float
    precision: Measured | None
    recall: Measured | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: v.to_dict() if isinstance(v, Measured) else v for k, v in vars(self).items()}

    def matrix(self) -> list[list[str]]:
        """Confusion matrix: rows are true classes, columns the decision."""
        return [
            ["true class", f"predicted {self.signal}", f"predicted {self.background}"],
            [self.signal, _number(self.true_positives), _number(self.false_negatives)],
            [self.background, _number(self.false_positives), _number(self.true_negatives)],
        ]


@dataclass(frozen=True)
class AtThreshold(StoredResult):
    """Counts at a threshold for each signal.

    Parameters
    ----------
    threshold : float
        Jets that score at least this pass.
    classes : list of ThresholdCounts
        Counts of each signal against all others.
    """

    file = THRESHOLD_FILE
    what = "counts at a threshold"
    command = "pcloud evaluate --threshold"

    threshold: Float
    classes: list[ThresholdCounts]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"threshold": self.threshold, "classes": [one.to_dict() for one in self.classes]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AtThreshold:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Table of the four counts, precision and recall of each signal."""
        titles = ["true +", "false +", "false -", "true -", "precision", "recall"]
        rows = [[f"score of at least {self.threshold:g}", *titles]]
        for one in self.classes:
            counts = (
                one.true_positives,
                one.false_positives,
                one.false_negatives,
                one.true_negatives,
            )
            shares = ("none passes" if s is None else str(s) for s in (one.precision, one.recall))
            rows.append([one.signal, *map(_number, counts), *shares])
        return rows


def counts_at_threshold(
    sample: Scores, threshold: float, *, signal: str | int | None = None
) -> AtThreshold:
    """Count the jets above and below a threshold on the score of the signal.

    Parameters
    ----------
    sample : Scores
        Labels and scores.
    threshold : float
        Jets that score at least this pass. With several classes, the score of each is its
        probability.
    signal : str or int, optional
        Signal class; by default the second of two, or each in turn.

    Raises
    ------
    InputError
        If the threshold is no number.
    UnknownNameError
        If there is no such class.
    """
    if not math.isfinite(threshold):
        raise InputError(f"threshold must be a number, got {threshold}")
    if len(sample.classes) == 2:
        signals = [binary_signal(sample, signal)]
    else:
        signals = [*range(len(sample.classes))] if signal is None else [sample.index(signal)]
    return AtThreshold(threshold, [_counts(sample, threshold, target) for target in signals])


def _counts(sample: Scores, threshold: float, target: int) -> ThresholdCounts:
    passes = sample.discriminant(target) >= threshold
    is_signal = sample.labels == target
    weights = np.ones(len(passes)) if sample.weights is None else sample.weights

    def total(inside: NDArray[np.bool_]) -> float:
        return float(weights[inside].sum())

    others = [name for c, name in enumerate(sample.classes) if c != target]
    return ThresholdCounts(
        sample.classes[target],
        others[0] if len(others) == 1 else "other",
        total(is_signal & passes),
        total(~is_signal & passes),
        total(is_signal & ~passes),
        total(~is_signal & ~passes),
        precision=_fraction(sample, is_signal, passes),
        recall=_fraction(sample, passes, is_signal),
    )


def _fraction(sample: Scores, inside: Any, among: Any) -> Measured | None:
    """Fraction of the jets of a mask that are in another; None if there are none."""
    if not among.any():
        return None
    if sample.weights is not None:
        return weighted_fraction(inside[among], sample.weights[among])
    return Measured.fraction(int(inside[among].sum()), int(among.sum()))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.5g}"
