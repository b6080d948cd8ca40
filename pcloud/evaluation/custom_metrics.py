"""Metrics of your own, measured beside those of the package."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import UnknownNameError
from pcloud.evaluation.estimates import Metric
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Counts
from pcloud.evaluation.scores import Scores
from pcloud.plugins import is_same_function

__all__ = ["CustomMetric", "MetricFunction", "list_metrics", "register_metric"]

MetricFunction = Callable[..., float]
"""``metric(labels (B,), scores (B,) or (B, C)) -> value``, optionally with ``weights=(B,)``."""

_REGISTERED: dict[str, MetricFunction] = {}


def register_metric(name: str) -> Callable[[MetricFunction], MetricFunction]:
    """Function decorator that makes a metric known by `name`, for ``pcloud.evaluate(metrics=[name])``.

    The function takes the true classes ``labels (B,)`` and the scores as they were given to
    :func:`pcloud.evaluate`, probabilities ``(B, C)`` or the score of the signal ``(B,)``, and
    returns a number. A function with the parameter ``weights`` is given the weights (B,) of the jets,
    or None. Its error is the standard deviation over resamplings of the jets.

    Parameters
    ----------
    name : str
        Name of the metric, and of its row in the table.

    Raises
    ------
    ValueError
        If the name is taken by another function.

    Examples
    --------
    >>> @register_metric("brier")
    ... def brier(labels, scores):
    ...     return float(((scores - np.eye(scores.shape[1])[labels]) ** 2).sum(1).mean())
    """

    def register(function: MetricFunction) -> MetricFunction:
        if not is_same_function(function, _REGISTERED.get(name, function)):
            raise ValueError(f"a metric named {name!r} exists already")
        _REGISTERED[name] = function
        return function

    return register


def list_metrics() -> list[str]:
    """Names of the registered metrics, sorted.

    Examples
    --------
    >>> list_metrics() == sorted(list_metrics())
    True
    """
    return sorted(_REGISTERED)


def custom_metrics(names: Sequence[str], sample: Scores) -> list[Metric]:
    """Return the registered metrics of these names, for a sample.

    Raises
    ------
    UnknownNameError
        If no metric has one of the names.
    """
    for name in names:
        if name not in _REGISTERED:
            raise UnknownNameError("metric", name, _REGISTERED)
    return [CustomMetric(name, sample, _REGISTERED[name]) for name in names]


def takes_weights(function: MetricFunction) -> bool:
    """True if a metric has the parameter ``weights``."""
    return "weights" in inspect.signature(function).parameters


def unweighted_note(names: Sequence[str]) -> list[str]:
    """Sentence on the metrics of these names that do not use weights; empty if all do."""
    without = [name for name in names if not takes_weights(_REGISTERED[name])]
    if not without:
        return []
    return [f"Not weighted, without a parameter weights: {', '.join(without)}."]


@dataclass(frozen=True)
class CustomMetric(Metric):
    """Registered metric of a sample.

    Parameters
    ----------
    name : str
        Name in the table.
    sample : Scores
        Labels and scores of the jets.
    function : callable
        See :func:`register_metric`.
    """

    name: str
    sample: Scores = field(repr=False)
    function: MetricFunction
    method: str = "bootstrap"

    def value(self, weights: NDArray[np.uint8], counts: Sequence[Counts]) -> float:
        """Value of the jets, jet i taken ``weights[i]`` times."""
        jets = np.repeat(np.arange(len(weights)), weights)
        extra = {"weights": self.sample.weights_of(jets)} if takes_weights(self.function) else {}
        return float(self.function(self.sample.labels[jets], self.sample.values[jets], **extra))

    def influence(self) -> NDArray[np.floating]:
        """Zeros: the first-order change of the value due to a jet is not known."""
        return np.zeros(len(self.sample.labels))

    def measured(self, value: float, error: float, bootstrap: float | None) -> Measured:
        """Value with its bootstrap error; without resamplings it has none."""
        return Measured(value, np.nan if bootstrap is None else bootstrap, self.method)
