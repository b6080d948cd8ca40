"""Study of all folds of a cross-validation: each jet is scored by the network that has not seen it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable, evaluate, read_scores
from pcloud.evaluation.figures import roc_figure, save_figure
from pcloud.evaluation.scores import PREFIX, REASON, WEIGHT, ScoresWriter, read_parquet
from pcloud.io.load import ENTRY, INDEX
from pcloud.keys import Fingerprint
from pcloud.run_files import EVALUATION_FILE, FIGURE_FOLDER, SCORES_FILE, make_folder, write_json
from pcloud.studies.evaluate import evaluate_run
from pcloud.studies.rows import FILE
from pcloud.training.fingerprint import stored_fingerprints
from pcloud.training.folds import Fold
from pcloud.training.run_folder import RunFolder

__all__ = ["FOLD", "check_folds", "merge_folds"]

FOLD = "fold"
"""Column of the number of the fold whose network has scored a jet."""

_EQUAL_OPTIONS = ("split_seed", "model", "features", "jet_features", "max_jets", "max_val_jets")


def merge_folds(
    runs: Sequence[RunFolder],
    out: str | Path,
    *,
    batch_size: int = 512,
    tell: Callable[[str], object] = lambda text: None,
    **metrics: Any,
) -> EvaluationTable:
    """Evaluate the test jets of all folds as one sample.

    Each run is evaluated as by :func:`~pcloud.studies.evaluate.evaluate_run`. Into `out` are written
    ``scores.parquet``, in the order of the files and with the column ``fold``, ``metrics.json``,
    ``evaluation.json`` and a figure of the ROC curve.

    Parameters
    ----------
    runs : sequence of RunFolder
        Runs of all folds, in any order.
    out : path
        Folder of the results.
    batch_size : int
        Jets per batch.
    tell : callable
        Called with a line of text before each run is evaluated.
    **metrics
        Options of :func:`pcloud.evaluate`.

    Raises
    ------
    InputError
        If the runs are not all folds of the same jets.
    """
    folds = check_folds(runs)
    out = Path(out)
    make_folder(out)
    parts = []
    for run, fold in zip(runs, folds, strict=True):
        tell(f"fold {fold}: {run.path}")
        evaluate_run(run, batch_size=batch_size, metrics=metrics)
        part = read_parquet(run.out / SCORES_FILE)
        parts.append(part.append_column(FOLD, pa.array(np.full(len(part), fold.index, np.int32))))
    table = _in_order_of_files(pa.concat_tables(parts))
    own = {"label", WEIGHT, REASON, *(PREFIX + name for name in runs[0].classes)}
    scores = np.stack([table[PREFIX + name].to_numpy() for name in runs[0].classes], axis=1)
    weights = table[WEIGHT].to_numpy() if WEIGHT in table.column_names else None
    others = {name: table[name] for name in table.column_names if name not in own}
    with ScoresWriter(out / SCORES_FILE, runs[0].classes) as file:
        file.write(scores, table["label"].to_numpy(), weights, others)
    merged = read_scores(out / SCORES_FILE)
    found = evaluate(
        merged.labels, merged.values, classes=merged.classes, weights=merged.weights, **metrics
    )
    found.write(out)
    about = {"folds": {str(f): str(r.path.resolve()) for r, f in zip(runs, folds, strict=True)}}
    write_json(out / EVALUATION_FILE, about)
    chosen = {name: metrics[name] for name in ("signal", "background") if name in metrics}
    save_figure(roc_figure(merged, **chosen), out / FIGURE_FOLDER / "roc")
    return found


def check_folds(runs: Sequence[RunFolder]) -> list[Fold]:
    """Folds of some runs, which must be all folds of the same jets.

    Raises
    ------
    InputError
        If they are not.
    """
    folds = []
    for run in runs:
        if run.config.inputs.part is None:
            raise InputError(f"{run.path} is no fold: train it with --fold i/{len(runs)}")
        folds.append(run.config.inputs.part)
    first = runs[0]
    for run, fold in zip(runs[1:], folds[1:], strict=True):
        if fold.number != folds[0].number:
            raise InputError(f"{first.path} is fold {folds[0]}, but {run.path} is fold {fold}")
        if run.classes != first.classes:
            raise InputError(
                f"{first.path} has the classes {', '.join(first.classes)}, but {run.path} "
                f"{', '.join(run.classes)}"
            )
        for name in _EQUAL_OPTIONS:
            ours, theirs = getattr(first.config, name), getattr(run.config, name)
            if ours != theirs:
                raise InputError(
                    f"{first.path} has {name} {ours}, but {run.path} {theirs}: they are no folds of "
                    "one training"
                )
    numbers = sorted(fold.index for fold in folds)
    if numbers != list(range(1, folds[0].number + 1)):
        found = ", ".join(map(str, numbers))
        raise InputError(
            f"merging needs each of the folds 1 to {folds[0].number} once, got {found}"
        )
    _check_jets(runs)
    return folds


def _check_jets(runs: Sequence[RunFolder]) -> None:
    """Check that the jets of the runs are the same, and their test jets all of these.

    Both follow from the sums of the hashes of the jets. Runs with some of the jets (`max_jets`) do not
    know the others.
    """
    if any(getattr(runs[0].config, name) is not None for name in ("max_jets", "max_val_jets")):
        return
    prints = [stored_fingerprints(run.fingerprint) for run in runs]
    if any(set(found) != {"train", "val", "test"} for found in prints):
        return  # unreadable checkpoints, of which there is a warning
    totals = [_total(found.values()) for found in prints]
    for run, total in zip(runs, totals, strict=True):
        if total != totals[0]:
            raise InputError(
                f"{runs[0].path} was trained on other jets than {run.path}: {totals[0][0]:,} with "
                f"fingerprint {totals[0][1]:016x}, and {total[0]:,} with {total[1]:016x}"
            )
    if _total(found["test"] for found in prints) != totals[0]:
        raise InputError(
            f"the test jets of the folds of {runs[0].path} are not all jets, each once"
        )


def _total(prints: Iterable[Fingerprint]) -> tuple[int, int]:
    """Number of jets of several fingerprints, and the sum of their hashes."""
    found = list(prints)
    content = sum(int(each.content, 16) for each in found) % 2**64
    return sum(each.jets for each in found), content


def _in_order_of_files(table: pa.Table) -> pa.Table:
    """Rows in the order of files and entries, where these are known."""
    names = [name for name in (FILE, ENTRY, INDEX) if name in table.column_names]
    if not names:
        return table
    if FILE in names:
        place = table.column_names.index(FILE)
        table = table.set_column(place, FILE, table[FILE].cast(pa.string()))
    return table.sort_by([(name, "ascending") for name in names])
