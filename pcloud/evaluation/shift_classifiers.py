"""Classifiers that are trained to separate two samples of jets.

A classifier is a function ``classifier(samples, is_second, in_test, seed) -> scores``. It is
trained on the jets outside the mask `in_test` and returns the scores of the jets inside, in their
order. ``samples.table (B, K)`` holds observables of all jets, ``samples.jets()`` their particles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from pcloud.errors import UnknownNameError
from pcloud.typing import Booleans

__all__ = ["CLASSIFIERS", "Classifier", "classifier_named", "network"]

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
"""Classifiers on observables by name; any other name is that of a model."""


def network(
    name: str, *, epochs: int = 5, batch_size: int = 128, lr: float = 3e-3, features: str = "kin"
) -> Classifier:
    """Return a classifier that trains a registered model on the particles from random weights."""

    def classify(samples: Any, is_second: Booleans, in_test: Booleans, seed: int) -> NDArray[Any]:
        import torch
        from torch.nn import functional as F

        from pcloud.batch import JetDataset, JetLoader
        from pcloud.models import build_model

        jets = ak.with_field(samples.jets(), is_second.astype(np.int64), "label")
        data = JetDataset(jets, features)
        parts = [data[torch.from_numpy(np.flatnonzero(part))] for part in (~in_test, in_test)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(name, in_features=data.x.shape[1])
            optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
            for batch in _epochs(JetLoader(parts[0], batch_size, shuffle=True, seed=seed), epochs):
                loss = F.cross_entropy(model(batch.x, batch.p4, batch.batch), batch.y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            found = [model(b.x, b.p4, b.batch) for b in JetLoader(parts[1], 512)]
        logits = torch.cat(found).double()
        return (logits[:, 1] - logits[:, 0]).numpy()

    return classify


def _epochs(loader: Any, number: int) -> Any:
    for _ in range(number):
        yield from loader


def classifier_named(classifier: str | Classifier) -> Classifier:
    """Look up a classifier by its name or by the name of a model.

    Raises
    ------
    UnknownNameError
        If there is neither a classifier nor a model of this name.
    """
    if callable(classifier):
        return classifier
    if classifier in CLASSIFIERS:
        return CLASSIFIERS[classifier]
    from pcloud.models import list_models

    if classifier not in list_models() and ":" not in classifier:
        raise UnknownNameError("classifier", classifier, [*CLASSIFIERS, *list_models()])
    return network(classifier)
