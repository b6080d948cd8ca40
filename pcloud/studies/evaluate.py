"""Scores of a trained tagger: of its test jets, with an evaluation, or of any file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable, evaluate, write_metrics
from pcloud.images.image_set import ImageFormat
from pcloud.io import count_jets, iter_jets
from pcloud.training.data import load_jets, load_splits
from pcloud.training.image_splits import load_images
from pcloud.training.inputs import Sample
from pcloud.training.run import Run

__all__ = ["count_file", "evaluate_run", "predict_file"]


def evaluate_run(
    run: Run,
    data: str | Sequence[str] | None = None,
    *,
    split: str = "test",
    name: str | None = None,
    checkpoint: str = "best",
    batch_size: int = 512,
    metrics: dict[str, Any] | None = None,
    **reading: Any,
) -> tuple[EvaluationTable, Path]:
    """Score labelled jets and measure how well their classes are told apart.

    The test jets of the run leave ``scores.parquet`` and ``metrics.json`` in its folder, other
    jets in ``evaluations/<name>`` there.

    Parameters
    ----------
    run : Run
        The trained tagger.
    data : str or sequence of str, optional
        A data set by name or files; by default the jets of the run.
    split : str
        Which split of the run or the data set.
    name : str, optional
        Name of the evaluation; by default that of the split or of the first file.
    checkpoint : str
        ``"best"`` or ``"last"``.
    batch_size : int
        Jets per batch.
    metrics : dict, optional
        Options of :func:`pcloud.evaluate`.
    **reading
        ``schema``, ``data_root``, ``on_bad_jet``, ``check_units`` in the place of the run's; the
        schema of other jets is recognised.

    Returns
    -------
    table : EvaluationTable
        The metrics.
    folder : Path
        Where they were written.

    Raises
    ------
    InputError
        If the jets do not fit the run: no labels, other classes, absent columns.
    """
    run.checksum(checkpoint)  # say that there is none before reading a large file
    if data is not None and "schema" not in reading:
        reading["schema"] = None
    config = replace(run.config, **reading)
    jets = load_splits(config, split)[0] if data is None else load_jets(data, config, split)
    if "label" not in jets.fields:
        raise InputError("these jets have no labels: pcloud predict scores them")
    labels = _labels(jets, run.classes)
    scores = run.predict(jets, batch_size=batch_size, checkpoint=checkpoint)
    table = evaluate(labels, scores, classes=run.classes, **(metrics or {}))
    folder = _evaluation_folder(run, data, split, name)
    folder.mkdir(parents=True, exist_ok=True)
    with _ScoresFile(folder / "scores.parquet", run.classes) as file:
        file.write(scores, labels)
    write_metrics(folder, table)
    return table, folder


def predict_file(
    run: Run,
    path: str | Sequence[str],
    out: str | Path,
    *,
    overwrite: bool = False,
    schema: Any = None,
    on_bad_jet: str = "error",
    check_units: bool = True,
    checkpoint: str = "best",
    batch_size: int = 512,
    chunk_size: int = 50_000,
    calibrated: bool = False,
    advance: Callable[[int], Any] = lambda jets: None,
) -> int:
    """Score the jets of files, a chunk at a time, to a Parquet file.

    The file appears when it is complete. Jets need no labels; those they have are kept.

    Parameters
    ----------
    run : Run
        The trained tagger.
    path : str or sequence of str
        The files; for a network on images one file of images, of which the test part is scored
        where it has parts.
    out : path
        Parquet file to write: ``score_<class>`` for each class, ``label`` where known.
    overwrite : bool
        Whether `out` may exist.
    schema, on_bad_jet, check_units
        As in :func:`pcloud.read_jets`. A jet that is dropped has no row.
    checkpoint : str
        ``"best"`` or ``"last"``.
    batch_size, chunk_size : int
        Jets per batch of the network and per chunk of the file.
    calibrated : bool
        Whether to write calibrated probabilities, see :meth:`Run.predict`.
    advance : callable
        Called with the number of jets of every chunk, for a progress bar.

    Returns
    -------
    int
        Number of jets scored.

    Raises
    ------
    InputError
        If `out` does not end in .parquet, or jets or run cannot be used.
    FileExistsError
        If `out` exists and `overwrite` is false.
    FileNotFoundError
        If its folder does not exist, or there is no such file of jets.
    """
    out = Path(out)
    if out.suffix != ".parquet":
        raise InputError(f"scores are written as Parquet: {out} must end in .parquet")
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists already; overwrite=True (--overwrite) replaces it")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"no folder {out.absolute().parent} to write {out.name} to")
    run.checksum(checkpoint)
    if calibrated:
        run.calibration(checkpoint)
    number = 0
    with _ScoresFile(out, run.classes) as file:
        reading = {"on_bad_jet": on_bad_jet, "check_units": check_units}
        for jets in _chunks(run, path, chunk_size, schema=schema, **reading):
            scores = run.predict(
                jets, batch_size=batch_size, checkpoint=checkpoint, calibrated=calibrated
            )
            file.write(scores, _labels(jets, run.classes) if "label" in jets.fields else None)
            number += len(jets)
            advance(len(jets))
    return number


def count_file(run: Run, path: str | Sequence[str], schema: Any = None) -> int:
    """Number of jets, or images, that :func:`predict_file` will find in files."""
    if isinstance(run.feature_set, ImageFormat):
        return len(load_images(path, "test"))
    return count_jets(path, schema)


def _chunks(
    run: Run, path: str | Sequence[str], chunk_size: int, **reading: Any
) -> Iterator[Sample]:
    if isinstance(run.feature_set, ImageFormat):
        images = load_images(path, "test")
        return (images[i : i + chunk_size] for i in range(0, len(images), chunk_size))
    return iter_jets(path, chunk_size=chunk_size, **reading)


def _labels(jets: Sample, classes: list[str]) -> np.ndarray:
    """Labels in the numbering of a run: where both name their classes, by name."""
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


def _evaluation_folder(
    run: Run, data: str | Sequence[str] | None, split: str, name: str | None
) -> Path:
    if data is None and split == "test" and name is None:
        return run.path
    if name is None:
        first = data if isinstance(data, str) or data is None else data[0]
        name = split if first is None else Path(first).stem
    return run.path / "evaluations" / name


class _ScoresFile:
    """Parquet file of scores that appears under its name when it is complete."""

    def __init__(self, path: Path, classes: list[str]) -> None:
        self.path = path
        self.classes = classes
        self._new = path.with_name(f".{path.name}.new")
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _ScoresFile:
        return self

    def write(self, scores: np.ndarray, labels: np.ndarray | None) -> None:
        """Add rows: ``scores (B, C)`` and ``labels (B,)``, or None for unlabelled jets."""
        columns = {} if labels is None else {"label": labels}
        columns |= {f"score_{name}": scores[:, i] for i, name in enumerate(self.classes)}
        metadata = {b"classes": json.dumps(self.classes)}
        table = pa.table(columns).replace_schema_metadata(metadata)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._new, table.schema)
        self._writer.write_table(table)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._writer is None and kind is None:
            self.write(np.empty((0, len(self.classes))), None)
        if self._writer is not None:
            self._writer.close()
        if kind is None:
            self._new.replace(self.path)
        else:
            self._new.unlink(missing_ok=True)
