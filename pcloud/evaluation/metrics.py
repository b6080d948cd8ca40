"""AUC, accuracy and background rejection of a tagger, each with its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.custom_metrics import custom_metrics, unweighted_note
from pcloud.evaluation.estimates import Accuracy, Area, MacroArea, Metric, task_estimates
from pcloud.evaluation.measured import CONFIDENCE
from pcloud.evaluation.pairwise_area import PairwiseArea
from pcloud.evaluation.resampling import bootstrap, counting_error
from pcloud.evaluation.scores import Scores, read_scores
from pcloud.evaluation.table import EvaluationTable, describe
from pcloud.evaluation.tasks import Task, binary_signal, discrimination_tasks
from pcloud.evaluation.weights import weights_note, weights_of_classes


def evaluate(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    efficiencies: Sequence[float] = (0.3, 0.5),
    signal: str | int | None = None,
    background: str | int | None = None,
    num_bootstrap: int = 200,
    seed: int = 0,
    metrics: Sequence[str] = (),
    weights: ArrayLike | None = None,
) -> EvaluationTable:
    """Measure how well scores separate classes, with statistical errors.

    Two classes give ``auc``, ``accuracy`` and ``rejection@<eS>``. More classes give

    - ``accuracy``;
    - ``auc_ovr`` (one-vs-rest): mean area of the classes, each against all others together;
    - ``auc_ovo`` (one-vs-one): mean area over pairs of classes, as reported by weaver-core; it
      does not depend on the numbers of jets;
    - ``auc[<class>]`` and ``rejection@<eS>[<class>]``: each class against all others, ranked by
      its probability;
    - with a `background` also ``...[<class> vs <background>]``: each class against this one
      alone, ranked by s / (s + b), as results on JetClass are quoted.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Score of the signal, or the probability of each class. A single score is any number that
        is higher for signal. The accuracy uses it as a probability, and is left out if a score is
        outside [0, 1]. Two or more columns must be probabilities; logits are refused.
    classes : sequence of str, optional
        Names of the classes.
    efficiencies : sequence of float, default (0.3, 0.5)
        Signal efficiencies eS of the rejections, between 0 and 1.
    signal : str or int, optional
        The signal class. With two classes, the second by default. With more classes, only the
        quantities of this class are measured if it is given.
    background : str or int, optional
        With more than two classes, the class against which each other class is ranked as well.
    num_bootstrap : int, default 200
        Number of resamplings for the bootstrap errors; 0 for no bootstrap errors.
    seed : int, default 0
        Seed of the resamplings.
    metrics : sequence of str, optional
        Further metrics, registered by :func:`pcloud.register_metric`.
    weights : array_like, shape (B,), optional
        Weights of the jets, such as those of a generator. They may be negative, but those of a
        class must have a positive sum.

    Returns
    -------
    EvaluationTable
        Named values with errors. The printed error is the *counting* error: binomial in each
        class for the accuracy, DeLong's for areas, and half the 68 % interval of `RocPoint` for
        rejections. That interval includes the fluctuation of the background that passes and of
        the threshold, which depends on the signal jets. The counting error needs no random
        numbers and no resampling. It is valid with few background jets left, where the bootstrap
        is not. The bootstrap error is quoted as a check with fewer assumptions. The interval of a
        rejection is asymmetric: `low` and `high` are its ends, and ``interval(0.95)`` gives the
        ends of the 95 % interval.

    Raises
    ------
    InputError
        If the arrays or options cannot be used; the message gives the reason.

    Notes
    -----
    The rejection is 1 / eB, where eB is the fraction of background jets that score at least
    as high as the lowest-scoring jet of the best fraction eS of the signal. This is the first
    corner of the ROC curve that reaches eS. Between corners it equals
    ``numpy.interp(eS, tpr, fpr)`` with ``sklearn.metrics.roc_curve``. Published codes that
    take the corner nearest to eS, or the first one above it, differ by one signal jet. Where jets
    of both kinds tie at the threshold, the ROC curve is linear, as in the area: a random fraction
    of the tied jets passes.

    If an accuracy or an area is exactly 0 or 1, the value is a limit at 95 % confidence. For n
    trials without an event it is p < 1 - 0.05^(1/n). For the accuracy, n is the number of jets.
    For an area it is the number of jets of the smaller class, which is the number of independent
    pairs.

    A rejection has an interval if at least two signal jets are expected to fail the cut and two
    to pass it, and at least three background jets pass. With less background left it is a lower
    limit at 95 % confidence. With fewer than two signal jets expected to fail it is an upper
    limit. Both limits include the error of the threshold. Where neither side is bounded, the
    limit is the trivial one of 1.

    The errors are those of a test sample with these numbers of jets of each class. The spread
    between trainings is not included.

    Errors of jets with weights come from influence functions: the first-order change of a quantity
    due to each jet, with its weight. They are valid where the weights depend on the score, where a
    single effective number of jets is not. Limits use the effective numbers of jets that pass or
    fail. Weights that are equal within signal and within background change neither areas nor
    rejections, nor their intervals. With negative weights the signal efficiency does not only rise
    as the cut is relaxed; the rejection is that of the tightest cut that reaches eS.

    References
    ----------
    DeLong, DeLong, Clarke-Pearson, *Biometrics* 44 (1988) 837;
    Sun, Xu, *IEEE Signal Process. Lett.* 21 (2014) 1389 (the fast form);
    Qu, Li, Qian, https://arxiv.org/abs/2202.03772 (s / (s + b), JetClass).

    Examples
    --------
    >>> table = evaluate([0, 0, 0, 1, 1, 1], [0.1, 0.4, 0.3, 0.35, 0.8, 0.9])
    >>> print(table["auc"])
    0.89 ± 0.16
    """
    return evaluate_scores(
        Scores.from_arrays(labels, scores, classes, weights),
        efficiencies=efficiencies,
        signal=signal,
        background=background,
        num_bootstrap=num_bootstrap,
        seed=seed,
        metrics=metrics,
    )


def evaluate_scores(
    sample: Scores,
    *,
    efficiencies: Sequence[float] = (0.3, 0.5),
    signal: str | int | None = None,
    background: str | int | None = None,
    num_bootstrap: int = 200,
    seed: int = 0,
    metrics: Sequence[str] = (),
) -> EvaluationTable:
    """Measure as :func:`evaluate`, from `Scores` that are already checked."""
    _check_options(efficiencies, num_bootstrap)
    tasks = discrimination_tasks(sample, signal, background)
    estimates = _estimates(sample, tasks, efficiencies, signal, background)
    estimates += custom_metrics(metrics, sample)

    def values(multiplicities: NDArray[np.uint8]) -> NDArray[np.floating]:
        counts = [task.ranking.resampled(multiplicities) for task in tasks]
        return np.array([estimate.value(multiplicities, counts) for estimate in estimates])

    measured = values(np.ones(len(sample.labels), dtype=np.uint8))
    errors = [counting_error(estimate.influence(), sample.labels) for estimate in estimates]
    spread: list[float | None] = [None] * len(estimates)
    if num_bootstrap:
        spread = bootstrap(values, sample.labels, num_bootstrap, seed).std(axis=0, ddof=1).tolist()
    entries = {
        estimate.name: estimate.measured(value, error, bootstrap_error)
        for estimate, value, error, bootstrap_error in zip(
            estimates, measured.tolist(), errors, spread, strict=True
        )
    }
    settings: dict[str, Any] = {
        "efficiencies": [float(e) for e in efficiencies],
        "signal": _name(sample, signal),
        "background": _name(sample, background),
        "num_bootstrap": num_bootstrap,
        "seed": seed,
        "metrics": list(metrics),
    }
    if sample.weights is not None:
        settings["weights"] = weights_of_classes(sample)
    table = EvaluationTable(entries, sample.classes, sample.counts.tolist(), settings)
    return replace(table, notes=_notes(sample, table))


def evaluate_scores_file(path: str | Path, **options: Any) -> EvaluationTable:
    """Measure as :func:`evaluate`, from the ``scores.parquet`` of a run or of ``pcloud predict``.

    Parameters
    ----------
    path : path
        Parquet file with the scores of labelled jets.
    **options
        Options of :func:`evaluate` apart from `classes`, which the file contains.

    Raises
    ------
    InputError
        If the file is not a table of scores or has no labels.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> table = evaluate_scores_file("runs/top/scores.parquet")  # doctest: +SKIP
    """
    return evaluate_scores(read_scores(path), **options)


def _estimates(
    sample: Scores,
    tasks: Sequence[Task],
    efficiencies: Sequence[float],
    signal: str | int | None,
    background: str | int | None,
) -> list[Metric]:
    of_tasks = [e for i, task in enumerate(tasks) for e in task_estimates(task, i, efficiencies)]
    binary = len(sample.classes) == 2
    accuracy: list[Metric] = []
    if sample.are_probabilities:
        target = binary_signal(sample, signal, background) if binary else None
        accuracy = [
            Accuracy(sample.predicted(target) == sample.labels, sample.labels, sample.weights)
        ]
    if binary:
        return [of_tasks[0], *accuracy, *of_tasks[1:]]
    if signal is not None:
        return [*accuracy, *of_tasks]
    areas = [e for e in of_tasks if isinstance(e, Area) and e.task.name == e.task.signal]
    present = [c for c, number in enumerate(sample.counts) if number > 1]
    return [*accuracy, MacroArea(areas), PairwiseArea(sample, present), *of_tasks]


def _check_options(efficiencies: Sequence[float], num_bootstrap: int) -> None:
    for efficiency in efficiencies:
        if not 0 < efficiency < 1:
            raise InputError(f"signal efficiencies must lie between 0 and 1, got {efficiency}")
    if len(set(efficiencies)) < len(efficiencies):
        raise InputError(f"signal efficiencies {list(efficiencies)} repeat")
    if num_bootstrap < 0 or num_bootstrap == 1:
        raise InputError(f"num_bootstrap must be 0 (none) or at least 2, got {num_bootstrap}")


def _name(sample: Scores, chosen: str | int | None) -> str | None:
    return None if chosen is None else sample.classes[sample.index(chosen)]


def _missing_intervals(table: EvaluationTable) -> list[str]:
    """Sentences on the rejections that are limits because of too few signal jets."""
    notes = []
    for reason in ("no signal jet fails", "one signal jet fails", "too few signal jets pass"):
        names = {describe(name) for name, entry in table.items() if entry.method == reason}
        if names:
            notes.append(f"No interval for {', '.join(sorted(names))}: {reason} the cut.")
    return notes


def _notes(sample: Scores, table: EvaluationTable) -> list[str]:
    jets = ", ".join(f"{n:,} {name}" for name, n in zip(sample.classes, table.counts, strict=True))
    notes = [
        f"{sample.number_of(len(sample.labels))}: {jets}. Errors are those of this test sample."
    ]
    if sample.weights is not None:
        notes.append(weights_note(sample))
        notes += unweighted_note(table.settings["metrics"])
    if any(entry.limit for entry in table.values()):
        notes.append(f"> and < are limits at {CONFIDENCE:.0%} confidence.")
    notes += _missing_intervals(table)
    absent = [name for name, number in zip(sample.classes, table.counts, strict=True) if number < 2]
    if absent:
        notes.append(f"Left out, with fewer than two {sample.noun}: {', '.join(absent)}.")
    if not sample.are_probabilities:
        notes.append("No accuracy: the scores are not probabilities.")
    if np.ptp(sample.values, axis=0).max() == 0:
        notes.append(f"All {sample.noun} have the same score.")
    return notes
