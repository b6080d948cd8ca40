"""Study of the calibration of a run, fitted on its validation jets."""

from __future__ import annotations

import numpy as np

from pcloud.errors import UnknownNameError
from pcloud.evaluation.calibration_file import StoredCalibration
from pcloud.evaluation.calibration_maps import CALIBRATIONS
from pcloud.evaluation.scores import Scores, weights_of_jets
from pcloud.objectives.of_target import Regression
from pcloud.studies.intervals import StoredIntervals, fit_intervals_of_run
from pcloud.training.run_folder import RunFolder
from pcloud.training.run_sample import load_run_sample

__all__ = ["calibrate_run"]


def calibrate_run(
    run: RunFolder, method: str = "temperature", *, checkpoint: str = "best", batch_size: int = 512
) -> StoredCalibration | StoredIntervals:
    """Fit calibration maps, thresholds and conformal sets on the validation jets of a run.

    They are written to ``calibration.json`` in its folder, where ``run.predict(calibrated=True)``
    finds them. Conformal intervals of targets are written to ``intervals.json``, and returned if
    the run learned no classes.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    method : str
        Map to use: ``"temperature"``, ``"vector"`` or ``"isotonic"``. All are fitted.
    checkpoint : str
        ``"best"`` or ``"last"``.
    batch_size : int
        Jets per batch.

    Raises
    ------
    InputError
        If the run has no such checkpoint, or its validation jets cannot be used.
    UnknownNameError
        If there is no such method.
    """
    checksum = run.checksum(checkpoint)  # raises before a large file is read
    run.check_writable()
    if method not in CALIBRATIONS:
        raise UnknownNameError("calibration", method, CALIBRATIONS)
    if any(isinstance(part, Regression) for part in run.objective):
        intervals = fit_intervals_of_run(run, checkpoint=checkpoint, batch_size=batch_size)
        if not run.classes:
            return intervals
    run.check_classes("calibration")
    jets = load_run_sample(run, "val")
    scores = run.predict(jets, batch_size=batch_size, checkpoint=checkpoint)
    sample = Scores.from_arrays(np.asarray(jets.label), scores, run.classes, weights_of_jets(jets))
    stored = StoredCalibration.fit(sample, method, checkpoint=checkpoint, checksum=checksum)
    stored.write(run.out)
    return stored
