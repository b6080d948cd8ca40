"""Predictions for particles as columns of lists of a file of scores, and read back from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Len
from typing_extensions import NotRequired, TypedDict

from pcloud.errors import InputError
from pcloud.evaluation.particles import PredictedParticles, PredictedVertices
from pcloud.evaluation.scores import REASON, WEIGHT, read_parquet
from pcloud.io.particle_labels import UNKNOWN_LABEL
from pcloud.objectives.columns import PREDICTED, TRUTH
from pcloud.objectives.particle_classes import ParticleClasses
from pcloud.objectives.particle_predictions import PairBernoulli, ParticlePrediction
from pcloud.objectives.several import Several
from pcloud.run_files import file_errors
from pcloud.stored_values import Name, Names
from pcloud.typing import Booleans, Floats, Integers
from pcloud.validation import checked

__all__ = [
    "METADATA",
    "PredictedLabels",
    "described_labels",
    "joined_labels",
    "label_columns",
    "predicted_labels",
    "read_labels",
]

METADATA = b"particle_labels"
"""Key of the metadata of a file of scores that describes the predicted labels of particles."""

PredictedLabels = PredictedParticles | PredictedVertices


class _StoredLabel(TypedDict):
    """Description of a predicted label of particles in a file."""

    name: Name
    kind: Literal["classes", "pairs"]
    classes: NotRequired[Annotated[Names, Len(1, 10_000)]]


def described_labels(objective: Several) -> bytes:
    """Metadata of a file of scores: the labels of particles that are predicted."""
    described = []
    for part in objective.of_particles:
        classes = {"classes": part.classes} if isinstance(part, ParticleClasses) else {}
        described.append({"name": part.name, "kind": part.kind, **classes})
    return json.dumps(described).encode()


def predicted_labels(
    objective: Several,
    predictions: Mapping[str, ParticlePrediction],
    truth: Mapping[str, Integers],
) -> dict[str, PredictedLabels]:
    """Predicted labels of particles, with the true ones where these are known.

    Parameters
    ----------
    objective : Several
        Objectives.
    predictions : mapping of str to ParticlePrediction
        Their predictions by name, in the order of the input.
    truth : mapping of str to ndarray of int, shape (N,)
        True labels by name.
    """
    found: dict[str, PredictedLabels] = {}
    for part in objective.of_particles:
        prediction = predictions[part.name]
        labels = truth.get(part.name)
        counts = prediction.counts.numpy()
        if isinstance(prediction, PairBernoulli):
            groups = prediction.groups()
            known = None if labels is None else labels != UNKNOWN_LABEL
            found[part.name] = PredictedVertices(part.name, groups, counts, labels, known)
        else:
            assert isinstance(part, ParticleClasses)
            classes = tuple(part.classes)
            probabilities = prediction.mean.numpy()
            found[part.name] = PredictedParticles(part.name, classes, probabilities, counts, labels)
    return found


def joined_labels(parts: Sequence[PredictedLabels]) -> PredictedLabels:
    """Predictions of all jets of several parts."""
    first = parts[0]
    arrays = [name for name, value in vars(first).items() if isinstance(value, np.ndarray)]
    values: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts]) for n in arrays}
    return type(first)(**{**vars(first), **values})


def label_columns(sample: PredictedLabels) -> dict[str, pa.Array]:
    """Columns of lists, with one number per particle in the order of the input.

    They are ``pred_<label>_<class>``, the probability of each class, or ``pred_<label>``, the number of
    the vertex (-1 for none); and ``target_<label>``, the true class or vertex, missing where it is not
    known.
    """
    first = f"{PREDICTED}{sample.name}"
    if isinstance(sample, PredictedParticles):
        columns = {
            f"{first}_{name}": _lists(sample.probabilities[:, i].astype(np.float32), sample.counts)
            for i, name in enumerate(sample.classes)
        }
        known = None if sample.labels is None else sample.labels >= 0
    else:
        columns = {first: _lists(sample.groups.astype(np.int32), sample.counts)}
        known = sample.known
    if sample.labels is not None and known is not None:
        labels = pa.array(np.where(known, sample.labels, 0).astype(np.int32), mask=~known)
        columns[f"{TRUTH}{sample.name}"] = _lists(labels, sample.counts)
    return columns


def _lists(values: Any, counts: Integers) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def read_labels(path: str | Path) -> tuple[list[PredictedLabels], Floats | None]:
    """Read predicted labels of particles of a file of scores, and the weights (B,) of its jets.

    Labels whose true values are not in the file are left out.

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
        return [], None
    if REASON in table.column_names:
        table = table.filter(table[REASON].is_null())
    with file_errors(path, "predictions for particles", "write it anew with pcloud evaluate"):
        found: list[PredictedLabels] = []
        for entry in checked(list[_StoredLabel], json.loads(stored)):
            name = entry["name"]
            if f"{TRUTH}{name}" not in table.column_names:
                continue
            labels, known, counts = _read_truth(table[f"{TRUTH}{name}"])
            first = f"{PREDICTED}{name}"
            if entry["kind"] == "pairs":
                groups = _read(table, first, counts).astype(np.int64)
                found.append(PredictedVertices(name, groups, counts, labels, known))
                continue
            classes = tuple(entry.get("classes", ()))
            if not classes or (labels >= len(classes)).any():
                raise InputError(f"{name}: labels outside the classes {', '.join(classes)}")
            scores = [_read(table, f"{first}_{c}", counts) for c in classes]
            found.append(
                PredictedParticles(name, classes, np.stack(scores, axis=1), counts, labels)
            )
        weights = table[WEIGHT].to_numpy() if WEIGHT in table.column_names else None
    return found, weights


def _read_truth(column: pa.ChunkedArray) -> tuple[Integers, Booleans, Integers]:
    """Labels (N,), the mask (N,) of those that are known, and numbers (B,) of particles."""
    lists = column.combine_chunks()
    counts = np.asarray(lists.value_lengths().fill_null(0)).astype(np.int64)
    values = lists.flatten()
    known = ~np.asarray(values.is_null())
    labels = np.asarray(values.fill_null(UNKNOWN_LABEL)).astype(np.int64)
    return labels, known, counts


def _read(table: pa.Table, name: str, counts: Integers) -> np.ndarray:
    lists = table[name].combine_chunks()
    if not np.array_equal(np.asarray(lists.value_lengths().fill_null(0)), counts):
        raise InputError(f"column {name!r} has other numbers of particles than the labels")
    return np.asarray(lists.flatten())
