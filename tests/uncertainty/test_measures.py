from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from pcloud.errors import InputError
from pcloud.uncertainty import Uncertainty


def test_the_parts_are_those_of_scipy_and_add_up():
    logits = np.random.default_rng(0).normal(size=(7, 40, 3)) * 2
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = Uncertainty.of(logits)
    np.testing.assert_allclose(found.mean, p.mean(0))
    np.testing.assert_allclose(found.total, entropy(p.mean(0), axis=-1))
    np.testing.assert_allclose(found.aleatoric, entropy(p, axis=-1).mean(0))
    divergence = entropy(p, p.mean(0, keepdims=True), axis=-1).mean(0)  # mutual information
    np.testing.assert_allclose(found.epistemic, divergence, atol=1e-12)


def test_opinions_that_agree_leave_no_epistemic_part():
    logits = np.tile(np.random.default_rng(0).normal(size=(1, 20, 2)), (5, 1, 1))
    found = Uncertainty.of(logits)
    assert found.epistemic.max() < 1e-12
    assert found.logit_spread.max() < 1e-12


def test_certain_opinions_that_contradict_are_all_epistemic():
    found = Uncertainty.of([[[0.0, 900.0]], [[900.0, 0.0]]])
    assert found.total[0] == pytest.approx(np.log(2))
    assert found.epistemic[0] == pytest.approx(np.log(2))
    assert found.logit_spread[0] == pytest.approx(900 * 2**0.5)


def test_the_spread_of_two_classes_is_that_of_the_difference_of_logits():
    logits = np.random.default_rng(1).normal(size=(9, 30, 2)) + np.array([0, 60.0])
    expected = (logits[..., 1] - logits[..., 0]).std(0, ddof=1)
    np.testing.assert_allclose(Uncertainty.of(logits).logit_spread, expected)


def test_one_opinion_is_refused():
    with pytest.raises(InputError, match="predictive samples must have shape"):
        Uncertainty.of(np.zeros((1, 5, 2)))
