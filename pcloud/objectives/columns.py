"""Predictions of targets as columns of a file of scores, and read back from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from annotated_types import Interval, Len
from torch import Tensor
from typing_extensions import TypedDict

from pcloud.errors import InputError
from pcloud.evaluation.regression import OBSERVABLES, PredictedTarget
from pcloud.evaluation.scores import REASON, WEIGHT, read_parquet
from pcloud.objectives.predictions import Bernoulli, Estimate, Prediction, estimate_from_columns
from pcloud.objectives.several import Several
from pcloud.objectives.target import Target
from pcloud.run_files import file_errors
from pcloud.stored_values import Name
from pcloud.typing import Floats
from pcloud.validation import checked

__all__ = [
    "METADATA",
    "PredictedLabel",
    "described_targets",
    "predicted_columns",
    "predicted_sample",
    "read_targets",
    "truth_columns",
]

METADATA = b"targets"
"""Key of the metadata of a file of scores that describes the predicted targets."""

PREDICTED = "pred_"
TRUTH = "target_"
OBSERVABLE = "jet_"
_BERNOULLI = "bernoulli"
_SIGMA = "_sigma"


@dataclass(frozen=True)
class PredictedLabel:
    """Probabilities of a label for jets for which it is known.

    Parameters
    ----------
    name : str
        Name of the label.
    labels : ndarray of int, shape (B,)
        1 for jets that have it, 0 for the others.
    probabilities : ndarray, shape (B,)
        Predicted probabilities.
    weights : ndarray, shape (B,), optional
        Weights of the jets.
    """

    name: str
    labels: np.ndarray
    probabilities: Floats
    weights: Floats | None

    def __len__(self) -> int:
        return len(self.labels)


class _StoredTarget(TypedDict):
    """Description of a predicted target in a file."""

    target: Target
    kind: Name
    levels: Annotated[list[Annotated[float, Interval(gt=0, lt=1)]], Len(0, 1000)]


def described_targets(objective: Several, predictions: Mapping[str, Prediction]) -> bytes:
    """Metadata of a file of scores: the targets and the kinds of their predictions."""
    described = []
    for part in objective.targets:
        found = predictions[part.name]
        kind = found.kind if isinstance(found, Estimate) else _BERNOULLI
        levels = list(getattr(found, "probabilities", ()))
        described.append({"target": part.target.to_dict(), "kind": kind, "levels": levels})
    return json.dumps(described).encode()


def predicted_columns(
    objective: Several, predictions: Mapping[str, Prediction]
) -> dict[str, Floats]:
    """Columns ``pred_<target>`` and further ones of the targets, in their units.

    The column ``pred_<target>_sigma`` is that of the learned scale: relative, if that is the
    logarithm.
    """
    columns: dict[str, Floats] = {}
    for part in objective.targets:
        found = predictions[part.name]
        assert isinstance(found, Estimate | Bernoulli)
        for suffix, values in found.columns().items():
            is_value = isinstance(found, Estimate) and suffix != _SIGMA
            shown = part.target.value(values) if is_value else values
            columns[f"{PREDICTED}{part.name}{suffix}"] = shown.numpy()
    return columns


def truth_columns(
    truth: Mapping[str, Floats], observables: Mapping[str, Floats]
) -> dict[str, Floats]:
    """Columns of the true values and of the observables of the jets."""
    columns = {f"{TRUTH}{name}": values for name, values in truth.items()}
    return columns | {f"{OBSERVABLE}{name}": values for name, values in observables.items()}


def predicted_sample(
    target: Target,
    prediction: Prediction,
    truth: Floats,
    weights: Floats | None,
    observables: Mapping[str, Floats],
) -> PredictedTarget | PredictedLabel:
    """Predictions of the jets whose true value is known.

    Raises
    ------
    InputError
        If there are none, or a label is neither 0 nor 1.
    """
    if isinstance(prediction, Estimate):
        return PredictedTarget.of(target, truth, prediction, weights, observables)
    known = np.isfinite(truth)
    labels = truth[known]
    if len(labels) == 0:
        raise InputError(f"target {target.name!r} is missing for all {len(truth)} jets")
    if not np.isin(labels, (0, 1)).all():
        raise InputError(f"label {target.name!r} has values other than 0 and 1")
    of_jets = None if weights is None else weights[known]
    return PredictedLabel(
        target.name, labels.astype(np.int64), prediction.mean.numpy()[known], of_jets
    )


def read_targets(path: str | Path) -> list[PredictedTarget | PredictedLabel]:
    """Read the predicted targets of a file of scores; none if it has no targets.

    Targets whose true values are not in the file are left out.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file is damaged.
    """
    path = Path(path)
    table = read_parquet(path)
    stored = (table.schema.metadata or {}).get(METADATA)
    if stored is None:
        return []
    if REASON in table.column_names:
        table = table.filter(table[REASON].is_null())
    with file_errors(path, "predictions of targets", "write it anew with pcloud evaluate"):
        described = checked(list[_StoredTarget], json.loads(stored))
        weights = _column(table, WEIGHT) if WEIGHT in table.column_names else None
        names = [n for n in OBSERVABLES if f"{OBSERVABLE}{n}" in table.column_names]
        observables = {n: _column(table, f"{OBSERVABLE}{n}") for n in names}
        found = []
        for entry in described:
            target = entry["target"]
            if f"{TRUTH}{target.name}" not in table.column_names:
                continue
            truth = _column(table, f"{TRUTH}{target.name}")
            if np.isfinite(truth).any():
                prediction = _prediction(table, target, entry["kind"], entry["levels"])
                found.append(predicted_sample(target, prediction, truth, weights, observables))
    return found


def _prediction(table: pa.Table, target: Target, kind: str, levels: Sequence[float]) -> Prediction:
    first = f"{PREDICTED}{target.name}"
    if kind == _BERNOULLI:
        return Bernoulli(torch.from_numpy(_column(table, first)).logit())
    columns: dict[str, Tensor] = {}
    for suffix in ("", _SIGMA, *(f"_q{level:g}" for level in levels)):
        if f"{first}{suffix}" in table.column_names:
            values = torch.from_numpy(_column(table, f"{first}{suffix}"))
            columns[suffix] = values if suffix == _SIGMA else target.learned(values)
    return estimate_from_columns(kind, columns, levels)


def _column(table: pa.Table, name: str) -> Floats:
    return np.array(table[name].to_numpy(), dtype=np.float64)
