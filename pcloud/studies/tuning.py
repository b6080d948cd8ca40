"""Result of a study of hyperparameters, and its table."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Len

from pcloud.evaluation.measured import Measured
from pcloud.run_files import TUNING_FILE, StoredResult
from pcloud.stored_values import Count, Float, Text
from pcloud.training.state import lower_is_better
from pcloud.validation import checked
from pcloud.words import number_of

__all__ = ["TrialResult", "Tuning", "value_text"]

_ORDER = ("finished", "pruned", "running", "waiting", "failed")


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes
    ----------
    number : int
        Number of the trial, which its folder has.
    state : str
        ``finished``, ``pruned``, ``failed`` or ``running``.
    values : dict of str to value
        Values of the tuned options.
    metric : float
        Best value of the monitored metric over the epochs so far; NaN without any.
    epochs : int
        Number of epochs so far.
    seconds : float
        Time of the trial; NaN while it is running.
    """

    number: Count
    state: Text
    values: dict[str, Any]
    metric: Float
    epochs: Count
    seconds: Float


@dataclass(frozen=True)
class Tuning(StoredResult):
    """Trials of a tuning, and the gain of the best one.

    Parameters
    ----------
    sampler : str
        Name of the sampler.
    monitor : str
        Metric that is tuned.
    space : dict
        Search space, see :class:`~pcloud.studies.search_space.SearchSpace`.
    trials : list of TrialResult
        All trials.
    importance : dict of str to float
        Part of the variance of the metric that an option explains (fANOVA); empty with fewer than 4
        finished trials or with one option.
    seeds : list of int
        Seeds of the repetitions.
    repeated : dict of str to list of float
        Metric for each of these seeds: ``best``, of the best trial, and ``base``, of the
        configuration that the tuning started from.
    """

    sampler: Text
    monitor: Text
    space: dict[str, Any]
    trials: list[TrialResult]
    importance: dict[str, Float]
    seeds: list[Count]
    repeated: dict[str, Annotated[list[Float], Len(0, 1000)]]

    file: ClassVar[str] = TUNING_FILE
    what: ClassVar[str] = "tuning"
    command: ClassVar[str] = "pcloud tune"

    @property
    def best(self) -> TrialResult | None:
        """Finished trial with the best metric; None if there is none."""
        finished = [t for t in self.trials if t.state == "finished" and math.isfinite(t.metric)]
        sign = 1 if lower_is_better(self.monitor) else -1
        return min(finished, key=lambda trial: sign * trial.metric, default=None)

    @property
    def gain(self) -> Measured:
        """Mean improvement of the metric by the best trial over seeds, positive if it is better."""
        sign = 1 if lower_is_better(self.monitor) else -1
        pairs = zip(self.repeated.get("base", []), self.repeated.get("best", []), strict=True)
        return Measured.mean([sign * (base - best) for base, best in pairs], "mean over seeds")

    @property
    def spread(self) -> float:
        """Standard deviation of the metric of the best trial between seeds."""
        values = self.repeated.get("best", [])
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Tuning:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Table of the trials, the best first."""
        sign = 1 if lower_is_better(self.monitor) else -1
        rows = sorted(
            self.trials,
            key=lambda t: (_ORDER.index(t.state), sign * t.metric if t.metric == t.metric else 0),
        )
        header = ["trial", "state", self.monitor, "epochs", *self.space]
        cells = [
            [str(t.number), t.state, value_text(t.metric), str(t.epochs)]
            + [value_text(t.values.get(name)) for name in self.space]
            for t in rows
        ]
        return [header, *cells]

    def summary(self) -> list[str]:
        """Lines on the best trial, its gain and the spread of seeds."""
        if self.best is None:
            return ["no trial is finished"]
        values = ", ".join(f"{name} {value_text(v)}" for name, v in self.best.values.items())
        lines = [
            f"best: trial {self.best.number}, {self.monitor} {self.best.metric:.4g} with {values}"
        ]
        if not self.seeds:
            return lines
        gain = self.gain
        lines.append(
            f"gain in {self.monitor} over the configuration without tuning, with "
            f"{number_of(len(self.seeds), 'further seed')}: {gain}; standard deviation between seeds: "
            f"{self.spread:.2g}"
        )
        if len(self.seeds) > 1 and not gain.interval(0.95)[0] > 0:
            lines.append("this gain is not significant: it may be the noise of the seeds")
        return lines


def value_text(value: Any) -> str:
    """Value of an option as text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
