"""Scores of the jets of files, written to Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcloud.errors import InputError
from pcloud.evaluation.scores import ScoresWriter, weights_of_jets
from pcloud.io.files import check_new_file
from pcloud.run_files import PREDICTIONS_FILE, Advance, ignore_progress
from pcloud.studies.evaluate import labels_of_run
from pcloud.training.run_folder import RunFolder

__all__ = ["Prediction", "predict_file"]


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
    """

    path: Path
    jets: int
    dropped: int

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
        Parquet file to write: ``score_<class>`` for each class, ``label`` if known; or a folder,
        for its file ``predictions.parquet``, whose calibration goes before that of the run.
    overwrite : bool
        Whether `out` may exist.
    schema, on_bad_jet, check_units
        As in :func:`pcloud.read_jets`. A jet that is dropped has no row.
    checkpoint : str
        ``"best"`` or ``"last"``.
    batch_size, chunk_size : int
        Number of jets per batch of the network and per chunk of the file.
    calibrated : bool
        Whether to write calibrated probabilities, see :meth:`~pcloud.Run.predict`.
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
    out = Path(out)
    if out.is_dir():
        run = run.writing_to(out)
        out = out / PREDICTIONS_FILE
    if out.suffix != ".parquet":
        raise InputError(f"scores are written as Parquet: {out} must end in .parquet")
    check_new_file(out, overwrite)
    run.checksum(checkpoint)
    if calibrated:
        run.calibration(checkpoint)
    whose = f"the jets of {path if isinstance(path, str) else ', '.join(path)}"
    total, chunks = run.modality.stream(
        path,
        chunk_size=chunk_size,
        inputs=run.feature_set,
        schema=schema,
        on_bad_jet=on_bad_jet,
        check_units=check_units,
    )
    number = 0
    with ScoresWriter(out, run.classes) as file:
        for jets in chunks:
            scores = run.predict(
                jets, batch_size=batch_size, checkpoint=checkpoint, calibrated=calibrated
            )
            labels = labels_of_run(jets, run.classes, whose) if "label" in jets.fields else None
            file.write(scores, labels, weights_of_jets(jets))
            number += len(jets)
            advance(len(jets) / max(total, 1))
            del jets  # before the next chunk is read
    return Prediction(out, number, total - number)
