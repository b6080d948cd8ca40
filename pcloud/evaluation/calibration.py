"""Calibration: reliability diagrams, calibration errors and proper scores.

A tagger is calibrated if 80 % of the jets with a score of 0.8 are signal, and so on for every score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError
from pcloud.evaluation.influence import METHOD, weighted_fraction, weighted_mean
from pcloud.evaluation.measured import Measured, fraction_interval
from pcloud.evaluation.resampling import bootstrap, counting_error
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.table import EvaluationTable
from pcloud.evaluation.weights import weights_note, weights_of_classes
from pcloud.typing import Floats
from pcloud.words import number_of

__all__ = [
    "Reliability",
    "calibration_of_scores",
    "measure_calibration",
    "probabilities",
    "top_label",
]


_MIN_PROBABILITY = 1e-300  # lower bound on probabilities in logarithms
_ONE_SIDED_SIGMAS = 1.645  # standard errors to a one-sided limit at 95 %


@dataclass(frozen=True)
class Reliability:
    """Predicted probabilities and observed frequencies of an event, in bins of the prediction.

    Parameters
    ----------
    predicted : ndarray, shape (B,)
        Predicted probability of the event for each jet, such as "is signal".
    happened : ndarray of bool, shape (B,)
        True for the jets for which the event happened.
    edges : ndarray, shape (K + 1,)
        Edges of the bins; the last one is closed on both sides.
    weights : ndarray, shape (B,), optional
        Weights of the jets. Bins of equal counts hold equal numbers of jets all the same.
    """

    predicted: Floats
    happened: NDArray[np.bool_]
    edges: Floats
    weights: Floats | None = None

    @classmethod
    def of(
        cls,
        predicted: Floats,
        happened: NDArray[np.bool_],
        bins: int = 15,
        *,
        equal: str = "width",
        weights: Floats | None = None,
    ) -> Reliability:
        """Use bins of equal width, or of equal counts with ``equal="counts"``.

        There are fewer bins of equal counts where scores tie.
        """
        if equal == "width":
            edges = np.linspace(0, 1, bins + 1)
        else:
            edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)))
            if len(edges) == 1:
                edges = np.repeat(edges, 2)
        return cls(predicted, happened, edges, weights)

    @cached_property
    def bin(self) -> NDArray[np.integer]:
        """Index of the bin of each jet, (B,)."""
        return np.searchsorted(self.edges[1:-1], self.predicted, side="right")

    def sums(self, multiplicities: NDArray[Any] | None = None) -> tuple[Floats, Floats, Floats]:
        """Number of jets, sum of predictions and number of events in each bin, (K,) each.

        They are sums of weights where the jets have weights. Jet i is counted
        ``multiplicities[i]`` times.
        """
        w = np.ones(len(self.predicted))
        if multiplicities is not None:
            w = multiplicities.astype(float)
        if self.weights is not None:
            w = w * self.weights
        values = (w, w * self.predicted, w * self.happened)
        number, predicted, happened = (
            np.bincount(self.bin, v, minlength=len(self.edges) - 1).astype(float) for v in values
        )
        return number, predicted, happened

    def error(self, multiplicities: NDArray[Any] | None = None) -> float:
        """Expected calibration error: mean over jets of abs(prediction - frequency) in the bin."""
        number, predicted, happened = self.sums(multiplicities)
        return float(np.abs(predicted - happened).sum() / number.sum())

    def points(self) -> tuple[Floats, Floats, Floats]:
        """Mean prediction, frequency, and errors (2, K) down and up, in the K bins with jets.

        The errors reach to the ends of :func:`fraction_interval`. They are not 0 where the event
        happened for none or for all jets of a bin. Bins whose weights have no positive sum are left
        out.
        """
        if self.weights is not None:
            return self._weighted_points()
        number, predicted, happened = (s[self.sums()[0] > 0] for s in self.sums())
        frequency = happened / number
        low, high = fraction_interval(happened, number)
        return predicted / number, frequency, np.stack([frequency - low, high - frequency])

    def mean_square(self) -> tuple[float, float]:
        """Mean squared distance of prediction and frequency without its bias, and its error.

        Counting noise adds the variance of the frequency, ``f (1 - f) / n``, to the squared
        distance in a bin. The unbiased estimate of this variance is subtracted. The result is
        therefore negative for about half of the samples of a calibrated tagger.
        """
        if self.weights is not None:
            return self._weighted_mean_square()
        number, predicted, happened = (s[self.sums()[0] > 0] for s in self.sums())
        mean = predicted / number
        frequency = happened / number
        # one jet gives no estimate of the variance: use that of its predicted probability
        variance = np.where(
            number > 1,
            frequency * (1 - frequency) / np.maximum(number - 1, 1),
            mean * (1 - mean),
        )
        square = (mean - frequency) ** 2 - variance
        weight = number / number.sum()
        smooth = (happened + 0.5) / (number + 1)
        spread = smooth * (1 - smooth) / number
        variance_of_square = 4 * np.maximum(square, 0) * spread + 2 * spread**2
        return float(weight @ square), math.sqrt(float(weight**2 @ variance_of_square))

    def _weighted_points(self) -> tuple[Floats, Floats, Floats]:
        number, predicted, happened = self.sums()
        shown = np.flatnonzero(number > 0)
        errors = []
        for i in shown:
            jets = self.bin == i
            found = weighted_fraction(self.happened[jets], self.weights[jets])  # type: ignore[index]
            frequency = happened[i] / number[i]
            errors.append((max(frequency - found.low, 0.0), max(found.high - frequency, 0.0)))
        mean = predicted[shown] / number[shown]
        return (
            mean,
            happened[shown] / number[shown],
            np.nan_to_num(np.array(errors).reshape(-1, 2).T),
        )

    def _weighted_mean_square(self) -> tuple[float, float]:
        """Mean square of the weighted distances, whose variance is that of influence functions."""
        weights = self.weights
        assert weights is not None
        number, predicted, happened = self.sums()
        used = number > 0
        distance = np.divide(predicted - happened, number, where=used, out=np.zeros(len(number)))
        residual = self.predicted - self.happened - distance[self.bin]
        size = number**2 / np.maximum(np.bincount(self.bin, weights**2, len(number)), 1e-300)
        spread = np.bincount(self.bin, (weights * residual) ** 2, len(number))
        variance = np.divide(spread, number**2, where=used, out=np.zeros(len(number)))
        variance *= size / np.maximum(size - 1, 1)  # as for n - 1 jets
        # one jet gives no estimate of the variance: use that of its predicted probability
        mean = np.divide(predicted, number, where=used, out=np.zeros(len(number)))
        single = used & (np.bincount(self.bin, minlength=len(number)) == 1)
        variance = np.where(single, np.abs(mean * (1 - mean)), variance)
        square = distance**2 - variance
        share = np.where(used, number, 0.0) / number[used].sum()
        variance_of_square = 4 * np.maximum(square, 0) * variance + 2 * variance**2
        return float(share @ square), math.sqrt(float(share**2 @ variance_of_square))


def measure_calibration(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    bins: int = 15,
    num_bootstrap: int = 200,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> EvaluationTable:
    """Measure how well predicted probabilities agree with observed frequencies, with errors.

    Parameters
    ----------
    labels : array_like of int, shape (B,)
        True class of each jet.
    scores : array_like, shape (B,) or (B, C)
        Probability of the second of two classes, or of each class.
    classes : sequence of str, optional
        Names of the classes.
    bins : int, default 15
        Number of bins of the calibration errors.
    num_bootstrap : int, default 200
        Number of resamplings for the errors of the calibration errors, and of label drawings for
        ``ece_perfect``; at least 2.
    seed : int, default 0
        Seed of the resamplings and of the label drawings.
    weights : array_like, shape (B,), optional
        Weights of the jets, which may be negative. A tagger that was trained with weights is
        calibrated for jets with weights.

    Returns
    -------
    EvaluationTable
        The table has these entries:

        - ``ece`` and ``ece_adaptive``: expected calibration error in bins of equal width and of
          equal counts. With two classes it is that of the probability of the second class, with
          more that of the most probable class.
        - ``ece[<class>]``: with more than two classes, that of the probability of each class.
        - ``ece_perfect`` and ``calibration_rms``: see Notes.
        - ``brier``: mean squared distance from the truth, summed over classes if there are more
          than two.
        - ``log_loss``: mean negative logarithm of the probability of the true class.

    Raises
    ------
    InputError
        If the arrays cannot be used, or the scores are not probabilities.

    Notes
    -----
    **The calibration error is biased upwards**: it is a sum of absolute values, in which the
    counting noise of the bins never cancels. Three numbers answer three questions:

    - ``ece`` compares taggers on the same jets in the same bins. It is an overestimate.
    - ``ece_perfect`` is the ECE of a perfectly calibrated tagger with the same scores on as many
      jets: mean and standard deviation over labels drawn from the scores. An ``ece`` several
      standard deviations above it shows miscalibration. Their difference underestimates its size,
      because noise and miscalibration add approximately in quadrature.
    - ``calibration_rms`` is the size of the miscalibration: the root mean square distance of
      prediction and frequency over jets, in bins of equal counts. The variance due to counting is
      subtracted from each bin before the root is taken (Kumar, Liang and Ma). It is a limit where
      the difference is not positive.

    Bootstrap resamplings add noise of their own to the bins and have a larger mean. Only their
    standard deviation is used. They draw from all jets, so that the class fractions vary too.

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
    sample = Scores.from_arrays(labels, scores, classes, weights)
    return calibration_of_scores(sample, bins=bins, num_bootstrap=num_bootstrap, seed=seed)


def calibration_of_scores(
    sample: Scores, *, bins: int = 15, num_bootstrap: int = 200, seed: int = 0
) -> EvaluationTable:
    """Measure as :func:`measure_calibration`, from `Scores` that are already checked."""
    if bins < 1 or num_bootstrap < 2:
        raise InputError(
            f"bins must be at least 1 and num_bootstrap at least 2, got {bins} and {num_bootstrap}"
        )
    p = probabilities(sample)
    diagrams = _diagrams(p, sample, bins)
    spread = bootstrap(
        lambda w: np.array([d.error(w) for d in diagrams.values()]),
        np.zeros_like(sample.labels),  # one class: the class fractions vary, too
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
        **_proper_scores(p, sample.labels, sample.weights),
        **by_class,
    }
    note = (
        f"{number_of(len(p), 'jet')}, {number_of(bins, 'bin')}. A perfectly calibrated tagger with these scores would "
        f"have an ECE of {perfect}, because the ECE is biased upwards. Only a clearly larger ECE "
        "is a sign of miscalibration. The RMS calibration error is its size without this bias."
    )
    settings: dict[str, Any] = {"bins": bins, "num_bootstrap": num_bootstrap, "seed": seed}
    notes = [note]
    if sample.weights is not None:
        settings["weights"] = weights_of_classes(sample)
        notes.append(weights_note(sample))
    return EvaluationTable(entries, sample.classes, sample.counts.tolist(), settings, notes)


def probabilities(sample: Scores) -> Floats:
    """Probability of each class, (B, C), in double precision.

    Raises
    ------
    InputError
        If the scores are not probabilities.
    """
    if not sample.are_probabilities:
        raise InputError("this needs probabilities, and some of these scores are not in [0, 1]")
    values = sample.values.astype(np.float64)
    return np.stack([1 - values, values], axis=1) if values.ndim == 1 else values


def top_label(p: Floats, labels: NDArray[np.integer]) -> tuple[Floats, NDArray[np.bool_]]:
    """Probability of a class, and a mask of the jets of that class, (B,) each.

    With two classes it is the second class, with more the most probable class of each jet.
    """
    if p.shape[1] == 2:
        return p[:, 1], labels == 1
    return p.max(axis=1), p.argmax(axis=1) == labels


def _diagrams(p: Floats, sample: Scores, bins: int) -> dict[str, Reliability]:
    top = top_label(p, sample.labels)
    found = {
        "ece": Reliability.of(*top, bins, weights=sample.weights),
        "ece_adaptive": Reliability.of(*top, bins, equal="counts", weights=sample.weights),
    }
    if p.shape[1] > 2:
        for c, name in enumerate(sample.classes):
            found[f"ece[{name}]"] = Reliability.of(
                p[:, c], sample.labels == c, bins, weights=sample.weights
            )
    return found


def _perfect(diagram: Reliability, number: int, seed: int) -> Measured:
    """Calibration error where every event happens with its predicted probability."""
    generator = np.random.default_rng(seed)
    p = diagram.predicted
    drawn = [replace(diagram, happened=generator.random(len(p)) < p).error() for _ in range(number)]
    return Measured(float(np.mean(drawn)), float(np.std(drawn, ddof=1)), "drawn labels")


def _not_negative(value: float, error: float) -> Measured:
    return Measured(value, 0.0, "bootstrap", low=max(value - error, 0.0), high=value + error)


def _root_mean_square(diagram: Reliability) -> Measured:
    """Root of the unbiased mean square, with the interval of the square."""
    square, error = diagram.mean_square()
    if square <= 0:
        limit = math.sqrt(_ONE_SIDED_SIGMAS * error)
        return Measured(limit, 0.0, "no miscalibration", limit="upper", low=0.0, high=limit)
    low = math.sqrt(max(square - error, 0.0))
    high = math.sqrt(square + error)
    return Measured(math.sqrt(square), 0.0, "debiased", low=low, high=high)


def _proper_scores(
    p: Floats, labels: NDArray[np.integer], weights: Floats | None
) -> dict[str, Measured]:
    """Brier score and log loss: means over jets, with the counting error of a mean."""
    truth = np.eye(p.shape[1])[labels]
    brier = ((p - truth) ** 2).sum(axis=1) / (2 if p.shape[1] == 2 else 1)
    loss = -np.log(np.maximum(p[np.arange(len(p)), labels], _MIN_PROBABILITY))
    losses = {"brier": brier, "log_loss": loss}
    if weights is not None:
        means = {name: weighted_mean(v, weights) for name, v in losses.items()}
        return {name: Measured(m.value, m.error(labels), METHOD) for name, m in means.items()}
    return {
        name: Measured(float(v.mean()), counting_error(v / len(v), labels), "counting")
        for name, v in losses.items()
    }
