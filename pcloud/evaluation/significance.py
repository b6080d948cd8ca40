"""Significance improvement eS / sqrt(eB) against the signal efficiency, with errors and maximum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pcloud.evaluation.estimates import task_estimates
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.tasks import discrimination_tasks

__all__ = ["SignificanceImprovement", "significance_improvement", "significance_rows"]

_EFFICIENCIES = tuple(np.linspace(0.05, 0.95, 19).round(2).tolist())


@dataclass(frozen=True)
class SignificanceImprovement:
    """Factor by which a cut on the score changes the significance S / sqrt(B).

    Parameters
    ----------
    name : str
        Signal class, or signal and background; empty for the only task of two classes.
    efficiencies : tuple of float
        Signal efficiencies eS.
    values : tuple of Measured
        eS / sqrt(eB) at each of them, with the interval of the rejection, or a limit where hardly
        any background is left.
    """

    name: str
    efficiencies: tuple[float, ...]
    values: tuple[Measured, ...]

    @property
    def maximum(self) -> tuple[float, Measured] | None:
        """Signal efficiency and value of the largest improvement that is no limit.

        The maximum of values with errors is biased upwards by about one error.
        """
        pairs = zip(self.efficiencies, self.values, strict=True)
        known = [(e, v) for e, v in pairs if not v.limit and math.isfinite(v.value)]
        return max(known, key=lambda pair: pair[1].value) if known else None


def significance_improvement(
    sample: Scores,
    *,
    signal: str | int | None = None,
    background: str | int | None = None,
    efficiencies: Sequence[float] = _EFFICIENCIES,
) -> list[SignificanceImprovement]:
    """Measure the significance improvement of a tagger.

    Parameters
    ----------
    sample : Scores
        Labels and scores.
    signal, background : str or int, optional
        As for :func:`pcloud.evaluate`.
    efficiencies : sequence of float
        Signal efficiencies.

    Returns
    -------
    list of SignificanceImprovement
        One for two classes, otherwise one for each signal.

    References
    ----------
    Gallicchio et al., Multivariate discrimination and the Higgs + W/Z search,
    https://arxiv.org/abs/1010.3698.
    """
    found = []
    for task in discrimination_tasks(sample, signal, background):
        _, *rejections = task_estimates(task, 0, efficiencies)
        values = []
        for efficiency, rejection in zip(efficiencies, rejections, strict=True):
            passed = float(task.ranking.counts.background_efficiency(np.array([efficiency]))[0])
            value = math.inf if passed <= 0 else 1 / passed
            values.append(_improvement(efficiency, rejection.measured(value, math.nan, None)))
        found.append(SignificanceImprovement(task.name, tuple(efficiencies), tuple(values)))
    return found


def significance_rows(found: Sequence[SignificanceImprovement]) -> list[list[str]]:
    """Table of the maximum for each signal, and of the values at 30 and 50 % efficiency."""
    rows = [["significance improvement", "maximum", "at εS", "at εS = 0.3", "at εS = 0.5"]]
    for one in found:
        at = dict(zip(one.efficiencies, one.values, strict=True))
        efficiency, value = one.maximum or (math.nan, None)
        best = ["none measured", ""] if value is None else [str(value), f"{efficiency:g}"]
        rows.append([one.name or "εS / √εB", *best, *(str(at.get(e, "")) for e in (0.3, 0.5))])
    return rows


def _improvement(efficiency: float, rejection: Measured) -> Measured:
    """``eS sqrt(1 / eB)`` with the ends of the interval of the rejection."""

    def of(value: float | None) -> float | None:
        if value is None:
            return None
        return efficiency * math.sqrt(value) if value >= 0 else math.nan

    ends: dict[str, Any] = {
        name: of(getattr(rejection, name)) for name in ("low", "high", "low95", "high95")
    }
    value = of(rejection.value)
    assert value is not None
    return replace(rejection, value=value, error=math.nan, counts=None, bootstrap=None, **ends)
