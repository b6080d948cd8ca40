"""Study of the conformal intervals of the targets of a run, fitted on its validation jets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pcloud.errors import InputError
from pcloud.evaluation.conformal_intervals import LEVELS, ConformalIntervals, fit_intervals
from pcloud.evaluation.influence import weighted_fraction
from pcloud.evaluation.regression import PredictedTarget
from pcloud.evaluation.scores import weights_of_jets
from pcloud.objectives.columns import PREDICTED
from pcloud.objectives.several import Several
from pcloud.run_files import INTERVALS_FILE, StoredResult
from pcloud.stored_values import Count, Integer, Name
from pcloud.studies.targets import ScoredTargets, target_samples
from pcloud.training.run_folder import RunFolder
from pcloud.training.run_sample import load_run_sample
from pcloud.validation import checked

__all__ = ["StoredIntervals", "fit_intervals_of_run", "read_intervals"]

_THIRDS = 3


@dataclass(frozen=True)
class StoredIntervals(StoredResult):
    """Conformal intervals of the targets of a run.

    Parameters
    ----------
    intervals : list of ConformalIntervals
        Intervals of each target at each level.
    jets : int
        Number of validation jets.
    checkpoint : str
        Name of the checkpoint whose predictions were used.
    checksum : int
        Checksum of its weights.
    """

    file = INTERVALS_FILE
    what = "conformal intervals"
    command = "pcloud calibrate"
    indent = 2

    intervals: list[ConformalIntervals]
    jets: Count
    checkpoint: Name
    checksum: Integer

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredIntervals:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Table with the widths of each interval."""
        rows = [["target", "level", "widths, in bins of jet pT"]]
        for found in self.intervals:
            widths = ["infinite" if w is None else f"{w:.4g}" for w in found.widths]
            rows.append([found.target, f"{found.level:.0%}", ", ".join(widths)])
        return rows

    def coverage(self, samples: Sequence[PredictedTarget]) -> list[list[str]]:
        """Table with the coverage of jets, also in thirds of jet pT, and the median width."""
        titles = ["target", "level", "predicted", "conformal"]
        rows = [[*titles, "low pT", "middle pT", "high pT", "median width"]]
        by_name = {sample.name: sample for sample in samples}
        for found in self.intervals:
            sample = by_name.get(found.target)
            if sample is None:
                continue
            covered = found.covered(sample)
            low, high = found.ends(sample)
            shown = f"{np.median(high - low):.4g}"
            cells = [found.target, f"{found.level:.0%}", _plain_coverage(found.level, sample)]
            has_pt = "pt" in sample.observables
            thirds = [
                _fraction(covered, sample, third) if has_pt else "" for third in _thirds(sample)
            ]
            rows.append([*cells, _fraction(covered, sample, slice(None)), *thirds, shown])
        return rows

    def columns(self, objective: Several, found: ScoredTargets) -> dict[str, np.ndarray]:
        """Columns ``pred_<target>_low68`` and ``pred_<target>_high68`` of a file of scores."""
        columns: dict[str, np.ndarray] = {}
        targets = {part.name: part.target for part in objective.targets}
        for part in self.intervals:
            prediction: Any = found.predictions[part.target]
            number = len(prediction.mean)
            sample = PredictedTarget(
                targets[part.target], np.full(number, np.nan), prediction, None, found.observables
            )
            ends = zip(("low", "high"), part.ends(sample), strict=True)
            columns |= {f"{PREDICTED}{part.target}_{e}{100 * part.level:g}": v for e, v in ends}
        return columns


def fit_intervals_of_run(
    run: RunFolder, *, checkpoint: str = "best", batch_size: int = 512
) -> StoredIntervals:
    """Fit conformal intervals of the targets on the validation jets of a run.

    They are written to ``intervals.json`` in its folder. There are none if jets have negative
    weights.

    Parameters
    ----------
    run : RunFolder
        The trained network.
    checkpoint : str
        ``"best"`` or ``"last"``.
    batch_size : int
        Jets per batch.

    Raises
    ------
    InputError
        If its validation jets cannot be used.
    """
    checksum = run.checksum(checkpoint)
    run.check_writable()
    jets = load_run_sample(run, "val")
    weights = weights_of_jets(jets)
    samples = target_samples(run, jets, weights, checkpoint=checkpoint, batch_size=batch_size)
    if weights is not None and bool((weights < 0).any()):
        samples = []
    intervals = [fit_intervals(sample, level) for sample in samples for level in LEVELS]
    stored = StoredIntervals(intervals, len(jets), checkpoint, checksum)
    stored.write(run.out)
    return stored


def read_intervals(run: RunFolder, checkpoint: str = "best") -> StoredIntervals:
    """Read the conformal intervals of the weights of a checkpoint.

    Raises
    ------
    InputError
        If there are none, or they are those of other weights.
    """
    path = run.stored(INTERVALS_FILE)
    if not path.exists():
        raise InputError(
            f"{run.path} has no {INTERVALS_FILE}: pcloud calibrate {run.path} makes it"
        )
    stored = StoredIntervals.read(path.parent)
    if (stored.checkpoint, stored.checksum) != (checkpoint, run.checksum(checkpoint)):
        raise InputError(
            f"the intervals of {run.path} are those of other weights than its checkpoint "
            f"{checkpoint!r} has now: pcloud calibrate {run.path} --checkpoint {checkpoint}"
        )
    names = {part.name for part in run.objective.targets}
    for found in stored.intervals:
        if found.target not in names:
            raise InputError(f"{path}: the run has no target {found.target!r}")
    return stored


def _plain_coverage(level: float, sample: PredictedTarget) -> str:
    """Coverage of the interval that the network predicts at a level; "" without one."""
    if level not in sample.prediction.levels:
        return ""
    inside = sample.is_inside(sample.prediction.interval(level))
    return _fraction(inside, sample, slice(None))


def _thirds(sample: PredictedTarget) -> list[np.ndarray]:
    """Masks (B,) of the thirds of the jets in pT."""
    pt = sample.observables.get("pt", np.zeros(len(sample)))
    edges = np.quantile(pt, np.linspace(0, 1, _THIRDS + 1)[1:-1])
    place = np.searchsorted(edges, pt, side="right")
    return [place == i for i in range(_THIRDS)]


def _fraction(inside: np.ndarray, sample: PredictedTarget, jets: Any) -> str:
    weights = None if sample.weights is None else sample.weights[jets]
    return str(weighted_fraction(inside[jets], weights))
