"""Stored calibration of a run: calibration maps, working points and conformal sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.calibration import calibration_of_scores, probabilities
from pcloud.evaluation.calibration_maps import (
    CALIBRATIONS,
    CalibrationMap,
    Isotonic,
    Scaling,
    calibration_from_dict,
    calibration_map_of_scores,
)
from pcloud.evaluation.conformal import ConformalSets, conformal_sets_of_scores
from pcloud.evaluation.influence import weighted_fraction
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.table import describe
from pcloud.evaluation.working_points import WorkingPoint, working_points_of_scores
from pcloud.run_files import CALIBRATION_FILE, StoredResult
from pcloud.stored_values import Count, Integer, Name
from pcloud.typing import Booleans
from pcloud.validation import Checked, checked

__all__ = ["StoredCalibration", "read_calibration"]

_ALPHAS = (0.1, 0.05, 0.01)


def _map(values: Any) -> CalibrationMap:
    return values if isinstance(values, CalibrationMap) else calibration_from_dict(values)


def _numbers_of_classes(fitted: CalibrationMap) -> Sequence[int]:
    """Numbers of classes that a map fits; any for a map that is not of this package."""
    if isinstance(fitted, Scaling):
        return [len(fitted.weights)]
    if isinstance(fitted, Isotonic):
        return [2] if len(fitted.knots) == 1 else [len(fitted.knots)]
    return range(10_000)


@dataclass(frozen=True)
class StoredCalibration(StoredResult):
    """Calibration maps, working points and conformal sets fitted on the validation jets of a run.

    Parameters
    ----------
    method : str
        Name of the map that gives the calibrated scores.
    maps : dict of str to CalibrationMap
        Fitted maps by name of the method.
    points : dict of str to list of WorkingPoint
        Working points of each signal class, on the uncalibrated score.
    sets : sequence of ConformalSets
        Conformal sets, on the uncalibrated probabilities.
    classes : sequence of str
        Names of the classes.
    jets : int
        Number of validation jets.
    checkpoint : str
        Name of the checkpoint whose scores were used.
    checksum : int
        Checksum of its weights.
    """

    file = CALIBRATION_FILE
    what = "calibration"
    command = "pcloud calibrate"
    indent = 2

    method: Name
    maps: dict[Name, Annotated[CalibrationMap, Checked(_map)]]
    points: dict[Name, list[WorkingPoint]]
    sets: Sequence[ConformalSets]
    classes: Sequence[Name]
    jets: Count
    checkpoint: Name
    checksum: Integer

    def __post_init__(self) -> None:
        number = len(self.classes)
        if self.method not in self.maps:
            raise UnknownNameError("map", self.method, self.maps)
        for name, fitted in self.maps.items():
            if number not in _numbers_of_classes(fitted):
                raise InputError(f"maps.{name}: not for {number} classes")
        for name in self.points:
            if name not in self.classes:
                raise UnknownNameError("class", name, self.classes)
        if any(len(sets.cuts) != number for sets in self.sets):
            raise InputError(f"sets: not one cut for each of {number} classes")

    @classmethod
    def fit(
        cls, sample: Scores, method: str, *, checkpoint: str, checksum: int
    ) -> StoredCalibration:
        """Fit all maps, working points and sets on validation jets; `method` is the map to use.

        The isotonic map and the sets are left out for jets with negative weights.
        """
        sample = replace(sample, values=probabilities(sample))
        chosen = calibration_map_of_scores(sample, method)  # an unknown name is refused first
        has_negative = sample.weights is not None and bool((sample.weights < 0).any())
        maps = {
            name: chosen if name == method else calibration_map_of_scores(sample, name)
            for name in CALIBRATIONS
            if not (has_negative and name == "isotonic")
        }
        signals = sample.classes[1:] if len(sample.classes) == 2 else sample.classes
        present = [name for name in signals if sample.counts[sample.index(name)] > 1]
        points = {name: working_points_of_scores(sample, signal=name) for name in present}
        alphas = () if has_negative else _ALPHAS
        sets = [conformal_sets_of_scores(sample, alpha) for alpha in alphas]
        jets = len(sample.labels)
        return cls(method, maps, points, sets, sample.classes, jets, checkpoint, checksum)

    @property
    def map(self) -> CalibrationMap:
        """The map to use."""
        return self.maps[self.method]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **{name: value for name, value in vars(self).items() if name not in _OBJECTS},
            "maps": {name: fitted.to_dict() for name, fitted in self.maps.items()},
            "points": {name: [p.to_dict() for p in points] for name, points in self.points.items()},
            "sets": [asdict(sets) for sets in self.sets],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredCalibration:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Rows with each map and its parameters."""
        used = [f"{name}*" if name == self.method else name for name in self.maps]
        maps = zip(used, self.maps.values(), strict=True)
        return [["map", "parameters"], *([name, fitted.describe()] for name, fitted in maps)]

    def comparison(self, sample: Scores, **options: Any) -> list[list[str]]:
        """Rows with the calibration of test jets without a map and with each map."""
        p = probabilities(sample)
        mapped = {"none": p} | {name: fitted(p) for name, fitted in self.maps.items()}
        tables = {
            name: calibration_of_scores(replace(sample, values=values), **options)
            for name, values in mapped.items()
        }
        names = [name for name in tables["none"] if "[" not in name]
        used = [f"{name}*" if name == self.method else name for name in tables]
        rows = [[describe(name), *(str(t[name]) for t in tables.values())] for name in names]
        return [["scaling", *used], *rows]

    def thresholds(self, sample: Scores) -> list[list[str]]:
        """Rows with the thresholds, the expected rates and the rates of the test jets.

        The expected rates have the errors of the validation jets, the others the errors of the
        test jets. A comparison of the two has to include both errors.
        """
        whose = f"of test {sample.noun}"
        rows = [["", "threshold", "efficiency", whose, "mistag rate", whose]]
        p = probabilities(sample)
        for name, points in self.points.items():
            signal = self.classes.index(name)
            for point in points:
                passed = p[:, signal] >= point.threshold.value
                parts = (sample.labels == signal, sample.labels != signal)
                title = point.name if len(self.classes) == 2 else f"{name}, {point.name}"
                row = [title, str(point.threshold)]
                for expected, part in zip(
                    (point.efficiency, point.mistag_rate), parts, strict=True
                ):
                    row += [str(expected), str(_fraction(passed, sample, part))]
                rows.append(row)
        return rows

    def coverage(self, sample: Scores) -> list[list[str]]:
        """Rows with the coverage and size of the sets of the test jets."""
        rows = [["requested coverage", "coverage", "classes in the set", "empty sets"]]
        p = probabilities(sample)
        for sets in self.sets:
            inside = sets(p)
            covered = inside[np.arange(len(p)), sample.labels]
            size = inside.sum(axis=1)
            shares = np.ones(len(p)) if sample.weights is None else sample.weights
            rows.append(
                [
                    f"{1 - sets.alpha:.0%}",
                    str(_fraction(covered, sample, np.ones(len(p), dtype=bool))),
                    f"{np.average(size, weights=shares):.3f}",
                    f"{np.average(size == 0, weights=shares):.1%}",
                ]
            )
        return rows


_OBJECTS = ("maps", "points", "sets")


def read_calibration(folder: str | Path) -> StoredCalibration:
    """Read the ``calibration.json`` of a run folder.

    Raises
    ------
    InputError
        If the file does not exist, or was not written by ``pcloud calibrate``.
    """
    path = Path(folder) / CALIBRATION_FILE
    if not path.exists():
        raise InputError(f"{folder} has no {CALIBRATION_FILE}: pcloud calibrate {folder} makes it")
    return StoredCalibration.read(folder)


def _fraction(passed: Booleans, sample: Scores, jets: Booleans) -> Measured:
    """Fraction of `jets` that pass."""
    return weighted_fraction(passed[jets], sample.weights_of(jets))
