from __future__ import annotations

import numpy as np
import pytest

from pcloud.errors import InputError
from pcloud.evaluation.conformal import fit_conformal
from tests.evaluation.test_calibration import draw


def covered(sets, labels, scores):
    return sets(scores)[np.arange(len(labels)), labels]


@pytest.mark.parametrize(("number", "alpha"), [(19, 0.1), (50, 0.1), (100, 0.32)])
def test_coverage_is_between_its_bounds_over_exchangeable_jets(number, alpha):
    labels, scores = draw(400_000, 1, classes=3, sharpness=4.0)  # badly calibrated
    trials = len(labels) // (number + 1)
    labels = labels[: trials * (number + 1)].reshape(trials, -1)
    scores = scores[: trials * (number + 1)].reshape(trials, number + 1, -1)
    hits = [
        covered(fit_conformal(y[:-1], p[:-1], alpha), y[-1:], p[-1:])[0]
        for y, p in zip(labels[:2500], scores[:2500], strict=True)
    ]
    error = np.sqrt(alpha * (1 - alpha) / len(hits))
    assert 1 - alpha - 3 * error <= np.mean(hits) <= 1 - alpha + 1 / (number + 1) + 3 * error
    exact = np.ceil((number + 1) * (1 - alpha) - 1e-9) / (number + 1)  # without ties
    assert np.mean(hits) == pytest.approx(exact, abs=3 * error)


def test_each_class_is_covered_whatever_the_mix():
    labels, scores = draw(8000, 2, sharpness=2.0)
    scores = scores * [1.0, 0.3]  # leans to the first class
    scores /= scores.sum(1, keepdims=True)
    common = fit_conformal(labels[:4000], scores[:4000], 0.1)
    own = fit_conformal(labels[:4000], scores[:4000], 0.1, by_class=True)
    second = np.flatnonzero(labels[4000:] == 1) + 4000
    assert covered(common, labels[second], scores[second]).mean() < 0.87
    assert covered(own, labels[second], scores[second]).mean() == pytest.approx(0.9, abs=0.02)


def test_too_few_jets_promise_nothing_but_all_classes():
    sets = fit_conformal([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], alpha=0.1)
    assert sets([[0.0, 1.0]]).all()
    with pytest.raises(InputError, match="alpha"):
        fit_conformal([0, 1], [0.1, 0.9], alpha=10)
