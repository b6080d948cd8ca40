"""How the power of a tagger changes when its jets do, with errors on the same jets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.estimates import Area, Rejection
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.resampling import counting_error
from pcloud.evaluation.robustness_transformations import TRANSFORMATIONS, prepare, transform
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import Task, discrimination_tasks
from pcloud.evaluation.working_points import efficiency_threshold
from pcloud.io.jets import FlatJets
from pcloud.run_files import Advance, ignore_progress

__all__ = ["Effect", "Robustness", "compare_scores", "measure_robustness"]

Floats = NDArray[np.floating]
Predict = Callable[[ak.Array], Floats]

_ROUNDING = 1e-12  # of log-odds, relative


@dataclass(frozen=True)
class Effect:
    """What became of a tagger when its jets were changed.

    Parameters
    ----------
    name : str
        The change: a transformation, or another simulation.
    strength : float or None
        How much of it.
    auc, rejection : Measured
        On the changed jets; the rejection at the signal efficiency asked for, the threshold set
        anew.
    auc_change : Measured
        Difference to the unchanged jets.
    rejection_ratio : Measured or None
        Rejection over that of the unchanged jets; None where no background passes.
    efficiency, mistag_rate : Measured
        Signal and background that pass the threshold set on the *unchanged* jets. The error
        includes that of the threshold, and knows that both are of the same jets; where none or
        all pass, a limit.
    moved : Measured or None
        Mean absolute change of the log-odds of a jet; None where the jets are others.
    """

    name: str
    strength: float | None
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

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Effect:
        """Inverse of `to_dict`."""
        plain: dict[str, Any] = {
            k: Measured.from_dict(v) if isinstance(v, dict) else v for k, v in fields.items()
        }
        return cls(**plain)


@dataclass(frozen=True)
class Robustness:
    """The effects of all changes on one tagger.

    Parameters
    ----------
    auc, rejection : Measured
        On the unchanged jets.
    effects : sequence of Effect
        Of the changes.
    efficiency : float
        Signal efficiency of the rejections.
    jets : int
        Number of jets.
    """

    auc: Measured
    rejection: Measured
    effects: Sequence[Effect]
    efficiency: float
    jets: int

    def rows(self) -> list[list[str]]:
        """A table: a row for each change."""
        at = f"at εS = {self.efficiency:g}"
        header = ["", "strength", "1000 x AUC change", f"1/εB {at}", "ratio to unchanged"]
        header += ["signal kept", "background kept", "log-odds moved by"]
        first = ["unchanged", "", f"AUC {self.auc}", str(self.rejection), "", "", "", ""]
        return [header, first, *map(_row, self.effects)]

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
        effects = [Effect.from_dict(effect) for effect in fields["effects"]]
        both = {name: Measured.from_dict(fields[name]) for name in ("auc", "rejection")}
        return cls(**{**fields, **both, "effects": effects})


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
    """Change jets, score them again, and measure what it does to AUC and rejection.

    Parameters
    ----------
    predict : callable
        ``predict(jets) -> (B, C)`` probabilities, such as ``pcloud.Run(...).predict``.
    jets : awkward.Array
        Labelled jets.
    transformations : mapping of str to sequence of float, or sequence of str, optional
        Which changes, and at which strengths; by default all of
        :data:`~pcloud.evaluation.robustness_transformations.TRANSFORMATIONS` at their own.
    classes : sequence of str, optional
        Names of the classes.
    efficiency : float
        Signal efficiency of the rejection.
    signal, background : str or int, optional
        As for :func:`pcloud.evaluate`; of more than two classes the signal must be named.
    others : mapping of str to awkward.Array, optional
        Jets of other simulations, labelled the same way, by name.
    seed : int
        Of the random changes.
    advance : callable
        Progress callback, called after every scoring with the part of the whole work done.

    Returns
    -------
    Robustness

    Raises
    ------
    InputError
        If there are no labels, or the signal is not clear.
    UnknownNameError
        If a transformation or class does not exist.

    Notes
    -----
    The changed jets are the same jets: a jet that was well ranked before is likely to be so after,
    so that changes are known much better than the numbers themselves. Their errors take what each
    jet adds to the number after less what it adds before (the paired form of DeLong's error), and
    hold for the random part of a change too. A change that moves no jet keeps a small error, that
    of one pair of jets or half a jet: a sample does not know that nothing ever moves.
    """
    if "label" not in jets.fields:
        raise InputError("robustness is measured on labelled jets, and these have no label")
    wanted = _wanted(transformations)
    for name, strengths in wanted.items():  # say what is wrong before hours of scoring
        for strength in strengths:
            transform(FlatJets.from_awkward(jets[:1]), name, strength)
    flat = FlatJets.from_awkward(jets)
    num_scorings = 1 + sum(map(len, wanted.values())) + len(others or {})

    def scores_of(changed: ak.Array) -> Scores:
        sample = Scores.from_arrays(np.asarray(changed.label), predict(changed), classes)
        advance(1 / num_scorings)
        return sample

    before = scores_of(prepare(flat).to_awkward())
    reference = _Point.of(before, efficiency, signal, background)
    effects = []
    for name, strengths in wanted.items():
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
    """Effect of a change on the scores of the same jets; `options` are classes, signal, background."""
    classes = options.pop("classes", None)
    point = _Point.of(Scores.from_arrays(labels, before, classes), efficiency, **options)
    return _paired(point, Scores.from_arrays(labels, after, classes), name, strength)


@dataclass(frozen=True)
class _Point:
    """A tagger on some jets, at a signal efficiency."""

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
        if len(sample.classes) > 2 and signal is None:
            raise InputError(f"which of {', '.join(sample.classes)} is the signal?")
        task = discrimination_tasks(sample, signal, background)[-1]
        return cls(sample, task, efficiency, signal, background)

    def again(self, sample: Scores) -> _Point:
        """The same question about other scores."""
        return self.of(sample, self.efficiency, self.signal, self.background)

    @property
    def ranking(self) -> Ranking:
        return self.task.ranking

    @property
    def background_efficiency(self) -> float:
        return float(self.ranking.counts.background_efficiency(np.array(self.efficiency)))

    @property
    def auc(self) -> Measured:
        error = counting_error(self.ranking.auc_influence(), self.sample.labels)
        return Area(self.task, 0, "auc").measured(self.ranking.counts.auc(), error, None)

    @property
    def rejection(self) -> Measured:
        error = counting_error(self.rejection_influence(), self.sample.labels)
        estimate = Rejection(self.task, 0, self.efficiency, "rejection")
        return estimate.measured(self.background_efficiency, error, None)

    def rejection_influence(self) -> Floats:
        return self.ranking.background_efficiency_influence(self.efficiency)

    @property
    def discriminant(self) -> Floats:
        """What ranks the jets, (B,)."""
        sample = self.sample
        target = sample.index(self.task.signal)
        against = None if self.background is None else sample.index(self.background)
        return sample.discriminant(target, 1 - target if len(sample.classes) == 2 else against)

    def threshold(self, efficiency: float) -> float:
        """Score that a part of the signal reaches."""
        return efficiency_threshold(self.discriminant[self.ranking.signal_jets], efficiency)

    def passing(self, jets: NDArray[np.integer], threshold: float) -> NDArray[np.bool_]:
        """Jets that score at least the threshold, of those with these indices."""
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
        Measured.mean(shift),
    )


def _unpaired(before: _Point, changed: Scores, name: str) -> Effect:
    after = before.again(changed)
    first, second = before.auc, after.auc
    change = after.ranking.counts.auc() - before.ranking.counts.auc()
    ratio = None
    if not (before.rejection.limit or after.rejection.limit):
        e, f = before.rejection, after.rejection
        ratio = _ratio(f.value / e.value, math.hypot(e.error / e.value, f.error / f.value))
    return Effect(
        name,
        None,
        second,
        after.rejection,
        Measured(change, math.hypot(first.error, second.error), "DeLong"),
        ratio,
        _kept(before, after, after.ranking.signal_jets, is_paired=False),
        _kept(before, after, after.ranking.background_jets, is_paired=False),
        None,
    )


def _auc_change(before: _Point, after: _Point) -> Measured:
    """Difference of the areas of the same jets; its error is at least that of one pair of jets."""
    influence = after.ranking.auc_influence() - before.ranking.auc_influence()
    one_pair = 1 / (len(before.ranking.signal_jets) * len(before.ranking.background_jets))
    return Measured(
        after.ranking.counts.auc() - before.ranking.counts.auc(),
        math.hypot(counting_error(influence, before.sample.labels), one_pair),
        "paired DeLong",
    )


def _rejection_ratio(before: _Point, after: _Point) -> Measured | None:
    """Ratio of the rejections of the same jets; its error is at least that of half a jet."""
    e, f = before.background_efficiency, after.background_efficiency
    if e == 0 or f == 0:
        return None
    influence = before.rejection_influence() / e - after.rejection_influence() / f
    passing = min(e, f) * len(before.ranking.background_jets)
    relative = math.hypot(counting_error(influence, before.sample.labels), 0.5 / passing)
    return _ratio(e / f, relative)


def _ratio(value: float, relative_error: float) -> Measured:
    """Positive number whose logarithm has a Gaussian error."""
    factor = math.exp(relative_error)
    return Measured(value, 0.0, "counting", low=value / factor, high=value * factor)


def _kept(before: _Point, after: _Point, jets: NDArray[np.integer], *, is_paired: bool) -> Measured:
    """Part of the jets of a kind that passes the threshold of the unchanged jets.

    The error is that of counting and of the threshold, which the unchanged signal sets; of the
    same jets both go together: a signal jet that passes before and after raises the threshold.
    """
    efficiency, threshold = before.efficiency, before.threshold(before.efficiency)
    passed = after.passing(jets, threshold)
    number, mean = len(jets), float(passed.mean())
    if mean in (0.0, 1.0):
        return Measured.fraction(int(passed.sum()), number)
    signal = before.ranking.signal_jets
    slope = _threshold_slope(before, after, jets)
    influence = np.zeros(len(after.sample.labels))
    influence[jets] = (passed - mean) / number
    error = 0.5**0.5 / number  # of half a jet more, as where all or none pass
    if is_paired:
        passed_before = before.passing(signal, threshold)
        influence[signal] -= slope * (passed_before - efficiency) / len(signal)
    else:
        deviation = math.sqrt(efficiency * (1 - efficiency) / len(signal))
        error = math.hypot(error, slope * deviation)
    error = math.hypot(error, counting_error(influence, after.sample.labels))
    return Measured.fraction_with_error(mean, error, "counting")


def _threshold_slope(before: _Point, after: _Point, jets: NDArray[np.integer]) -> float:
    """Change of the part of `jets` that passes with the efficiency at which the threshold is set.

    A difference over the window in which :class:`Ranking` takes the slope of a ROC curve; 0 where
    so many unchanged signal jets tie that the threshold does not fluctuate.
    """
    efficiency, number = before.efficiency, len(before.ranking.signal_jets)
    deviation = math.sqrt(efficiency * (1 - efficiency) / number)
    nearest = min(efficiency, 1 - efficiency)
    half_deviation = min(deviation, nearest)
    if before.threshold(efficiency - half_deviation) == before.threshold(
        efficiency + half_deviation
    ):
        return 0.0
    half = min(0.5 * number**-0.2, nearest / 3)
    tight, loose = (
        after.passing(jets, before.threshold(efficiency + step)).mean() for step in (-half, half)
    )
    return float(loose - tight) / (2 * half)


def _log_odds(scores: Floats) -> Floats:
    """Logits of probabilities, and scores that are none as they are."""
    if scores.min() < 0 or scores.max() > 1:
        return scores
    p = np.clip(scores.astype(np.float64), 1e-300, 1)
    return np.log(p) - np.log(np.maximum(1 - p, 1e-16))


def _wanted(
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
