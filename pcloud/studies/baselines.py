"""Study of a run on a table beside boosted trees, trained on the same events and columns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.scores import Scores, weights_of_jets
from pcloud.run_files import SCORES_FILE
from pcloud.studies.comparison import RunComparison, compare_taggers
from pcloud.training.data import load_splits
from pcloud.training.run_folder import RunFolder
from pcloud.training.run_sample import load_run_sample

__all__ = ["NAME", "boosted_trees", "compare_with_trees", "has_rows"]

NAME = "boosted trees"
"""Name of the baseline in a table."""


def has_rows(run: RunFolder) -> bool:
    """Return whether the inputs of a run are one row of numbers per event, which trees take."""
    return bool(run.feature_set.names) and not run.modality.has_momenta


def boosted_trees(run: RunFolder, *, seed: int = 0) -> Scores:
    """Train boosted trees on the training events of a run, and score its test events.

    The trees take the columns of the network, with missing values, and the weights of the events.

    Parameters
    ----------
    run : RunFolder
        Run on a table.
    seed : int
        Seed of the validation events, a tenth, with which the trees stop early.

    Returns
    -------
    Scores
        Labels, probabilities and weights of the test events.

    Raises
    ------
    InputError
        If the run takes other data, or learned no classes, or has negative weights.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    if not has_rows(run):
        raise InputError(f"{NAME} take tables, and this run takes {run.modality.noun}")
    run.check_classes(NAME)
    (train,) = load_splits(run.config, "train", inputs=run.feature_set)
    test = load_run_sample(run, "test")
    weights = weights_of_jets(train)
    if weights is not None and (weights < 0).any():
        raise InputError(f"{NAME} need weights that are not negative")
    x, x_test = (_values(run, sample) for sample in (train, test))
    trees = HistGradientBoostingClassifier(early_stopping=True, random_state=seed, max_iter=500)
    trees.fit(x, np.asarray(train.label), sample_weight=weights)
    scores = np.zeros((len(x_test), len(run.classes)))
    scores[:, trees.classes_] = trees.predict_proba(x_test)
    return Scores.from_arrays(test.label, scores, run.classes, weights_of_jets(test))


def compare_with_trees(run: RunFolder, **options: object) -> RunComparison:
    """Compare a run on a table with boosted trees on the same test events, with paired errors.

    Parameters
    ----------
    run : RunFolder
        Run whose test events were evaluated.
    **options
        Options of :func:`~pcloud.studies.comparison.compare_taggers`: `efficiencies`, `signal`,
        `background`, `figure`.

    Raises
    ------
    InputError
        As from :func:`boosted_trees`, or if the test events were not evaluated.
    """
    from pcloud.evaluation.scores import read_scores

    path = run.stored(SCORES_FILE)
    if not path.exists():
        raise InputError(f"{run.path} has no {SCORES_FILE}: run.evaluate() scores the test events")
    taggers = {run.path.name: read_scores(path), NAME: boosted_trees(run)}
    found, _ = compare_taggers(taggers, **options)  # type: ignore[arg-type]
    found.write(run.out)
    return found


def _values(run: RunFolder, sample: object) -> NDArray[np.floating]:
    """Columns (B, F), NaN where a value is missing."""
    rows = run.modality.rows(sample, run.feature_set, math.nan)
    assert rows is not None
    return rows.numpy()
