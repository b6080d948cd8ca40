"""Scores of the jets of files, written to Parquet."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pcloud.errors import InputError
from pcloud.evaluation.scores import ScoresWriter, read_origin, weights_of_jets
from pcloud.io.files import check_new_file, expand_paths, file_identity, mirrored_paths
from pcloud.io.load import REASON
from pcloud.io.read import FILES, LEFT_OUT
from pcloud.objectives.of_target import Regression
from pcloud.run_files import (
    CALIBRATION_FILE,
    INTERVALS_FILE,
    Advance,
    check_writable,
    ignore_progress,
    make_folder,
)
from pcloud.scheduler import Scheduler
from pcloud.studies.evaluate import known_labels
from pcloud.studies.intervals import read_intervals
from pcloud.studies.rows import row_columns, schema_for, with_names_of_files
from pcloud.studies.targets import scored, target_metadata
from pcloud.training.run_folder import RunFolder

__all__ = ["FilePrediction", "Prediction", "predict_file", "predict_files"]


@dataclass(frozen=True)
class Prediction:
    """Result of scoring files.

    Parameters
    ----------
    path : Path
        Parquet file of the scores.
    jets : int
        Number of jets scored.
    dropped : int
        Number of bad jets without a row.
    is_old : bool
        True if the scores were there already.
    """

    path: Path
    jets: int
    dropped: int
    is_old: bool = False

    def rows(self) -> list[list[str]]:
        """Table with the numbers of jets."""
        return [
            ["file", "jets", "dropped"],
            [str(self.path), f"{self.jets:,}", f"{self.dropped:,}"],
        ]


def predict_file(
    run: RunFolder,
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
    origin: Mapping[str, Any] | None = None,
    advance: Advance = ignore_progress,
) -> Prediction:
    """Score the jets of files, a chunk at a time, and write the scores to a Parquet file.

    The file appears when it is complete. Jets need no labels; labels they have are kept.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    path : str or sequence of str
        Files of jets; for a network on images files of images, of which the test split is scored
        if they have splits.
    out : path
        Parquet file to write: the file and row of each jet, kept columns of the schema, ``label``
        if it is that of a class of the run, ``weight``, ``score_<class>`` for each class,
        ``pred_<target>`` and further columns for each target, see docs/regression.md. A jet that is
        left out has a row at the end of its chunk, with ``reason`` and no scores.
    overwrite : bool
        Whether `out` may exist.
    schema, on_bad_jet, check_units
        As in :func:`pcloud.read_jets`; by default the schema of the run, if the file has its
        columns.
    checkpoint : str
        ``"best"`` or ``"last"``.
    batch_size, chunk_size : int
        Number of jets per batch of the network and per chunk of the file.
    calibrated : bool
        Whether to write calibrated probabilities, see :meth:`~pcloud.Run.predict`, and conformal
        intervals of the targets.
    origin : dict, optional
        Plain values to store with the scores, see :func:`pcloud.evaluation.scores.read_origin`.
    advance : callable
        Progress callback, called after every chunk with the part of the whole work done.

    Returns
    -------
    Prediction
        File and number of jets.

    Raises
    ------
    InputError
        If `out` does not end in .parquet, or jets or run cannot be used.
    FileExistsError
        If `out` exists and `overwrite` is false.
    FileNotFoundError
        If its folder does not exist, or there is no such file of jets.
    """
    run.check_predictions()
    out = Path(out)
    if out.suffix != ".parquet":
        raise InputError(f"scores are written as Parquet: {out} must end in .parquet")
    check_new_file(out, overwrite)
    run.checksum(checkpoint)
    run.check_scores("a prediction")
    intervals = None
    if calibrated:
        if run.classes:
            run.calibration(checkpoint)
        if any(isinstance(part, Regression) for part in run.objective):
            intervals = read_intervals(run, checkpoint)
    total, chunks = run.modality.stream(
        path,
        chunk_size=chunk_size,
        inputs=run.feature_set,
        schema=schema_for(run, path) if schema is None else schema,
        on_bad_jet=on_bad_jet,
        check_units=check_units,
    )
    number = 0
    objective, has_classes = run.objective, bool(run.classes)
    with ScoresWriter(out, run.classes, origin, target_metadata(objective)) as file:
        for jets in chunks:
            scores, targets = scored(
                run, jets, batch_size=batch_size, checkpoint=checkpoint, calibrated=calibrated
            )
            has_labels = has_classes and "label" in jets.fields
            labels = known_labels(jets, run.classes) if has_labels else None
            predicted = targets.columns(objective)
            if intervals is not None:
                predicted |= intervals.columns(objective, targets)
            file.write(scores, labels, weights_of_jets(jets), row_columns(jets), predicted)
            for left_out in jets.attrs.get(LEFT_OUT, ()):
                reasons = left_out.pop(REASON)
                file.write_left_out(with_names_of_files(left_out, jets.attrs[FILES]), reasons)
            number += len(jets)
            advance(len(jets) / max(total, 1))
            del jets  # before the next chunk is read
    return Prediction(out, number, total - number)


def predict_files(
    run: RunFolder,
    paths: str | Sequence[str],
    folder: str | Path,
    *,
    overwrite: bool = False,
    checkpoint: str = "best",
    calibrated: bool = False,
    advance: Advance = ignore_progress,
    scheduler: Scheduler | None = None,
    **options: Any,
) -> list[Prediction]:
    """Score the jets of many files, and write one Parquet file of scores for each.

    A file of scores has the name of the file of jets, below the deepest folder that contains all of
    these. Where it exists already, with scores of the same jets by the same network, it stays: an
    interrupted command continues when it is repeated.

    Parameters
    ----------
    run : RunFolder
        The trained tagger.
    paths : str or sequence of str
        Files, glob patterns or folders.
    folder : path
        Folder of the scores, created if it does not exist. Its calibration goes before that of the
        run.
    overwrite : bool
        Whether scores of other jets, or by another network, are replaced.
    checkpoint, calibrated
        As for :func:`predict_file`.
    advance : callable
        Progress callback, called after every chunk with the part of the whole work done.
    scheduler : Scheduler, optional
        Processes that score the files; by default this one.
    **options
        Further options of :func:`predict_file`.

    Returns
    -------
    list of Prediction
        One for each file.

    Raises
    ------
    FileExistsError
        If there are other scores in the folder and `overwrite` is false; before any are computed.
    InputError, FileNotFoundError
        As from :func:`predict_file`.
    """
    run.check_predictions()
    files = expand_paths(paths)
    outputs = mirrored_paths(files, Path(folder))
    run = run.writing_to(folder)
    network: dict[str, Any] = {"checksum": run.checksum(checkpoint), "checkpoint": checkpoint}
    if calibrated:
        if run.classes:
            run.calibration(checkpoint)  # raises if it is that of other weights
            network["calibration"] = zlib.crc32(run.stored(CALIBRATION_FILE).read_bytes())
        if any(isinstance(part, Regression) for part in run.objective):
            read_intervals(run, checkpoint)
            network["intervals"] = zlib.crc32(run.stored(INTERVALS_FILE).read_bytes())
    network["schema"] = str(options.get("schema"))
    network["on_bad_jet"] = options.get("on_bad_jet", "error")
    origins = [network | file_identity(file) for file in files]
    is_done = [read_origin(out) == origin for out, origin in zip(outputs, origins, strict=True)]
    make_folder(folder)
    check_writable(folder)
    for out, done in zip(outputs, is_done, strict=True):
        if out.exists() and not (done or overwrite):
            raise FileExistsError(
                f"{out}: exists already, with scores of other jets or by another network; "
                "overwrite=True (--overwrite) replaces it"
            )
    options |= {"checkpoint": checkpoint, "calibrated": calibrated}
    work = [
        FilePrediction(run.path, Path(folder), run.trust_code, file, out, origin, options)
        for file, out, origin in zip(files, outputs, origins, strict=True)
    ]
    predictions = {
        out: Prediction(out, pq.read_metadata(out).num_rows, 0, is_old=True)
        for out, done in zip(outputs, is_done, strict=True)
        if done
    }
    missing = [part for part, done in zip(work, is_done, strict=True) if not done]
    if predictions:
        advance(len(predictions) / len(files))

    def advance_part(part: float) -> None:
        advance(part / len(files))

    if scheduler is None:
        made = [part.score(run, advance_part) for part in missing]
    else:
        share = len(missing) / len(files)
        made = list(scheduler.run(missing, lambda part: advance(part * share)))
    predictions |= {prediction.path: prediction for prediction in made}
    return [predictions[out] for out in outputs]


@dataclass(frozen=True)
class FilePrediction:
    """Scoring of one file, which a process of its own can do.

    Parameters
    ----------
    run, folder : Path
        Folder of the run, and folder of the scores, whose calibration goes before that of the run.
    trust_code : bool
        Run Python code that the run names.
    file, out : Path
        File of jets, and file of their scores.
    origin : dict
        Plain values that identify jets, network and options.
    options : dict
        Options of :func:`predict_file`.
    """

    run: Path
    folder: Path
    trust_code: bool
    file: Path
    out: Path
    origin: dict[str, Any]
    options: dict[str, Any]

    def __call__(self) -> Prediction:
        """Score the file."""
        return self.score(_open_run(str(self.run), str(self.folder), self.trust_code))

    def score(self, run: RunFolder, advance: Advance = ignore_progress) -> Prediction:
        """Score the file by an open run."""
        make_folder(self.out.parent)
        return predict_file(
            run,
            str(self.file),
            self.out,
            overwrite=True,
            origin=self.origin,
            advance=advance,
            **self.options,
        )


@lru_cache(maxsize=1)
def _open_run(path: str, folder: str, trust_code: bool) -> RunFolder:
    """Run whose network a process reads once for all of its files."""
    return RunFolder(path, trust_code=trust_code).writing_to(folder)
