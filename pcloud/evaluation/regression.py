"""Performance of the prediction of a quantity: bias, resolution, pulls, coverage, with errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pcloud.errors import InputError
from pcloud.evaluation.influence import mean_over_jets, weighted_fraction
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.quantiles import half_width, quantile, spread, standard_deviation
from pcloud.typing import Booleans, Floats

__all__ = [
    "OBSERVABLES",
    "Dependence",
    "PredictedTarget",
    "dependences",
    "evaluate_target",
]

OBSERVABLES = {"pt": "jet pT [GeV]", "abs_eta": "jet |η|", "multiplicity": "particles per jet"}
"""Observables against which bias and resolution are measured, with their titles."""

_TAIL_WIDTHS = 3.0
_NUM_BINS = 6
_MIN_JETS = 20  # of a bin


class HasIntervals(Protocol):
    """Prediction of a quantity, such as :class:`pcloud.objectives.Normal`."""

    @property
    def mean(self) -> Tensor:
        """Predicted values (B,)."""

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of its central intervals."""

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Ends (B,) of the central interval at a level."""

    def excess(self, truth: Tensor, level: float) -> Tensor:
        """Widths (B,) by which the interval must grow to reach the truth."""

    def widened(self, level: float, width: float) -> tuple[Tensor, Tensor]:
        """Ends (B,) of the interval grown by a width."""

    def __getitem__(self, jets: Any) -> Any:
        """Prediction of some jets."""


class Scale(Protocol):
    """Scale on which a quantity is predicted, such as :class:`pcloud.objectives.Target`."""

    @property
    def name(self) -> str:
        """Name of the quantity."""

    def learned(self, values: Tensor) -> Tensor:
        """Values on this scale."""

    def value(self, learned: Tensor) -> Tensor:
        """Inverse of :meth:`learned`."""


@dataclass(frozen=True)
class PredictedTarget:
    """Predictions of a quantity for jets whose true value is known.

    Parameters
    ----------
    target : Scale
        The quantity, and the scale of its prediction.
    truth : ndarray, shape (B,)
        True values.
    prediction : HasIntervals
        Predictions on the learned scale.
    weights : ndarray, shape (B,), optional
        Weights of the jets.
    observables : dict of str to ndarray, shape (B,)
        Values of `OBSERVABLES` of the jets.
    """

    target: Scale
    truth: Floats
    prediction: HasIntervals
    weights: Floats | None
    observables: Mapping[str, Floats]

    @classmethod
    def of(
        cls,
        target: Scale,
        truth: Floats,
        prediction: HasIntervals,
        weights: Floats | None = None,
        observables: Mapping[str, Floats] | None = None,
    ) -> PredictedTarget:
        """Leave out the jets whose truth is missing, NaN.

        Raises
        ------
        InputError
            If no jet is left, or a prediction is not finite.
        """
        name = target.name
        known = np.isfinite(truth)
        if not known.any():
            raise InputError(f"target {name!r} is missing for all {len(truth)} jets")
        rows = torch.from_numpy(known)
        found = prediction[rows]
        if not bool(found.mean.isfinite().all()):
            raise InputError(f"the prediction of {name!r} is NaN or infinite for some jets")
        return cls(
            target,
            truth[known],
            found,
            None if weights is None else weights[known],
            {key: values[known] for key, values in (observables or {}).items()},
        )

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def name(self) -> str:
        """Name of the target."""
        return self.target.name

    @property
    def predicted(self) -> Floats:
        """Predicted values (B,)."""
        return self.target.value(self.prediction.mean).numpy()

    @property
    def residuals(self) -> Floats:
        """Predicted minus true values, (B,)."""
        return self.predicted - self.truth

    @property
    def response(self) -> Floats | None:
        """Predicted over true values, (B,); None if a true value is not positive."""
        return self.predicted / self.truth if bool((self.truth > 0).all()) else None

    @property
    def learned_truth(self) -> Tensor:
        """True values (B,) on the scale of the prediction."""
        return self.target.learned(torch.from_numpy(np.array(self.truth, dtype=np.float64)))

    @property
    def pulls(self) -> Floats | None:
        """Differences from the truth in predicted standard deviations; None without these."""
        pulls = getattr(self.prediction, "pulls", None)
        return None if pulls is None else -pulls(self.learned_truth).numpy()

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Levels of the predicted quantiles; none of other predictions."""
        return getattr(self.prediction, "probabilities", ())

    def below_quantile(self, level: float) -> Booleans:
        """Mask (B,) of the jets whose true value is below the predicted quantile."""
        values = self.prediction.quantile(level)  # type: ignore[attr-defined]
        return (self.learned_truth <= values).numpy()

    def is_inside(self, ends: tuple[Tensor, Tensor]) -> Booleans:
        """Mask (B,) of the jets whose true value is in an interval on the learned scale."""
        low, high = ends
        truth = self.learned_truth
        return ((low <= truth) & (truth <= high)).numpy()

    def select(self, jets: Any) -> PredictedTarget:
        """Return some of the jets."""
        rows = torch.from_numpy(np.asarray(jets))
        return PredictedTarget(
            self.target,
            self.truth[jets],
            self.prediction[rows],
            None if self.weights is None else self.weights[jets],
            {name: values[jets] for name, values in self.observables.items()},
        )


def evaluate_target(sample: PredictedTarget) -> dict[str, Measured]:
    """Measure the prediction of a quantity, with statistical errors.

    Parameters
    ----------
    sample : PredictedTarget
        Predictions of jets with known true values.

    Returns
    -------
    dict of str to Measured
        ``bias``, the median of predicted minus true values; ``resolution``, half the width of the
        central 68 % of these; ``resolution_iqr``, their interquartile range over 1.349; ``tails``,
        the fraction of jets more than three resolutions from the bias (0.27 % of a Gaussian). If
        all true values are positive, ``response``, the median of predicted over true values, and
        ``response_resolution``, half the width of its central 68 % over the response. Of
        predictions with a sigma ``pull_mean`` and ``pull_width``; with intervals
        ``coverage@<level>``; with quantiles ``below_quantile@<level>``, the fraction of jets whose
        true value is below it. Errors are those of influence functions, of fractions binomial.
    """
    weights = sample.weights
    residuals = sample.residuals
    found = {
        "bias": quantile(residuals, 0.5, weights),
        "resolution": half_width(residuals, weights),
        "resolution_iqr": spread(residuals, weights),
    }
    far = np.abs(residuals - found["bias"].value) > _TAIL_WIDTHS * found["resolution"].value
    found["tails"] = weighted_fraction(far, weights)
    response = sample.response
    if response is not None:
        found["response"] = quantile(response, 0.5, weights)
        found["response_resolution"] = _relative(response, weights)
    pulls = sample.pulls
    if pulls is not None:
        found["pull_mean"] = mean_over_jets(pulls, weights)
        found["pull_width"] = standard_deviation(pulls, weights)
    for level in sample.prediction.levels:
        inside = sample.is_inside(sample.prediction.interval(level))
        found[f"coverage@{level:g}"] = weighted_fraction(inside, weights)
    for level in sample.probabilities:
        found[f"below_quantile@{level:g}"] = weighted_fraction(
            sample.below_quantile(level), weights
        )
    return found


def _relative(response: Floats, weights: Floats | None) -> Measured:
    """Half the width of the central 68 % of the response, over its median."""
    median = quantile(response, 0.5, weights)
    width = half_width(response, weights)
    return width.scaled(1 / median.value) if median.value > 0 else Measured(math.nan, math.nan)


@dataclass(frozen=True)
class Dependence:
    """Bias and resolution in bins of an observable.

    Parameters
    ----------
    observable : str
        Name in `OBSERVABLES`.
    edges : sequence of float
        Edges of the bins, with about equal numbers of jets.
    bias, resolution : sequence of Measured or None
        Median, and half the width of the central 68 %, of the response if `is_relative`, otherwise
        of the differences; None in bins with few jets.
    jets : sequence of int
        Number of jets in each bin.
    is_relative : bool
        True if all true values are positive.
    """

    observable: str
    edges: Sequence[float]
    bias: Sequence[Measured | None]
    resolution: Sequence[Measured | None]
    jets: Sequence[int]
    is_relative: bool

    def rows(self) -> list[list[str]]:
        """Table with a row for each bin."""
        titles = (
            ("response", "resolution of response") if self.is_relative else ("bias", "resolution")
        )
        rows = [[OBSERVABLES.get(self.observable, self.observable), *titles, "jets"]]
        pairs = zip(self.edges[:-1], self.edges[1:], strict=True)
        for (low, high), bias, width, number in zip(
            pairs, self.bias, self.resolution, self.jets, strict=True
        ):
            cells = ["" if entry is None else str(entry) for entry in (bias, width)]
            rows.append([f"{low:.4g} to {high:.4g}", *cells, f"{number:,}"])
        return rows


def dependences(sample: PredictedTarget, bins: int = _NUM_BINS) -> list[Dependence]:
    """Bias and resolution against each observable of the jets."""
    return [_dependence(sample, name, bins) for name in sample.observables]


def _dependence(sample: PredictedTarget, name: str, bins: int) -> Dependence:
    values = sample.observables[name]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    if len(edges) < 2:
        edges = np.array([edges[0], edges[0] + 1])
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    response = sample.response
    quantity = sample.residuals if response is None else response
    bias: list[Measured | None] = []
    width: list[Measured | None] = []
    numbers = np.bincount(place, minlength=len(edges) - 1)
    for i, number in enumerate(numbers):
        inside = place == i
        weights = None if sample.weights is None else sample.weights[inside]
        if number < _MIN_JETS or (weights is not None and not weights.sum() > 0):
            bias.append(None)
            width.append(None)
            continue
        bias.append(quantile(quantity[inside], 0.5, weights))
        of_bin = half_width if response is None else _relative
        width.append(of_bin(quantity[inside], weights))
    return Dependence(name, edges.tolist(), bias, width, numbers.tolist(), response is not None)
