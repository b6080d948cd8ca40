"""Study of the performance of a run: scores of labelled jets, and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable, evaluate
from pcloud.evaluation.scores import ScoresWriter
from pcloud.run_files import EVALUATION_FOLDER, SCORES_FILE
from pcloud.training.config import TrainConfig
from pcloud.training.data import iter_source, iter_split
from pcloud.training.inputs import Sample
from pcloud.training.run_folder import SCORED_JETS, RunFolder

__all__ = ["evaluate_run", "evaluation_folder", "labels_of_run"]


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

    The jets are read in chunks, of which only labels and scores are kept. Writes ``scores.parquet`` and ``metrics.json``: for the test jets of the run into its folder,
    for other jets into ``evaluations/<name>`` there, see :func:`evaluation_folder`.

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
        default the schema of other jets is detected.

    Returns
    -------
    EvaluationTable
        The metrics.

    Raises
    ------
    InputError
        If the jets do not fit the run: no labels, other classes, absent columns.
    """
    run.checksum(checkpoint)  # raises before a large file is read
    if data is not None and "schema" not in reading:
        reading["schema"] = None
    config = replace(run.config, **reading)
    labels, scores = _score(
        run,
        partial(_chunks, run, config, data, split),
        batch_size=batch_size,
        checkpoint=checkpoint,
    )
    table = evaluate(labels, scores, classes=run.classes, **(metrics or {}))
    folder = evaluation_folder(run, data, split=split, name=name)
    folder.mkdir(parents=True, exist_ok=True)
    with ScoresWriter(folder / SCORES_FILE, run.classes) as file:
        file.write(scores, labels)
    table.write(folder)
    return table


def _chunks(
    run: RunFolder, config: TrainConfig, data: str | Sequence[str] | None, split: str
) -> Iterator[Sample]:
    if data is None:
        return iter_split(config, split, SCORED_JETS, run.feature_set)
    return iter_source(data, config, split, SCORED_JETS, run.feature_set)


def _score(
    run: RunFolder, chunks: Callable[[], Iterator[Sample]], **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (B,) and scores (B, C) of all jets of the chunks."""
    labels: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    for jets in chunks():
        if not labels:
            _check_labels(jets, chunks, run.classes)
        labels.append(labels_of_run(jets, run.classes))
        scores.append(run.predict(jets, **options))
        del jets  # before the next chunk is read
    return np.concatenate(labels), np.concatenate(scores)


def _check_labels(
    first: Sample, chunks: Callable[[], Iterator[Sample]], classes: list[str]
) -> None:
    """Check the labels before any jet is scored; the files are read only where it is necessary.

    Raises
    ------
    InputError
        If there are no labels, or jets of a class that the run does not know.
    """
    if "label" not in first.fields:
        raise InputError("these jets have no labels: pcloud predict scores them")
    if set(first.attrs.get("classes") or ()) - set(classes):
        for jets in chunks():
            labels_of_run(jets, classes)


def evaluation_folder(
    run: RunFolder,
    data: str | Sequence[str] | None = None,
    *,
    split: str = "test",
    name: str | None = None,
) -> Path:
    """Folder into which :func:`evaluate_run` writes, with the same arguments."""
    if data is None and split == "test" and name is None:
        return run.path
    if name is None:
        first = data if isinstance(data, str) or data is None else data[0]
        name = split if first is None else Path(first).stem
    return run.path / EVALUATION_FOLDER / name


def labels_of_run(jets: Sample, classes: list[str]) -> np.ndarray:
    """Labels (B,) in the numbering of a run: by the names of the classes, if the jets name them.

    Raises
    ------
    InputError
        If there are jets of a class that the run does not know.
    """
    labels = np.asarray(jets.label).astype(np.int64)
    known = jets.attrs.get("classes")
    if known is None or list(known) == classes:
        return labels
    absent = [known[i] for i in np.unique(labels) if known[i] not in classes]
    if absent:
        raise InputError(
            f"these jets have the classes {', '.join(known)}, the run knows "
            f"{', '.join(classes)}: it cannot be evaluated on {', '.join(absent)}"
        )
    return np.array([classes.index(n) if n in classes else -1 for n in known])[labels]
