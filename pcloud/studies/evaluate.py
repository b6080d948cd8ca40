"""Study of the performance of a run: scores of labelled jets, and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable, evaluate
from pcloud.evaluation.scores import ScoresWriter
from pcloud.run_files import EVALUATION_FOLDER, SCORES_FILE, make_folder
from pcloud.training.data import load_jets, load_splits
from pcloud.training.inputs import Sample
from pcloud.training.run_folder import RunFolder

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

    Writes ``scores.parquet`` and ``metrics.json``: for the test jets of the run into its folder,
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
        If the jets do not fit the run: no labels, other classes, absent columns; or the folder of
        the run cannot be written to.
    """
    run.checksum(checkpoint)  # raises before a large file is read
    folder = evaluation_folder(run, data, split=split, name=name)
    run.check_writable()
    if data is not None and "schema" not in reading:
        reading["schema"] = None
    config = replace(run.config, **reading)
    jets = load_splits(config, split)[0] if data is None else load_jets(data, config, split)
    if "label" not in jets.fields:
        raise InputError(f"{_source(data)} have no labels: pcloud predict scores them")
    labels = labels_of_run(jets, run.classes, _source(data))
    scores = run.predict(jets, batch_size=batch_size, checkpoint=checkpoint)
    table = evaluate(labels, scores, classes=run.classes, **(metrics or {}))
    make_folder(folder)
    with ScoresWriter(folder / SCORES_FILE, run.classes) as file:
        file.write(scores, labels)
    table.write(folder)
    return table


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
    labels = np.asarray(jets.label).astype(np.int64)
    known = jets.attrs.get("classes")
    if known is None or list(known) == classes:
        return labels
    absent = [known[i] for i in np.unique(labels) if known[i] not in classes]
    if absent:
        raise InputError(
            f"{whose} have the classes {', '.join(known)}, the run knows "
            f"{', '.join(classes)}: it cannot be evaluated on {', '.join(absent)}"
        )
    return np.array([classes.index(n) if n in classes else -1 for n in known])[labels]
