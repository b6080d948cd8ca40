"""Predictions: what the outputs of a network mean for each jet.

Each is a small value like the distributions of torch: a loss, a mean, intervals, columns to write.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.errors import InputError, UnknownNameError

__all__ = [
    "Bernoulli",
    "Categorical",
    "Estimate",
    "Normal",
    "Point",
    "Prediction",
    "Quantiles",
    "average",
    "estimate_from_columns",
    "joined",
]

AnyPrediction = TypeVar("AnyPrediction", bound="Prediction")

_LEVELS = (0.68, 0.95)  # of the intervals of a distribution
_TOLERANCE = 1e-9


class Prediction(ABC):
    """Prediction of B jets."""

    @abstractmethod
    def loss(self, truth: Tensor) -> Tensor:
        """Loss (B,) of each jet for the true values ``truth (B,)``."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Mean of what is predicted; for classes and labels the probabilities."""

    def __getitem__(self: AnyPrediction, jets: Any) -> AnyPrediction:
        """Prediction of some jets, by their indices or a mask."""
        values = {name: v[jets] for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **values)  # type: ignore[type-var]  # a dataclass


@dataclass(frozen=True)
class Categorical(Prediction):
    """Classes, of which each jet has one.

    Parameters
    ----------
    logits : Tensor, shape (B, C)
        Logarithms of the probabilities up to a constant.

    Examples
    --------
    >>> Categorical(torch.tensor([[0.0, 0.0]])).mean
    tensor([[0.5000, 0.5000]])
    """

    logits: Tensor

    def loss(self, truth: Tensor) -> Tensor:
        """Negative log-likelihood (B,) of the classes ``truth (B,)``."""
        return F.cross_entropy(self.logits, truth, reduction="none")

    @property
    def mean(self) -> Tensor:
        """Probabilities (B, C)."""
        return self.logits.softmax(dim=-1)


@dataclass(frozen=True)
class Bernoulli(Prediction):
    """Label that a jet has or does not have.

    Parameters
    ----------
    logits : Tensor, shape (B,)
        Logarithms of the odds.

    Examples
    --------
    >>> Bernoulli(torch.tensor([0.0])).mean
    tensor([0.5000])
    """

    logits: Tensor

    def loss(self, truth: Tensor) -> Tensor:
        """Negative log-likelihood (B,) of the labels ``truth (B,)``, 0 or 1."""
        return F.binary_cross_entropy_with_logits(self.logits, truth, reduction="none")

    @property
    def mean(self) -> Tensor:
        """Probability (B,) of the label."""
        return self.logits.sigmoid()

    def columns(self) -> dict[str, Tensor]:
        """Column to write, by its suffix."""
        return {"": self.mean}


class Estimate(Prediction):
    """Prediction of a quantity: a value, and perhaps its uncertainty."""

    kind: ClassVar[str]

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the central intervals that the prediction gives; none of a single value."""
        return ()

    @abstractmethod
    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Ends (B,) of the central interval at a level."""

    @abstractmethod
    def scaled(self, scale: float, shift: float) -> Estimate:
        """Prediction of ``scale * quantity + shift``, with a positive scale."""

    @abstractmethod
    def columns(self) -> dict[str, Tensor]:
        """Columns to write, by their suffixes."""

    def excess(self, truth: Tensor, level: float) -> Tensor:
        """Widths (B,) by which the interval must grow to reach the truth; negative inside."""
        return (truth - self.mean).abs()

    def widened(self, level: float, width: float) -> tuple[Tensor, Tensor]:
        """Ends (B,) of the interval grown by `width`, see :meth:`excess`."""
        return self.mean - width, self.mean + width


@dataclass(frozen=True)
class Point(Estimate):
    """Quantity without an uncertainty.

    Parameters
    ----------
    value : Tensor, shape (B,)
        Predicted value.

    Examples
    --------
    >>> Point(torch.tensor([172.5])).mean
    tensor([172.5000])
    """

    value: Tensor
    kind: ClassVar[str] = "point"

    def loss(self, truth: Tensor) -> Tensor:
        """Squared difference (B,)."""
        return (self.value - truth).square()

    @property
    def mean(self) -> Tensor:
        """Predicted value (B,)."""
        return self.value

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Raise an error: there is no interval.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("a single value has no interval: pcloud calibrate measures one")

    def scaled(self, scale: float, shift: float) -> Point:
        """Prediction of ``scale * quantity + shift``."""
        return Point(scale * self.value + shift)

    def columns(self) -> dict[str, Tensor]:
        """Column of the value."""
        return {"": self.value}


@dataclass(frozen=True)
class Normal(Estimate):
    """Quantity with a Gaussian uncertainty.

    Parameters
    ----------
    mu, sigma : Tensor, shape (B,)
        Mean and standard deviation.

    Examples
    --------
    >>> Normal(torch.tensor([80.0]), torch.tensor([2.0])).mean
    tensor([80.])
    """

    mu: Tensor
    sigma: Tensor
    kind: ClassVar[str] = "normal"

    def loss(self, truth: Tensor) -> Tensor:
        """Negative log-likelihood (B,)."""
        pull = (truth - self.mu) / self.sigma
        return 0.5 * pull.square() + self.sigma.log() + 0.5 * math.log(2 * math.pi)

    @property
    def mean(self) -> Tensor:
        """Mean (B,)."""
        return self.mu

    @property
    def levels(self) -> tuple[float, ...]:
        """68 % and 95 %; other levels can be asked for."""
        return _LEVELS

    def pulls(self, truth: Tensor) -> Tensor:
        """Differences from the truth in standard deviations, (B,)."""
        return (truth - self.mu) / self.sigma

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Ends (B,) of the central interval at a level."""
        width = _sigmas(level) * self.sigma
        return self.mu - width, self.mu + width

    def excess(self, truth: Tensor, level: float) -> Tensor:
        """Absolute pull (B,): the interval is as many standard deviations wide on each side."""
        return self.pulls(truth).abs()

    def widened(self, level: float, width: float) -> tuple[Tensor, Tensor]:
        """Ends (B,) of the interval of `width` standard deviations on each side."""
        return self.mu - width * self.sigma, self.mu + width * self.sigma

    def scaled(self, scale: float, shift: float) -> Normal:
        """Prediction of ``scale * quantity + shift``."""
        return Normal(scale * self.mu + shift, scale * self.sigma)

    def columns(self) -> dict[str, Tensor]:
        """Columns of the mean and of the standard deviation."""
        return {"": self.mu, "_sigma": self.sigma}


@dataclass(frozen=True)
class Quantiles(Estimate):
    """Quantity with quantiles of its distribution.

    Parameters
    ----------
    probabilities : tuple of float
        Levels K of the quantiles, in increasing order.
    values : Tensor, shape (B, K)
        Quantiles, in increasing order.
    """

    probabilities: tuple[float, ...]
    values: Tensor
    kind: ClassVar[str] = "quantiles"

    def loss(self, truth: Tensor) -> Tensor:
        """Mean pinball loss (B,) over the levels."""
        p = self.values.new_tensor(self.probabilities)
        above = truth.unsqueeze(-1) - self.values
        return torch.maximum(p * above, (p - 1) * above).mean(dim=-1)

    @property
    def mean(self) -> Tensor:
        """Median (B,), or the quantile nearest to it."""
        return self.quantile(min(max(0.5, self.probabilities[0]), self.probabilities[-1]))

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the central intervals between two of the quantiles, in increasing order."""
        found = [
            1 - 2 * p
            for p in self.probabilities
            if p < 0.5 and any(abs(1 - p - q) < _TOLERANCE for q in self.probabilities)
        ]
        return tuple(round(level, 9) for level in reversed(found))

    def quantile(self, probability: float) -> Tensor:
        """Quantile (B,) at a level; between two levels they are interpolated.

        Raises
        ------
        InputError
            If the level is outside those of the prediction.
        """
        p = self.probabilities
        if not p[0] - _TOLERANCE <= probability <= p[-1] + _TOLERANCE:
            raise InputError(
                f"no quantile at {probability:g}: the levels are {', '.join(map(str, p))}"
            )
        for i, level in enumerate(p):
            if abs(level - probability) < _TOLERANCE:
                return self.values[..., i]
        i = next(i for i, level in enumerate(p) if level > probability)
        share = (probability - p[i - 1]) / (p[i] - p[i - 1])
        return torch.lerp(self.values[..., i - 1], self.values[..., i], share)

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Ends (B,) of the central interval at a level."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def excess(self, truth: Tensor, level: float) -> Tensor:
        """Distance (B,) of the truth outside the interval, negative inside."""
        low, high = self._widest(level)
        return torch.maximum(low - truth, truth - high)

    def widened(self, level: float, width: float) -> tuple[Tensor, Tensor]:
        """Ends (B,) of the interval, moved outwards by `width` on each side."""
        low, high = self._widest(level)
        low, high = low - width, high + width
        middle = (low + high) / 2  # an interval that is narrowed too much is empty
        return torch.minimum(low, middle), torch.maximum(high, middle)

    def _widest(self, level: float) -> tuple[Tensor, Tensor]:
        """Interval at a level, or the widest one of the prediction."""
        p = self.probabilities
        tail = max((1 - level) / 2, p[0], 1 - p[-1])
        return (self.quantile(tail), self.quantile(1 - tail)) if tail < 0.5 else (self.mean,) * 2

    def scaled(self, scale: float, shift: float) -> Quantiles:
        """Prediction of ``scale * quantity + shift``."""
        return Quantiles(self.probabilities, scale * self.values + shift)

    def columns(self) -> dict[str, Tensor]:
        """Columns of the median and of each quantile."""
        named = {f"_q{p:g}": self.values[..., i] for i, p in enumerate(self.probabilities)}
        return {"": self.mean, **named}


def average(parts: Sequence[Prediction]) -> Prediction:
    """Prediction of an ensemble.

    Probabilities are averaged. Means and variances of Gaussian predictions are those of their
    mixture, and quantiles are averaged level by level.

    Parameters
    ----------
    parts : sequence of Prediction
        Predictions of the members, of one kind.
    """
    first = parts[0]
    if isinstance(first, Categorical):
        log_p = torch.stack([part.logits.log_softmax(-1) for part in parts])  # type: ignore[attr-defined]
        return Categorical(log_p.logsumexp(0) - math.log(len(parts)))
    if isinstance(first, Bernoulli):
        return Bernoulli(torch.stack([part.mean for part in parts]).mean(0).logit())
    if hasattr(first, "averaged"):  # of particles
        return first.averaged(parts)
    if isinstance(first, Normal):
        mu = torch.stack([part.mean for part in parts])
        sigma = torch.stack([part.sigma for part in parts])  # type: ignore[attr-defined]
        variance = sigma.square().mean(0) + mu.var(0, unbiased=False)
        return Normal(mu.mean(0), variance.sqrt())
    if isinstance(first, Quantiles):
        values = torch.stack([part.values for part in parts])  # type: ignore[attr-defined]
        return Quantiles(first.probabilities, values.mean(0))
    return Point(torch.stack([part.mean for part in parts]).mean(0))


def joined(parts: Sequence[Prediction]) -> Prediction:
    """Prediction of all jets of several parts, of one kind."""
    tensors = [name for name, value in vars(parts[0]).items() if isinstance(value, Tensor)]
    values = {name: torch.cat([getattr(part, name) for part in parts]) for name in tensors}
    return replace(parts[0], **values)  # type: ignore[type-var]  # a dataclass


def estimate_from_columns(
    kind: str, columns: Mapping[str, Tensor], probabilities: Sequence[float] = ()
) -> Estimate:
    """Inverse of :meth:`Estimate.columns`.

    Parameters
    ----------
    kind : str
        ``"point"``, ``"normal"`` or ``"quantiles"``.
    columns : mapping of str to Tensor
        Columns (B,) by their suffixes.
    probabilities : sequence of float
        Levels of the quantiles.

    Raises
    ------
    InputError
        If there is no such kind, or a standard deviation is not positive.
    """
    if kind == Quantiles.kind:
        values = torch.stack([columns[f"_q{p:g}"] for p in probabilities], dim=-1)
        return Quantiles(tuple(probabilities), values)
    if kind == Normal.kind:
        sigma = columns["_sigma"]
        if not bool((sigma > 0).all() and sigma.isfinite().all()):
            raise InputError("a standard deviation is not positive and finite")
        return Normal(columns[""], sigma)
    if kind != Point.kind:
        known = (Point.kind, Normal.kind, Quantiles.kind)
        raise UnknownNameError("kind of prediction", kind, known)
    return Point(columns[""])


def _sigmas(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + level) / 2)
