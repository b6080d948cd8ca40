"""Study of the uncertainty of a run: predictive samples of its test jets and of modified ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Len
from numpy.typing import NDArray
from typing_extensions import Required, TypedDict

from pcloud.errors import InputError
from pcloud.evaluation.figures.roc import GRID
from pcloud.evaluation.influence import mean_over_jets
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.scores import PREFIX, read_parquet, weights_of_jets
from pcloud.run_files import (
    UNCERTAINTY_FILE,
    UNCERTAINTY_TABLE,
    Advance,
    StoredResult,
    file_errors,
    ignore_progress,
    read_json,
    write_atomic,
)
from pcloud.stored_values import KEEP_UNKNOWN, Count, Float, Fraction, Name, Names
from pcloud.studies.budget import jets_within_budget
from pcloud.studies.predictive import PredictiveSamples, default_method, predictive_samples
from pcloud.studies.stored_mean import stored_mean
from pcloud.training.run_sample import load_run_sample
from pcloud.typing import Floats
from pcloud.uncertainty.measures import Uncertainty
from pcloud.uncertainty.shifts import SHIFTS, shifted
from pcloud.validation import Converted, checked

if TYPE_CHECKING:
    from pcloud.training.run_folder import RunFolder

__all__ = ["StoredUncertainty", "measure_uncertainty", "read_uncertainty"]

_SHIFTED_JETS = 2000
_NAMES = {"right": "correctly classified", "wrong": "misclassified"}
_OLD_NAMES = {f"taken {old}": name for old, name in _NAMES.items()}  # in older files
_ALL = "test jets"
_PARTS = ("total", "aleatoric", "epistemic", "logit_spread")

_SOURCES = {
    "ensemble": "the {members} members of the ensemble",
    "dropout": "{passes} passes with dropout switched on",
    "laplace": "{samples} draws of the last layer's weights from the Laplace approximation of "
    "their posterior given {training_jets} training jets",
    "variational": "{samples} draws of the last layer's weights from independent Gaussians, "
    "trained on {training_jets} training jets",
}


class _Facts(TypedDict, total=False):
    """Facts about the predictive samples that the table and the report use."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    method: Required[Literal["ensemble", "dropout", "laplace", "variational"]]
    checkpoint: Name
    members: Count
    passes: Count
    samples: Count
    training_jets: Count
    seen_jets: Count
    prior_precision: Float


_Mean = Annotated[Measured, Converted(stored_mean)]
_Curve = Annotated[list[Fraction], Len(len(GRID), len(GRID))]


class _Means(TypedDict):
    """Mean uncertainties of a sample."""

    total: _Mean
    aleatoric: _Mean
    epistemic: _Mean
    logit_spread: _Mean


class _Band(TypedDict):
    """Band of the ROC curves."""

    low: _Curve
    middle: _Curve
    high: _Curve


class _File(TypedDict):
    """Contents of ``uncertainty.json``."""

    facts: _Facts
    classes: Names
    samples: Annotated[dict[Name, _Means], Len(1, 1000)]
    roc: _Band | None


@dataclass(frozen=True)
class StoredUncertainty(StoredResult):
    """Uncertainties of the test jets, from predictive samples.

    Parameters
    ----------
    facts : dict
        Method and fitted parameters.
    classes : list of str
        Names of the classes.
    labels : ndarray, shape (B,)
        True classes.
    jets : Uncertainty
        Uncertainties of each test jet.
    samples : dict of str to dict of str to Measured
        Mean uncertainties of test jets, and of modified (out-of-distribution) jets.
    roc : dict of str to list of float, optional
        For two classes the background efficiencies ``low``, ``middle`` and ``high`` of the band of
        the predictive samples, on the grid of the ROC figure.
    """

    file = UNCERTAINTY_FILE
    what = "uncertainties"
    command = "pcloud uncertainty"
    indent = 2

    facts: dict[str, Any]
    classes: list[str]
    labels: NDArray[np.integer]
    jets: Uncertainty
    samples: dict[str, dict[str, Measured]]
    roc: dict[str, list[float]] | None

    @property
    def source(self) -> str:
        """Description of the predictive samples."""
        return _SOURCES[self.facts["method"]].format(**self.facts)

    def rows(self, noun: str = "jets") -> list[list[str]]:
        """Table of the mean uncertainties of the jets, or of what else they are called."""
        titles = [part.replace("_", " ") for part in _PARTS]
        rows = [[noun, *titles]]
        for name, means in self.samples.items():
            name = f"test {noun}" if name == _ALL else name
            rows.append([name, *(means[part].format(digits=1) for part in _PARTS)])
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values of all but the jets, for JSON."""
        return {
            "facts": self.facts,
            "classes": self.classes,
            "samples": {
                name: {part: mean.to_dict() for part, mean in means.items()}
                for name, means in self.samples.items()
            },
            "roc": self.roc,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredUncertainty:
        """Inverse of `to_dict`, with `labels` and `jets` among the values."""
        found = checked(_File, values)
        samples = {_OLD_NAMES.get(name, name): means for name, means in found["samples"].items()}
        jets = {name: values[name] for name in ("labels", "jets")}
        if found["roc"] is not None and len(found["classes"]) != 2:
            raise InputError("roc: only for two classes")
        stored = cls(**found | {"samples": samples} | jets)
        _ = stored.source  # raises if a fact is absent
        return stored

    def write(self, folder: str | Path) -> Path:
        """Write ``uncertainty.json`` and, a row per jet, ``uncertainty.parquet``."""
        columns: dict[str, Any] = {"label": self.labels}
        for c, name in enumerate(self.classes):
            columns[PREFIX + name] = self.jets.mean[:, c]
        columns |= {part: getattr(self.jets, part) for part in _PARTS}
        metadata = {b"classes": json.dumps(self.classes)}
        table = pa.table(columns).replace_schema_metadata(metadata)
        write_atomic(Path(folder) / UNCERTAINTY_TABLE, lambda file: pq.write_table(table, file))
        return super().write(folder)

    @classmethod
    def read(cls, folder: str | Path) -> StoredUncertainty:
        """Read both files.

        Raises
        ------
        FileNotFoundError
            If the study was not done.
        InputError
            If one of the files cannot be read, or is not there.
        """

        def parse(values: dict[str, Any]) -> StoredUncertainty:
            classes = checked(_File, values)["classes"]
            return cls.from_dict(values | _read_jets(Path(folder), classes))

        remedy = f"write it anew with {cls.command}"
        return read_json(Path(folder) / cls.file, cls.what, remedy, parse)


def measure_uncertainty(
    run: RunFolder,
    method: str | None = None,
    *,
    samples: int = 50,
    jets: int | None = None,
    checkpoint: str = "best",
    batch_size: int = 512,
    seed: int = 0,
    advance: Advance = ignore_progress,
) -> StoredUncertainty:
    """Estimate the uncertainty of the scores of test jets, and of modified test jets.

    Writes ``uncertainty.json`` and ``uncertainty.parquet`` into the folder of the run. The first
    2000 test jets are modified, see :data:`SHIFTS`, or as many as the network scores in some
    minutes, if the features need four-momenta alone.

    Parameters
    ----------
    run : RunFolder
        The trained tagger, or an ensemble.
    method, samples, checkpoint, batch_size, seed
        As for :func:`~pcloud.studies.predictive.predictive_samples`.
    jets : int, optional
        Number of test jets; by default all, or as many as the network scores in some minutes.
    advance : callable
        Progress callback, called with the part of the whole work done.
    """
    run.checksum(checkpoint)
    run.check_writable()
    run.check_classes("the uncertainty of scores")
    test = load_run_sample(run, "test")
    network = run.members[0] if run.config.ensemble > 1 else run
    passes = {"ensemble": len(run.members), "dropout": samples}.get(
        method or default_method(run), 1
    )
    cost: dict[str, Any] = {"checkpoint": checkpoint}
    if jets is None:
        jets = jets_within_budget(network, test, passes=2 * passes, most=len(test), **cost)
    changed = jets_within_budget(network, test, passes=12 * passes, most=_SHIFTED_JETS, **cost)
    test = test[:jets]
    options: dict[str, Any] = {"checkpoint": checkpoint, "batch_size": batch_size, "seed": seed}
    predictions = predictive_samples(run, method, samples=samples, **options)
    advance(1 / 3)
    labels = np.asarray(test.label).astype(np.int64)
    weights = weights_of_jets(test)
    logits = predictions.logits(test)
    advance(1 / 3)
    found = Uncertainty.of(logits)
    stored = StoredUncertainty(
        {"method": predictions.method, "checkpoint": checkpoint, "seed": seed, **predictions.facts},
        run.classes,
        labels,
        found,
        _samples(run, predictions, test[:changed], labels, found, seed, weights),
        _band(logits, labels, weights) if len(run.classes) == 2 else None,
    )
    advance(1 / 3)
    stored.write(run.out)
    return stored


def read_uncertainty(folder: str | Path) -> StoredUncertainty:
    """Read the ``uncertainty.json`` and ``uncertainty.parquet`` of a run folder.

    Raises as :meth:`StoredUncertainty.read`.
    """
    return StoredUncertainty.read(folder)


def _read_jets(folder: Path, classes: list[str]) -> dict[str, Any]:
    """Labels and uncertainties of the jets, from ``uncertainty.parquet``."""
    path = folder / UNCERTAINTY_TABLE
    with file_errors(path, "uncertainties", "write it anew with pcloud uncertainty"):
        table = read_parquet(path)
        mean = np.stack([_numbers(table, PREFIX + name) for name in classes], axis=1)
        jets = Uncertainty(mean, *(_numbers(table, part) for part in _PARTS))
        labels = _numbers(table, "label")
        if not len(labels) or not np.isin(labels, np.arange(len(classes))).all():
            raise InputError(f"no labels from 0 to {len(classes) - 1}")
        return {"labels": labels.astype(np.int64), "jets": jets}


def _numbers(table: pa.Table, name: str) -> NDArray[Any]:
    """Column of finite numbers."""
    values = table[name].to_numpy()
    if not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
        raise InputError(f"column {name}: not finite numbers")
    return values


def _samples(
    run: RunFolder,
    predictions: PredictiveSamples,
    some: Any,
    labels: Any,
    found: Uncertainty,
    seed: int,
    weights: Floats | None,
) -> dict[str, dict[str, Measured]]:
    correct = found.mean.argmax(axis=1) == labels
    groups = {
        _ALL: np.ones(len(labels), bool),
        "correctly classified": correct,
        "misclassified": ~correct,
    }
    means = {
        name: {
            part: mean_over_jets(
                getattr(found, part)[chosen], None if weights is None else weights[chosen]
            )
            for part in _PARTS
        }
        for name, chosen in groups.items()
        if chosen.sum() > 1
    }
    if run.modality.has_momenta and not run.feature_set.columns:
        for shift in SHIFTS:
            changed = predictions.uncertainty(shifted(some, shift, seed))
            of_some = None if weights is None else weights[: len(some)]
            means[shift] = {
                part: mean_over_jets(getattr(changed, part), of_some) for part in _PARTS
            }
    return means


def _band(
    logits: Floats, labels: NDArray[np.integer], weights: Floats | None
) -> dict[str, list[float]]:
    """Central 68 % of the ROC curves of the predictive samples, and the curve of their mean score."""
    odds = logits[:, :, 1] - logits[:, :, 0]
    p = (1 / (1 + np.exp(-odds))).mean(axis=0)
    curves = [
        Ranking(score, labels == 1, labels == 0, weights).counts.background_efficiency(GRID)
        for score in (p, *odds)
    ]
    if weights is not None:  # sums of negative weights
        curves = [np.clip(curve, 0, 1) for curve in curves]
    low, high = np.quantile(curves[1:], [0.1587, 0.8413], axis=0)
    return {"low": low.tolist(), "middle": curves[0].tolist(), "high": high.tolist()}
