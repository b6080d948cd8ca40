"""Comparison of files of jets, with the scores of a run: what ``pcloud compare`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from pcloud.evaluation.shift import ShiftTest, compare_jets, jet_columns
from pcloud.evaluation.shift_classifiers import classifier_named
from pcloud.io import read_jets

__all__ = ["SHIFT_FOLDER", "compare_files"]

SHIFT_FOLDER = "shift"


def compare_files(
    first: str,
    second: str,
    *,
    run: str | Path | None = None,
    out: str | Path | None = None,
    classifier: str = "boosting",
    max_jets: int = 20_000,
    permutations: int = 1000,
    seed: int = 0,
    **reading: Any,
) -> tuple[ShiftTest, list[Path]]:
    """Test whether the jets of two files differ.

    Parameters
    ----------
    first, second : str
        The files.
    run : path, optional
        Folder of a run: the log-odds of its classes are observables too, and the result goes into
        its folder ``shift``, where its report finds it.
    out : path, optional
        Another folder for the result, ``<first>_<second>.json`` and ``.png``.
    max_jets : int
        Of each file, drawn at random.
    classifier, permutations, seed
        As for :func:`pcloud.evaluation.shift.compare_jets`.
    **reading
        Options of :func:`pcloud.read_jets`.

    Returns
    -------
    ShiftTest
        The result.
    list of Path
        What was written.
    """
    classifier_named(classifier)  # an unknown name is said before large files are read
    from pcloud.evaluation.figures import save_figure
    from pcloud.evaluation.figures.shift import shift_figure
    from pcloud.training.run import Run

    tagger = None if run is None else Run(run)
    samples = [_drawn(read_jets(path, **reading), max_jets, seed) for path in (first, second)]
    found = compare_jets(
        *samples,
        classifier=classifier,
        scores=None if tagger is None else tagger.predict,
        permutations=permutations,
        seed=seed,
    )
    name = f"{Path(first).stem}_{Path(second).stem}"
    folders = [Path(out)] if out is not None else []
    folders += [] if tagger is None else [tagger.path / SHIFT_FOLDER]
    files = []
    columns = [jet_columns(jets) for jets in samples]
    shown = [d for d in found.differences if all(d.observable in c for c in columns)]
    for folder in folders:
        files.append(found.write(folder / f"{name}.json"))
        names = (Path(first).stem, Path(second).stem)
        files += save_figure(shift_figure(*columns, shown, names=names), folder / name)
    return found, files


def _drawn(jets: ak.Array, number: int, seed: int) -> ak.Array:
    if len(jets) <= number:
        return jets
    return jets[np.sort(np.random.default_rng(seed).permutation(len(jets))[:number])]
