"""Whether a score of 0.8 means that 80 % of such jets are signal: reliability and its measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.measured import Measured, fraction_interval
from pcloud.evaluation.resampling import bootstrap, counting_error
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.table import EvaluationTable
from pcloud.typing import Floats

__all__ = ["Reliability", "measure_calibration", "probabilities", "top_label"]

_SMALLEST = 1e-300  # a probability below it counts as this in a logarithm
_ONE_SIDED = 1.645  # standard errors to a one-sided limit at 95 %


@dataclass(frozen=True)
class Reliability:
    """Predicted probabilities in bins, beside how often what they predict happened.

    Parameters
    ----------
    predicted : ndarray, shape (B,)
        Probability of an event for each jet, such as "is signal".
    happened : ndarray of bool, shape (B,)
        Whether it was so.
    edges : ndarray, shape (K + 1,)
        Edges of the bins; the last one is closed on both sides.
    """

    predicted: Floats
    happened: NDArray[np.bool_]
    edges: Floats

    @classmethod
    def of(
        cls, predicted: Floats, happened: NDArray[np.bool_], bins: int = 15, *, equal: str = "width"
    ) -> Reliability:
        """Bins of equal width, or of equal counts with ``equal="counts"`` (fewer where scores tie)."""
        if equal == "width":
            edges = np.linspace(0, 1, bins + 1)
        else:
            edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)))
            if len(edges) == 1:
                edges = np.repeat(edges, 2)
        return cls(predicted, happened, edges)

    @cached_property
    def bin(self) -> NDArray[np.integer]:
        """Bin of each jet."""
        return np.searchsorted(self.edges[1:-1], self.predicted, side="right")

    def sums(self, weights: NDArray[Any] | None = None) -> tuple[Floats, Floats, Floats]:
        """Number of jets, sum of predictions and number of events in each bin, (K,) each."""
        w = np.ones(len(self.predicted)) if weights is None else weights.astype(float)
        values = (w, w * self.predicted, w * self.happened)
        number, predicted, happened = (
            np.bincount(self.bin, v, minlength=len(self.edges) - 1).astype(float) for v in values
        )
        return number, predicted, happened

    def error(self, weights: NDArray[Any] | None = None) -> float:
        """Expected calibration error: mean distance of prediction and frequency over jets."""
        number, predicted, happened = self.sums(weights)
        return float(np.abs(predicted - happened).sum() / number.sum())

    def points(self) -> tuple[Floats, Floats, Floats]:
        """Mean prediction, frequency and its errors (2, K) down and up in the bins that hold jets.

        The errors reach to the ends of :func:`fraction_interval`: not 0 where all jets agree.
        """
        number, predicted, happened = (s[self.sums()[0] > 0] for s in self.sums())
        frequency = happened / number
        low, high = fraction_interval(happened, number)
        return predicted / number, frequency, np.stack([frequency - low, high - frequency])

    def mean_square(self) -> tuple[float, float]:
        """Mean squared distance of prediction and frequency without its bias, and its error.

        Counting adds the variance of the frequency, ``f (1 - f) / n``, to the squared distance in
        a bin. Its unbiased estimate is subtracted, so that the result is negative for half of
        the samples of a calibrated tagger.
        """
        number, predicted, happened = (s[self.sums()[0] > 0] for s in self.sums())
        mean, frequency = predicted / number, happened / number
        # one jet alone has no variance of its own: that of its prediction
        variance = np.where(
            number > 1,
            frequency * (1 - frequency) / np.maximum(number - 1, 1),
            mean * (1 - mean),
        )
        square = (mean - frequency) ** 2 - variance
        weight = number / number.sum()
        smooth = (happened + 0.5) / (number + 1)
        spread = smooth * (1 - smooth) / number
        of_square = 4 * np.maximum(square, 0) * spread + 2 * spread**2
        return float(weight @ square), math.sqrt(float(weight**2 @ of_square))


def measure_calibration(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    bins: int = 15,
    num_bootstrap: int = 200,
    seed: int = 0,
) -> EvaluationTable:
    """Measure how far predicted probabilities can be taken at their word, with errors.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Probability of the second of two classes, or of each class.
    classes : sequence of str, optional
        Names of the classes.
    bins : int, default 15
        Bins of the calibration errors.
    num_bootstrap : int, default 200
        Resamplings behind the errors of the calibration errors, and drawings of labels behind
        ``ece_perfect``; at least 2.
    seed : int, default 0
        Of both.

    Returns
    -------
    EvaluationTable
        ``ece`` and ``ece_adaptive``, the expected calibration error in bins of equal width and of
        equal counts: of the signal's probability for two classes, of the most probable class's
        for more, where ``ece[<class>]`` takes each class's own; ``ece_perfect`` and
        ``calibration_rms``, see Notes;
        ``brier``, the mean squared distance from the truth, summed over classes if there are more
        than two; ``log_loss``, the mean negative logarithm of the probability of the true class.

    Raises
    ------
    InputError
        If the arrays cannot be used, or the scores are no probabilities.

    Notes
    -----
    **The calibration error is biased upwards**: it adds absolute values, so that counting noise
    in a bin never cancels. Three numbers answer three questions:

    - ``ece`` compares taggers on the same jets in the same bins. It overestimates.
    - ``ece_perfect`` is what a perfectly calibrated tagger with these very scores would show on as
      many jets (mean and spread over labels drawn from the scores). An ``ece`` above it by several
      spreads says that there is miscalibration. Their difference does not say how much: noise
      and miscalibration add about in quadrature, so that it underestimates.
    - ``calibration_rms``, the root of the mean squared distance of prediction and frequency over
      jets, in bins of equal counts, says how much: the variance that counting adds to each bin is
      subtracted before the root (Kumar, Liang and Ma). It is a limit where nothing is left.

    Bootstrap resamplings add their own noise to the bins and are centred higher still, so that
    only their spread is used. They draw from all jets, the numbers of the classes vary too.

    References
    ----------
    Naeini, Cooper and Hauskrecht, AAAI 2015 (ECE); Guo et al., https://arxiv.org/abs/1706.04599;
    Nguyen and O'Connor, https://arxiv.org/abs/1508.05154 (adaptive bins);
    Kumar, Liang and Ma, https://arxiv.org/abs/1909.10155 (the bias).

    Examples
    --------
    >>> table = measure_calibration([0, 1, 0, 1], [0.2, 0.8, 0.4, 0.9])
    >>> print(table["brier"])
    0.062 ± 0.031
    """
    if bins < 1 or num_bootstrap < 2:
        raise InputError(
            f"bins must be at least 1 and num_bootstrap at least 2, got {bins} and {num_bootstrap}"
        )
    sample = Scores.from_arrays(labels, scores, classes)
    p = probabilities(sample)
    diagrams = _diagrams(p, sample, bins)
    spread = bootstrap(
        lambda w: np.array([d.error(w) for d in diagrams.values()]),
        np.zeros_like(sample.labels),  # the mix of classes is part of what is measured
        num_bootstrap,
        seed,
    ).std(axis=0, ddof=1)
    entries = {
        name: _not_negative(diagram.error(), float(error))
        for (name, diagram), error in zip(diagrams.items(), spread, strict=True)
    }
    by_class = {name: entries.pop(name) for name in diagrams if "[" in name}
    perfect = _perfect(diagrams["ece"], num_bootstrap, seed)
    entries |= {
        "ece_perfect": perfect,
        "calibration_rms": _root_mean_square(diagrams["ece_adaptive"]),
        **_proper_scores(p, sample.labels),
        **by_class,
    }
    note = (
        f"{len(p):,} jets, {bins} bins. A perfectly calibrated tagger with these scores would "
        f"show an ECE of {perfect}: the ECE is biased upwards, and only one that is clearly larger "
        "is a sign of miscalibration. The RMS calibration error says how large it is, without "
        "this bias."
    )
    settings = {"bins": bins, "num_bootstrap": num_bootstrap, "seed": seed}
    return EvaluationTable(entries, sample.classes, sample.counts.tolist(), settings, [note])


def probabilities(sample: Scores) -> Floats:
    """Probability of each class, (B, C), in double precision.

    Raises
    ------
    InputError
        If the scores are no probabilities.
    """
    if not sample.are_probabilities:
        raise InputError("calibration is about probabilities: these scores leave [0, 1]")
    values = sample.values.astype(np.float64)
    return np.stack([1 - values, values], axis=1) if values.ndim == 1 else values


def top_label(p: Floats, labels: NDArray[np.integer]) -> tuple[Floats, NDArray[np.bool_]]:
    """The probability whose reliability is asked for, and whether it came true, (B,) each.

    Of two classes that of the second; of more that of the most probable one.
    """
    if p.shape[1] == 2:
        return p[:, 1], labels == 1
    return p.max(axis=1), p.argmax(axis=1) == labels


def _diagrams(p: Floats, sample: Scores, bins: int) -> dict[str, Reliability]:
    top = top_label(p, sample.labels)
    found = {
        "ece": Reliability.of(*top, bins),
        "ece_adaptive": Reliability.of(*top, bins, equal="counts"),
    }
    if p.shape[1] > 2:
        for c, name in enumerate(sample.classes):
            found[f"ece[{name}]"] = Reliability.of(p[:, c], sample.labels == c, bins)
    return found


def _perfect(diagram: Reliability, number: int, seed: int) -> Measured:
    """Calibration error where every event happens with the probability predicted."""
    generator = np.random.default_rng(seed)
    p = diagram.predicted
    drawn = [
        Reliability(p, generator.random(len(p)) < p, diagram.edges).error() for _ in range(number)
    ]
    return Measured(float(np.mean(drawn)), float(np.std(drawn, ddof=1)), "drawn labels")


def _not_negative(value: float, error: float) -> Measured:
    return Measured(value, 0.0, "bootstrap", low=max(value - error, 0.0), high=value + error)


def _root_mean_square(diagram: Reliability) -> Measured:
    """Root of the unbiased mean square, with the interval of the square."""
    square, error = diagram.mean_square()
    if square <= 0:
        limit = math.sqrt(_ONE_SIDED * error)
        return Measured(limit, 0.0, "no miscalibration", limit="upper", low=0.0, high=limit)
    low, high = math.sqrt(max(square - error, 0.0)), math.sqrt(square + error)
    return Measured(math.sqrt(square), 0.0, "debiased", low=low, high=high)


def _proper_scores(p: Floats, labels: NDArray[np.integer]) -> dict[str, Measured]:
    """Brier score and log loss, means over jets, with the counting error of a mean."""
    truth = np.eye(p.shape[1])[labels]
    brier = ((p - truth) ** 2).sum(axis=1) / (2 if p.shape[1] == 2 else 1)
    loss = -np.log(np.maximum(p[np.arange(len(p)), labels], _SMALLEST))
    return {
        name: Measured(float(v.mean()), counting_error(v / len(v), labels), "counting")
        for name, v in (("brier", brier), ("log_loss", loss))
    }
