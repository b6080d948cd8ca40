"""Study of the performance of a run: scores of labelled jets, and metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable
from pcloud.evaluation.metrics import evaluate_scores
from pcloud.evaluation.scores import Scores, ScoresWriter, weights_of_jets
from pcloud.modality import Sample
from pcloud.run_files import (
    EVALUATION_FILE,
    EVALUATION_FOLDER,
    SCORES_FILE,
    make_folder,
    read_json,
    write_json,
)
from pcloud.studies.names import absolute_sources, check_name, free_name, readable_name
from pcloud.studies.rows import joined, row_columns, schema_for
from pcloud.studies.targets import (
    ScoredTargets,
    check_truth,
    scored,
    target_metadata,
    with_particles,
    with_targets,
)
from pcloud.training.config import TrainConfig
from pcloud.training.data import iter_source
from pcloud.training.run_folder import SCORED_JETS, RunFolder
from pcloud.training.run_sample import SampleIdentity, iter_run_sample

__all__ = [
    "evaluate_run",
    "evaluation_folder",
    "evaluation_inputs",
    "known_labels",
    "labels_of_run",
]


def evaluate_run(
    run: RunFolder,
    data: str | Sequence[str] | None = None,
    *,
    split: str = "test",
    name: str | None = None,
    checkpoint: str = "best",
    batch_size: int = 512,
    metrics: dict[str, Any] | None = None,
    **reading: Any,
) -> EvaluationTable:
    """Score labelled jets and measure the performance of the tagger on them.

    The jets are read in chunks, of which only labels and scores are kept. Writes
    ``scores.parquet``, ``metrics.json`` and ``evaluation.json``, which identifies the jets: for the
    test jets of the run into its folder, for other jets, or the weights of the last epoch, into
    ``evaluations/<name>`` there, see :func:`evaluation_folder`.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    data : str or sequence of str, optional
        A data set by name or files; by default the jets of the run.
    split : str
        Split of the run or of the data set.
    name : str, optional
        Name of the evaluation; by default that of the split or of the first file.
    checkpoint : str
        ``"best"`` or ``"last"``.
    batch_size : int
        Jets per batch.
    metrics : dict, optional
        Options of :func:`pcloud.evaluate`.
    **reading
        ``schema``, ``data_root``, ``on_bad_jet``, ``check_units`` instead of those of the run; by
        default the schema of other jets is that of the run if they have its columns, else detected.

    Returns
    -------
    EvaluationTable
        The metrics.

    Raises
    ------
    InputError
        If the jets do not fit the run: no labels or targets that it learned, other classes, absent
        columns; or the folder of the run cannot be written to.
    """
    run.checksum(checkpoint)  # raises before a large file is read
    run.check_predictions()
    run.check_writable()
    if data is not None and "schema" not in reading:
        reading["schema"] = schema_for(run, data)
    place: dict[str, Any] = {"split": split, "name": name, "checkpoint": checkpoint}
    folder = evaluation_folder(run, data, **place, **reading)
    config = run.config.with_options(**reading)
    chunks = partial(_chunks, run, config, data, split)
    identity = SampleIdentity(run)
    options: dict[str, Any] = {"batch_size": batch_size, "checkpoint": checkpoint}
    found = _score(run, chunks, identity, _source(data), **options)
    if data is None:
        identity.warn_of_changed_split(split)
    if data is not None or split == "test":
        identity.warn_of_training_jets()
    table = _table(run, found, metrics or {})
    make_folder(folder)
    inputs = evaluation_inputs(data, split=split, checkpoint=checkpoint, **reading)
    about = {"inputs": inputs, "jets": asdict(identity.fingerprint)}
    write_json(folder / EVALUATION_FILE, about)
    metadata = target_metadata(run.objective)
    with ScoresWriter(folder / SCORES_FILE, run.classes, metadata=metadata) as file:
        predicted = found.targets.columns(run.objective)
        file.write(found.scores, found.labels, found.weights, found.rows, predicted)
    table.write(folder)
    return table


def _table(run: RunFolder, found: _Scored, options: dict[str, Any]) -> EvaluationTable:
    """Metrics of the classes, if the run learned any, of the targets and of labels of particles."""
    samples = found.targets.samples(run.objective, found.weights)
    resampling = {n: options[n] for n in ("num_bootstrap", "seed") if n in options}

    def complete(table: EvaluationTable) -> EvaluationTable:
        labels = found.targets.particles.values()
        return with_particles(with_targets(table, samples), labels, found.weights, **resampling)

    if found.labels is not None:
        noun = run.modality.noun
        scores = Scores.from_arrays(found.labels, found.scores, run.classes, found.weights, noun)
        table = evaluate_scores(scores, **options)
        if run.objective.detects_anomalies:  # at no probability is a jet one of the other class
            table.entries.pop("accuracy", None)
        return complete(table)
    of_classes = [name for name in ("signal", "background", "metrics") if options.get(name)]
    if of_classes:
        run.check_classes(f"the option {of_classes[0]}")
    return complete(EvaluationTable({}, settings={"jets": len(found.scores)}))


def _chunks(
    run: RunFolder, config: TrainConfig, data: str | Sequence[str] | None, split: str
) -> Iterator[Sample]:
    if data is None:
        return iter_run_sample(run, split, SCORED_JETS, config)
    return iter_source(data, config, split, SCORED_JETS, run.feature_set)


@dataclass
class _Scored:
    """Scored jets of a run.

    Attributes
    ----------
    labels : array of int, shape (B,), optional
        Classes, if any were learned.
    scores : array, shape (B, C)
        Probabilities; without columns if no classes were learned.
    weights : array, shape (B,), optional
        Weights.
    rows : dict of str to array, each of shape (B,)
        Columns that say which jets they are, see :func:`pcloud.studies.rows.row_columns`.
    targets : ScoredTargets
        Predictions of the targets.
    """

    labels: np.ndarray | None
    scores: np.ndarray
    weights: np.ndarray | None
    rows: dict[str, Any]
    targets: ScoredTargets


def _score(
    run: RunFolder,
    chunks: Callable[[], Iterator[Sample]],
    identity: SampleIdentity,
    whose: str,
    **options: Any,
) -> _Scored:
    """Scores of all jets of the chunks, of which `identity` takes note."""
    parts: list[_Scored] = []
    objective = run.objective
    for jets in chunks():
        if not parts:
            check_truth(jets, objective, whose)
            if run.classes:
                _check_labels(jets, chunks, run.classes, whose)
        labels = labels_of_run(jets, run.classes, whose) if run.classes else None
        scores, targets = scored(run, jets, **options)
        parts.append(_Scored(labels, scores, weights_of_jets(jets), row_columns(jets), targets))
        identity.add(jets)
        del jets  # before the next chunk is read
    weights = [part.weights for part in parts if part.weights is not None]
    known = [part.labels for part in parts if part.labels is not None]
    return _Scored(
        np.concatenate(known) if known else None,
        np.concatenate([part.scores for part in parts]),
        np.concatenate(weights) if weights else None,
        {name: joined([part.rows[name] for part in parts]) for name in parts[0].rows},
        ScoredTargets.concatenate([part.targets for part in parts]),
    )


def _check_labels(
    first: Sample, chunks: Callable[[], Iterator[Sample]], classes: list[str], whose: str
) -> None:
    """Check the labels before any jet is scored; the files are read only where it is necessary.

    Raises
    ------
    InputError
        If there are no labels, or jets of a class that the run does not know.
    """
    if "label" not in first.fields:
        raise InputError(f"{whose} have no labels: pcloud predict scores them")
    if set(first.attrs.get("classes") or ()) - set(classes):
        for jets in chunks():
            labels_of_run(jets, classes, whose)


def evaluation_folder(
    run: RunFolder,
    data: str | Sequence[str] | None = None,
    *,
    split: str = "test",
    name: str | None = None,
    checkpoint: str = "best",
    **reading: Any,
) -> Path:
    """Folder into which :func:`evaluate_run` writes, with the same arguments.

    It never holds the results of other inputs: if the name is taken by an evaluation of other files,
    of another split or of other weights, a digest of the inputs is appended to it.

    Raises
    ------
    InputError
        If a given name is a path, contains characters of glob patterns, or is that of an evaluation
        with other inputs.
    """
    if data is None and (split, name, checkpoint) == ("test", None, "best"):
        return run.out
    folder = run.out / EVALUATION_FOLDER
    inputs = evaluation_inputs(data, split=split, checkpoint=checkpoint, **reading)
    suffix = "" if checkpoint == "best" else f"-{checkpoint}"
    wanted = f"{split if data is None else readable_name(data)}{suffix}"
    chosen = free_name(
        wanted if name is None else check_name(name),
        inputs,
        lambda known: _stored_inputs(folder / known),
        is_given=name is not None,
    )
    return folder / chosen


def evaluation_inputs(
    data: str | Sequence[str] | None, *, split: str, checkpoint: str, **reading: Any
) -> dict[str, Any]:
    """Plain values that identify the inputs of an evaluation: files, split, weights, reading."""
    inputs = {
        "data": None if data is None else absolute_sources(data),
        "split": split,
        "checkpoint": checkpoint,
        "reading": {name: value for name, value in reading.items() if value is not None},
    }
    return json.loads(json.dumps(inputs, default=_plain))


def _plain(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else str(value)


def _stored_inputs(folder: Path) -> dict[str, Any] | None:
    """Inputs of the evaluation in a folder, empty if not known; None if there is no evaluation."""
    if not folder.exists():
        return None
    try:
        inputs = read_json(folder / EVALUATION_FILE, "inputs", "", lambda values: values["inputs"])
    except (FileNotFoundError, InputError):  # of an earlier version, or damaged
        return {}
    return inputs if isinstance(inputs, dict) else {}


def _source(data: str | Sequence[str] | None) -> str:
    """Jets of an evaluation, for messages."""
    if data is None:
        return "the jets of the run"
    return f"the jets of {data if isinstance(data, str) else ', '.join(data)}"


def labels_of_run(jets: Sample, classes: list[str], whose: str = "these jets") -> np.ndarray:
    """Labels (B,) in the numbering of a run: by the names of the classes, if the jets name them.

    Parameters
    ----------
    jets : awkward.Array or ImageSet
        Labelled jets.
    classes : list of str
        Classes of the run.
    whose : str
        Name of the jets for the error message.

    Raises
    ------
    InputError
        If there are jets of a class that the run does not know.
    """
    known = jets.attrs.get("classes")
    labels = known_labels(jets, classes)
    if known is not None and (labels < 0).any():
        absent = [known[i] for i in np.unique(np.asarray(jets.label)) if known[i] not in classes]
        raise InputError(
            f"{whose} have the classes {', '.join(known)}, the run knows "
            f"{', '.join(classes)}: it cannot be evaluated on {', '.join(absent)}"
        )
    return labels


def known_labels(jets: Sample, classes: list[str]) -> np.ndarray:
    """Labels (B,) in the numbering of a run, -1 for jets of other classes.

    Parameters
    ----------
    jets : awkward.Array or ImageSet
        Labelled jets.
    classes : list of str
        Classes of the run.
    """
    labels = np.asarray(jets.label).astype(np.int64)
    known = jets.attrs.get("classes")
    if known is None or list(known) == classes:
        return labels
    numbers = [classes.index(name) if name in classes else -1 for name in known]
    return np.where(labels < 0, -1, np.array([*numbers, -1])[labels])
