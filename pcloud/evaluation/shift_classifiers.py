"""Classifiers that are trained to separate two samples of jets.

A classifier is a function ``classifier(samples, is_second, in_test, seed) -> scores``. It is
trained on the jets outside the mask `in_test` and returns the scores of the jets inside, in their
order. ``samples.table (B, K)`` holds observables of all jets, ``samples.jets()`` their particles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import UnknownNameError
from pcloud.typing import Booleans

__all__ = ["CLASSIFIERS", "Classifier", "classifier_named"]

Classifier = Callable[[Any, Booleans, Booleans, int], NDArray[np.floating]]


def boosting(samples: Any, is_second: Booleans, in_test: Booleans, seed: int) -> NDArray[Any]:
    """Train gradient-boosted trees on the observables."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=15, min_samples_leaf=10, early_stopping=False, random_state=seed
    )
    trees.fit(samples.table[~in_test], is_second[~in_test])
    return trees.decision_function(samples.table[in_test])


def logistic(samples: Any, is_second: Booleans, in_test: Booleans, seed: int) -> NDArray[Any]:
    """Train a logistic regression on the standardised observables; suited to few jets."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    line.fit(samples.table[~in_test], is_second[~in_test])
    return line.decision_function(samples.table[in_test])


CLASSIFIERS: dict[str, Classifier] = {"boosting": boosting, "logistic": logistic}
"""Classifiers on observables, by name."""


def classifier_named(classifier: str | Classifier) -> Classifier:
    """Classifier on observables by its name; a callable is returned as it is.

    Raises
    ------
    UnknownNameError
        If there is none of this name.
    """
    if callable(classifier):
        return classifier
    if classifier not in CLASSIFIERS:
        raise UnknownNameError("classifier", classifier, CLASSIFIERS)
    return CLASSIFIERS[classifier]
