"""Robustness of a tagger to modified jets, with errors from the same jets before and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.estimates import Rejection, measured_area
from pcloud.evaluation.influence import (
    METHOD,
    effective_size,
    mean_over_jets,
    weighted_fraction,
    weighted_mean,
)
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.resampling import counting_error
from pcloud.evaluation.robustness_transformations import TRANSFORMATIONS, prepare, transform
from pcloud.evaluation.scores import Scores, weights_of_jets
from pcloud.evaluation.tasks import (
    Task,
    check_signal_named,
    discrimination_tasks,
    signal_and_background,
)
from pcloud.evaluation.working_points import efficiency_threshold
from pcloud.io.jets import FlatJets
from pcloud.run_files import Advance, ignore_progress
from pcloud.stored_values import Count, Float, Fraction, Text
from pcloud.text_tables import html_table
from pcloud.typing import Floats
from pcloud.validation import checked
from pcloud.words import number_of

__all__ = ["Effect", "Robustness", "compare_scores", "measure_robustness"]

Predict = Callable[[ak.Array], Floats]

_ROUNDING = 1e-12  # relative rounding error of log-odds


@dataclass(frozen=True)
class Effect:
    """Effect of one modification of the jets on a tagger.

    Parameters
    ----------
    name : str
        Name of the modification: a transformation, or another simulation.
    strength : float or None
        Strength of the transformation; None for another simulation.
    auc, rejection : Measured
        AUC and rejection on the modified jets, with the threshold set on them.
    auc_change : Measured
        Difference of the AUC to that on the unmodified jets.
    rejection_ratio : Measured or None
        Rejection over that on the unmodified jets; None where one of the two is a limit.
    efficiency, mistag_rate : Measured
        Fractions of signal and background that pass the threshold set on the *unmodified* jets.
        The error includes the error of the threshold, and the correlation where both samples
        are the same jets. The value is a limit where none or all pass.
    moved : Measured or None
        Mean absolute change of the log-odds of a jet; None for jets of another simulation.
    """

    name: Text
    strength: Float | None
    auc: Measured
    rejection: Measured
    auc_change: Measured
    rejection_ratio: Measured | None
    efficiency: Measured
    mistag_rate: Measured
    moved: Measured | None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {k: v.to_dict() if isinstance(v, Measured) else v for k, v in vars(self).items()}

    def __repr__(self) -> str:
        """Modification, AUC and rejection."""
        title = self.name if self.strength is None else f"{self.name} {self.strength:g}"
        return (
            f"Effect of {title}: AUC {self.auc} (change {self.auc_change}), "
            f"rejection {self.rejection}"
        )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Effect:
        """Inverse of `to_dict`."""
        return checked(cls, fields)


@dataclass(frozen=True)
class Robustness:
    """Effects of several modifications of the jets on one tagger.

    Parameters
    ----------
    auc, rejection : Measured
        AUC and rejection on the unmodified jets.
    effects : sequence of Effect
        Effects of the modifications.
    efficiency : float
        Signal efficiency of the rejections.
    jets : int
        Number of jets.
    """

    auc: Measured
    rejection: Measured
    effects: Sequence[Effect]
    efficiency: Fraction
    jets: Count

    def rows(self) -> list[list[str]]:
        """Rows of a table, one for each modification."""
        header = ["", "strength", "1000 x change of AUC", f"1/εB at εS = {self.efficiency:g}"]
        header += ["ratio to unmodified", "signal efficiency", "mistag rate"]
        header += ["mean change of log-odds"]
        first = ["unmodified", "", f"AUC {self.auc}", str(self.rejection), "", "", "", ""]
        return [header, first, *map(_row, self.effects)]

    def __repr__(self) -> str:
        """Number of jets and of modifications, AUC and rejection."""
        return (
            f"Robustness of a tagger on {number_of(self.jets, 'jet')} to {number_of(len(self.effects), 'modification')}: "
            f"AUC {self.auc}, rejection {self.rejection} at signal efficiency "
            f"{self.efficiency:g} on unmodified jets"
        )

    def _repr_html_(self) -> str:
        return html_table(self.rows(), caption=repr(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "auc": self.auc.to_dict(),
            "rejection": self.rejection.to_dict(),
            "effects": [effect.to_dict() for effect in self.effects],
            "efficiency": self.efficiency,
            "jets": self.jets,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Robustness:
        """Inverse of `to_dict`."""
        return checked(cls, fields)


def measure_robustness(
    predict: Predict,
    jets: ak.Array,
    *,
    transformations: Mapping[str, Sequence[float]] | Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    efficiency: float = 0.5,
    signal: str | int | None = None,
    background: str | int | None = None,
    others: Mapping[str, ak.Array] | None = None,
    seed: int = 0,
    advance: Advance = ignore_progress,
) -> Robustness:
    """Modify jets, score them again, and measure the change of AUC and rejection.

    Parameters
    ----------
    predict : callable
        ``predict(jets) -> (B, C)`` probabilities, such as ``pcloud.Run(...).predict``.
    jets : awkward.Array
        Labelled jets, perhaps with weights in the column ``weight``.
    transformations : mapping of str to sequence of float, or sequence of str, optional
        Transformations with their strengths, or by name with their default strengths; by default
        all of :data:`~pcloud.evaluation.robustness_transformations.TRANSFORMATIONS`.
    classes : sequence of str, optional
        Names of the classes.
    efficiency : float
        Signal efficiency of the rejection.
    signal, background : str or int, optional
        As for :func:`pcloud.evaluate`; with more than two classes the signal must be named.
    others : mapping of str to awkward.Array, optional
        Jets of other simulations by name, with the same labels.
    seed : int
        Seed of the random transformations.
    advance : callable
        Progress callback, called after every scoring with the part of the whole work done.

    Returns
    -------
    Robustness

    Raises
    ------
    InputError
        If there are no labels, or the signal must be named and is not.
    UnknownNameError
        If a transformation or class does not exist.

    Notes
    -----
    The scores before and after are those of the same jets and strongly correlated. A change
    therefore has a much smaller error than the two numbers themselves. Its error comes from the
    difference of the influence functions after and before (the paired form of DeLong's error).
    It includes the random part of a transformation. A transformation that changes no score has
    a small error, too, that of one pair of jets or of half a jet, because a finite sample cannot
    prove that the change is zero.
    """
    if "label" not in jets.fields:
        raise InputError("robustness is measured on labelled jets, and these have no label")
    requested = _with_strengths(transformations)
    for name, strengths in requested.items():  # refuse wrong options before hours of scoring
        for strength in strengths:
            transform(FlatJets.from_awkward(jets[:1]), name, strength)
    flat = FlatJets.from_awkward(jets)
    num_scorings = 1 + sum(map(len, requested.values())) + len(others or {})

    def scores_of(changed: ak.Array) -> Scores:
        weights = weights_of_jets(changed)
        sample = Scores.from_arrays(np.asarray(changed.label), predict(changed), classes, weights)
        advance(1 / num_scorings)
        return sample

    before = scores_of(prepare(flat).to_awkward())
    reference = _Point.of(before, efficiency, signal, background)
    effects = []
    for name, strengths in requested.items():
        for strength in strengths:
            after = scores_of(transform(flat, name, strength, seed).to_awkward())
            effects.append(_paired(reference, after, name, strength))
    for name, sample in (others or {}).items():
        effects.append(_unpaired(reference, scores_of(sample), name))
    return Robustness(reference.auc, reference.rejection, effects, efficiency, len(jets))


def compare_scores(
    labels: NDArray[np.integer],
    before: Floats,
    after: Floats,
    *,
    efficiency: float = 0.5,
    name: str = "",
    strength: float | None = None,
    **options: Any,
) -> Effect:
    """Compare two scores of the same jets.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
        True class of each jet.
    before, after : ndarray, shape (B,) or (B, C)
        Scores without and with the modification.
    efficiency : float
        Signal efficiency of the rejection.
    name : str
        Name of the modification.
    strength : float, optional
        Strength of the modification.
    **options
        Options `classes`, `weights`, `signal` and `background` of :func:`pcloud.evaluate`.
    """
    shared = (options.pop("classes", None), options.pop("weights", None))
    point = _Point.of(Scores.from_arrays(labels, before, *shared), efficiency, **options)
    return _paired(point, Scores.from_arrays(labels, after, *shared), name, strength)


@dataclass(frozen=True)
class _Point:
    """Scores of a sample at one signal efficiency."""

    sample: Scores
    task: Task
    efficiency: float
    signal: str | int | None
    background: str | int | None

    @classmethod
    def of(
        cls,
        sample: Scores,
        efficiency: float,
        signal: str | int | None = None,
        background: str | int | None = None,
    ) -> _Point:
        if not 0 < efficiency < 1:
            raise InputError(f"the efficiency must lie between 0 and 1, got {efficiency:g}")
        check_signal_named(sample.classes, signal)
        task = discrimination_tasks(sample, signal, background)[-1]
        return cls(sample, task, efficiency, signal, background)

    def again(self, sample: Scores) -> _Point:
        """Other scores with the same options."""
        return self.of(sample, self.efficiency, self.signal, self.background)

    @property
    def weights(self) -> Floats:
        """Weights of the jets, (B,)."""
        weights = self.sample.weights
        return np.ones(len(self.sample.labels)) if weights is None else weights

    def shares(self, jets: NDArray[np.integer]) -> Floats:
        """Weights of the jets with these indices over the sum of their weights."""
        return self.weights[jets] / self.weights[jets].sum()

    @property
    def ranking(self) -> Ranking:
        return self.task.ranking

    @property
    def background_efficiency(self) -> float:
        return float(self.ranking.counts.background_efficiency(np.array(self.efficiency)))

    @property
    def auc(self) -> Measured:
        return measured_area(self.task, self.sample.labels)

    @property
    def rejection(self) -> Measured:
        error = counting_error(self.rejection_influence(), self.sample.labels)
        estimate = Rejection(self.task, 0, self.efficiency, "rejection")
        return estimate.measured(self.background_efficiency, error, None)

    def rejection_influence(self) -> Floats:
        return self.ranking.background_efficiency_influence(self.efficiency)

    @property
    def discriminant(self) -> Floats:
        """Score that ranks the jets, (B,)."""
        options = (self.sample, self.signal, self.background)
        return self.sample.discriminant(*signal_and_background(*options))

    def threshold(self, efficiency: float) -> float:
        """Threshold on the score with this signal efficiency."""
        jets = self.ranking.signal_jets
        return efficiency_threshold(
            self.discriminant[jets], efficiency, self.sample.weights_of(jets)
        )

    def passing(self, jets: NDArray[np.integer], threshold: float) -> NDArray[np.bool_]:
        """Mask of the jets with these indices that score at least the threshold."""
        return self.discriminant[jets] >= threshold


def _paired(before: _Point, changed: Scores, name: str, strength: float | None) -> Effect:
    after = before.again(changed)
    shift = np.abs(_log_odds(after.discriminant) - _log_odds(before.discriminant))
    shift[shift < _ROUNDING * np.abs(_log_odds(before.discriminant))] = 0.0
    return Effect(
        name,
        strength,
        after.auc,
        after.rejection,
        _auc_change(before, after),
        _rejection_ratio(before, after),
        _kept(before, after, after.ranking.signal_jets, is_paired=True),
        _kept(before, after, after.ranking.background_jets, is_paired=True),
        mean_over_jets(shift, after.sample.weights),
    )


def _unpaired(before: _Point, changed: Scores, name: str) -> Effect:
    after = before.again(changed)
    change = after.ranking.counts.auc() - before.ranking.counts.auc()
    ratio = None
    old = before.rejection
    new = after.rejection
    if not (old.limit or new.limit):
        relative_error = math.hypot(old.error / old.value, new.error / new.value)
        ratio = _ratio(new.value / old.value, relative_error)
    return Effect(
        name,
        None,
        after.auc,
        new,
        Measured(change, math.hypot(before.auc.error, after.auc.error), "DeLong"),
        ratio,
        _kept(before, after, after.ranking.signal_jets, is_paired=False),
        _kept(before, after, after.ranking.background_jets, is_paired=False),
        None,
    )


def _auc_change(before: _Point, after: _Point) -> Measured:
    """Difference of the areas of the same jets; its error is at least that of one pair."""
    influence = after.ranking.auc_influence() - before.ranking.auc_influence()
    one_pair = 1 / (before.ranking.signal_size * before.ranking.background_size)
    return Measured(
        after.ranking.counts.auc() - before.ranking.counts.auc(),
        math.hypot(counting_error(influence, before.sample.labels), one_pair),
        "paired DeLong",
    )


def _rejection_ratio(before: _Point, after: _Point) -> Measured | None:
    """Ratio of the rejections of the same jets; its error is at least that of half a jet."""
    if before.rejection.limit or after.rejection.limit:
        return None
    old = before.background_efficiency
    new = after.background_efficiency
    influence = before.rejection_influence() / old - after.rejection_influence() / new
    passing = min(old, new) * before.ranking.background_size
    relative_error = math.hypot(counting_error(influence, before.sample.labels), 0.5 / passing)
    return _ratio(old / new, relative_error)


def _ratio(value: float, relative_error: float) -> Measured:
    """Ratio whose logarithm has a Gaussian error."""
    factor = math.exp(relative_error)
    return Measured(value, 0.0, "counting", low=value / factor, high=value * factor)


def _kept(before: _Point, after: _Point, jets: NDArray[np.integer], *, is_paired: bool) -> Measured:
    """Fraction of the jets of one kind that pass the threshold set on the unmodified jets.

    The error is that of counting and that of the threshold, which depends on the unmodified signal
    jets. For the same jets the two are correlated: a signal jet that passes before and after
    raises the threshold.
    """
    efficiency = before.efficiency
    threshold = before.threshold(efficiency)
    passed = after.passing(jets, threshold)
    if passed.all() or not passed.any():
        return weighted_fraction(passed, after.sample.weights_of(jets))
    found = weighted_mean(passed, after.weights[jets])
    number = effective_size(after.weights[jets])
    signal = before.ranking.signal_jets
    slope = _threshold_slope(before, after, jets)
    influence = np.zeros(len(after.sample.labels))
    influence[jets] = found.influence
    error = 0.5**0.5 / number  # that of half a jet, as where none or all pass
    if is_paired:
        passed_before = before.passing(signal, threshold)
        shift = slope * (passed_before - efficiency)
        is_weighted = before.sample.weights is not None
        influence[signal] -= shift * before.shares(signal) if is_weighted else shift / len(signal)
    else:
        deviation = math.sqrt(efficiency * (1 - efficiency) / len(signal))
        if before.sample.weights is not None:
            passed_before = before.passing(signal, threshold)
            deviation = float(np.linalg.norm((passed_before - efficiency) * before.shares(signal)))
        error = math.hypot(error, slope * deviation)
    error = math.hypot(error, counting_error(influence, after.sample.labels))
    if not 0 < found.value < 1:  # with negative weights
        return Measured(found.value, error, METHOD)
    return Measured.fraction_with_error(found.value, error, "counting")


def _threshold_slope(before: _Point, after: _Point, jets: NDArray[np.integer]) -> float:
    """Derivative of the passing fraction of `jets` in the efficiency that sets the threshold.

    It is a finite difference over the window of :meth:`Counts.slope`. It is 0 where so many
    unmodified signal jets tie that the threshold does not fluctuate.
    """
    efficiency = before.efficiency
    number = before.ranking.signal_size
    deviation = math.sqrt(efficiency * (1 - efficiency) / number)
    nearest = min(efficiency, 1 - efficiency)
    half_deviation = min(deviation, nearest)
    if before.threshold(efficiency - half_deviation) == before.threshold(
        efficiency + half_deviation
    ):
        return 0.0
    half = min(0.5 * number**-0.2, nearest / 3)
    tight, loose = (
        weighted_mean(
            after.passing(jets, before.threshold(efficiency + step)), after.weights[jets]
        ).value
        for step in (-half, half)
    )
    return (loose - tight) / (2 * half)


def _log_odds(scores: Floats) -> Floats:
    """Log-odds of probabilities; other scores are returned unchanged."""
    if scores.min() < 0 or scores.max() > 1:
        return scores
    p = np.clip(scores.astype(np.float64), 1e-300, 1)
    return np.log(p) - np.log(np.maximum(1 - p, 1e-16))


def _with_strengths(
    transformations: Mapping[str, Sequence[float]] | Sequence[str] | None,
) -> dict[str, Sequence[float]]:
    if isinstance(transformations, Mapping):
        return dict(transformations)
    names = TRANSFORMATIONS if transformations is None else transformations
    return {
        name: TRANSFORMATIONS[name].strengths if name in TRANSFORMATIONS else (0.0,)
        for name in names
    }


def _row(effect: Effect) -> list[str]:
    return [
        effect.name.replace("_", " "),
        "" if effect.strength is None else f"{effect.strength:g}",
        str(effect.auc_change.scaled(1000)),
        str(effect.rejection),
        "" if effect.rejection_ratio is None else str(effect.rejection_ratio),
        str(effect.efficiency),
        str(effect.mistag_rate),
        "" if effect.moved is None else str(effect.moved),
    ]
