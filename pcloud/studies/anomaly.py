"""Study of an anomaly detector beside single observables: its score must not only count particles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import numpy as np
from annotated_types import Len
from scipy import stats

from pcloud.anomaly.collapse import measure_collapse
from pcloud.anomaly.detector import Detector
from pcloud.errors import InputError
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.metrics import evaluate_scores
from pcloud.evaluation.scores import Scores, weights_of_jets
from pcloud.evaluation.sculpting import sculpting_of_scores
from pcloud.evaluation.significance import significance_improvement
from pcloud.io.jets import FlatJets
from pcloud.observables import jet_observables
from pcloud.run_files import StoredResult
from pcloud.stored_values import Float, Name
from pcloud.studies.stored_mean import stored_mean
from pcloud.training.run_folder import RunFolder
from pcloud.training.run_sample import load_run_sample
from pcloud.typing import Floats
from pcloud.validation import Converted, checked

__all__ = ["OBSERVABLES", "DetectorRow", "StoredAnomaly", "anomaly_run"]

OBSERVABLES = ("multiplicity", "mass", "girth")
"""Observables that a detector is compared with; large values count as anomalous, as given."""

_EFFICIENCY = 0.5
_COLLAPSE_JETS = 2000
_BATCH_SIZE = 250
_COUNTING = 0.8  # rank correlation with the number of particles from which it is said

_Number = Annotated[Measured, Converted(stored_mean)]


@dataclass(frozen=True)
class DetectorRow:
    """Performance of one score.

    Parameters
    ----------
    name : str
        The detector, or an observable.
    auc, rejection, improvement : Measured
        Area under the ROC curve; 1/eB at a signal efficiency of 0.5; largest significance improvement.
    sculpting, noise : Measured
        Jensen-Shannon distance between the mass of the background before and after the cut at 0.5, and
        that of as many jets drawn at random.
    counting : float
        Rank correlation with the number of particles, of background jets.
    """

    name: Name
    auc: _Number
    rejection: _Number
    improvement: _Number
    sculpting: _Number
    noise: _Number
    counting: Float


@dataclass(frozen=True)
class StoredAnomaly(StoredResult):
    """Performance of an anomaly detector and of single observables.

    Parameters
    ----------
    rows_of : list of DetectorRow
        The detector first.
    signal, background : str
        Names of the classes.
    notes : list of str
        Sentences on the numbers of this detector.
    """

    file = "anomaly.json"
    what = "comparison of an anomaly detector"
    command = "pcloud evaluate"
    header: ClassVar[tuple[str, ...]] = (
        *("score", "AUC", "1/εB at εS = 0.5", "max εS/√εB"),
        *("mass sculpting", "of random draws", "rank correlation with multiplicity"),
    )

    rows_of: Annotated[list[DetectorRow], Len(1, 100)]
    signal: Name
    background: Name
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = ("auc", "rejection", "improvement", "sculpting", "noise")
        rows = [
            {"name": row.name, "counting": row.counting}
            | {name: getattr(row, name).to_dict() for name in names}
            for row in self.rows_of
        ]
        others = {"signal": self.signal, "background": self.background, "notes": self.notes}
        return {"rows_of": rows, **others}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredAnomaly:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Table with a row for each score."""
        numbers = ("auc", "rejection", "improvement", "sculpting", "noise")
        return [
            list(self.header),
            *(
                [row.name, *(str(getattr(row, n)) for n in numbers), f"{row.counting:+.2f}"]
                for row in self.rows_of
            ),
        ]


def anomaly_run(
    run: RunFolder,
    *,
    scores: np.ndarray | None = None,
    checkpoint: str = "best",
    seed: int = 0,
) -> StoredAnomaly:
    """Compare an anomaly detector with single observables on the test jets of its run.

    A detector can fail by counting particles: a jet of many particles is reconstructed badly, whatever
    it is. Such a score follows the number of particles, and is no better than it. The result is
    written to ``anomaly.json``.

    Parameters
    ----------
    run : RunFolder
        Run of an anomaly detector on jets.
    scores : ndarray, shape (B, C), optional
        Scores of all test jets, if they are known.
    checkpoint : str
        ``"best"`` or ``"last"``.
    seed : int
        Seed of the random draws of the mass sculpting.

    Raises
    ------
    InputError
        If the run is not of an anomaly detector on jets.
    """
    if not (run.objective.detects_anomalies and run.modality.has_momenta):
        raise InputError(f"{run.path} is not the run of an anomaly detector on jets")
    run.check_writable()
    test = load_run_sample(run, "test")
    if scores is None:
        scores = run.predict(test, checkpoint=checkpoint)
    labels = (np.asarray(test.label) > 0).astype(np.int64)
    weights = weights_of_jets(test)
    background, *others = run.classes
    signal = others[0] if len(others) == 1 else "other classes"
    found = jet_observables(FlatJets.from_awkward(test), OBSERVABLES)
    values = {run.config.model: np.log(scores[:, 1]) - np.log(scores[:, 0])} | found
    rows = []
    for name, value in values.items():
        sample = Scores.from_arrays(labels, value, (background, signal), weights)
        rows.append(_row(name, sample, value, found, seed))
    notes = _notes(rows, signal, run, test[labels == 0], checkpoint)
    stored = StoredAnomaly(rows, signal, background, notes)
    stored.write(run.out)
    return stored


def _row(
    name: str, sample: Scores, value: Floats, observables: dict[str, Floats], seed: int
) -> DetectorRow:
    table = evaluate_scores(sample, efficiencies=[_EFFICIENCY], num_bootstrap=0)
    (improvement,) = significance_improvement(sample)
    _, best = improvement.maximum or (np.nan, Measured(np.nan, np.nan, "none measured"))
    (cut,) = sculpting_of_scores(sample, observables["mass"], efficiencies=[_EFFICIENCY], seed=seed)
    is_background = sample.labels == 0
    counting = stats.spearmanr(value[is_background], observables["multiplicity"][is_background])
    return DetectorRow(
        name,
        table["auc"],
        table[f"rejection@{_EFFICIENCY:g}"],
        best,
        cut.distance,
        cut.noise,
        float(counting.statistic),
    )


def _notes(
    rows: list[DetectorRow], signal: str, run: RunFolder, learned: Any, checkpoint: str
) -> list[str]:
    """Sentences on the numbers: collapse, counting of particles, no gain over an observable."""
    tagger = run.tagger(checkpoint)
    modality = tagger.modality
    data = modality.dataset(learned[:_COLLAPSE_JETS], tagger.feature_set)
    loader = modality.loader(data, _BATCH_SIZE)
    detects = cast(Detector, tagger.model)
    notes = [str(measure_collapse(detects, (modality.arguments(b) for b in loader)))]
    detector, *observables = rows
    if abs(detector.counting) >= _COUNTING:
        notes.append(
            f"the score follows the number of particles: rank correlation {detector.counting:+.2f} "
            f"for {run.classes[0]} jets"
        )
    better = [row for row in observables if row.auc.value > detector.auc.value]
    if better:
        best = max(better, key=lambda row: row.auc.value)
        notes.append(f"{best.name} alone finds {signal} better: AUC {best.auc}")
    return notes
