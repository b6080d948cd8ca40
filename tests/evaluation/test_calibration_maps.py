from __future__ import annotations

import json
import re

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from pcloud.errors import UnknownNameError
from pcloud.evaluation.calibration_maps import (
    CALIBRATIONS,
    Scaling,
    calibration_from_dict,
    fit_calibration,
)
from tests.evaluation.test_calibration import draw


def nll(labels, p):
    return -np.log(p[np.arange(len(p)), labels]).sum()


@pytest.mark.parametrize("classes", [2, 5])
def test_temperature_minimises_the_loss(classes):
    labels, scores = draw(1000, classes=classes, sharpness=2.0)
    fitted = fit_calibration(labels, scores, "temperature")

    def loss(weight):
        powers = scores**weight
        return nll(labels, powers / powers.sum(1, keepdims=True))

    best = minimize_scalar(loss, bounds=(0.05, 5), method="bounded", options={"xatol": 1e-8})
    assert fitted.weights == pytest.approx([best.x] * classes, rel=1e-4)
    assert nll(labels, fitted(scores)) == pytest.approx(best.fun, rel=1e-9)


def test_the_true_temperature_is_found_within_its_error():
    pulls = []
    for seed in range(60):
        fitted = fit_calibration(*draw(400, seed, classes=3, sharpness=2.5))
        pulls.append((fitted.weights[0] - 1 / 2.5) / fitted.errors[0])
    assert abs(np.mean(pulls)) < 0.4
    assert 0.75 < np.std(pulls) < 1.3


def test_temperature_leaves_the_order_and_the_best_class():
    labels, scores = draw(500, classes=3, sharpness=3.0)
    mapped = fit_calibration(labels, scores)(scores)
    assert (mapped.argmax(1) == scores.argmax(1)).all()
    binary = draw(500, sharpness=3.0)
    mapped = fit_calibration(*binary)(binary[1])
    assert (np.argsort(mapped[:, 1]) == np.argsort(binary[1][:, 1])).all()


def test_a_large_inverse_temperature_makes_a_choice():
    scores = np.array([[0.5, 0.3, 0.2]])
    cold = Scaling((200.0,) * 3, (0.0,) * 3, (0.0,) * 3)
    np.testing.assert_allclose(cold(scores), [[1, 0, 0]], atol=1e-20)
    hot = Scaling((0.0,) * 3, (0.0,) * 3, (0.0,) * 3)
    np.testing.assert_allclose(hot(scores), 1 / 3)


def test_vector_scaling_of_two_classes_is_a_logistic_regression_in_both_logarithms():
    labels, scores = draw(2000, sharpness=1.7)
    fitted = fit_calibration(labels, scores, "vector")
    logs = np.log(scores)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logs, labels)
    mapped = fitted(scores)[:, 1]
    np.testing.assert_allclose(mapped, peer.predict_proba(logs)[:, 1], atol=2e-4)


@pytest.mark.parametrize("method", list(CALIBRATIONS))
@pytest.mark.parametrize("classes", [2, 4])
def test_a_map_gives_probabilities_and_lowers_the_loss_of_new_jets(method, classes):
    fitted = fit_calibration(*draw(3000, 1, classes, sharpness=3.0), method)
    labels, scores = draw(3000, 2, classes, sharpness=3.0)
    mapped = fitted(scores)
    np.testing.assert_allclose(mapped.sum(1), 1)
    assert nll(labels, mapped) < 0.9 * nll(labels, scores)
    again = calibration_from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert fitted.describe()


def test_isotonic_scaling_is_that_of_scikit_learn_but_never_certain():
    labels, scores = draw(500)
    mapped = fit_calibration(labels, scores, "isotonic")(scores)[:, 1]
    peer = IsotonicRegression(out_of_bounds="clip").fit(scores[:, 1], labels)
    expected = peer.predict(scores[:, 1])
    assert expected.min() == 0
    np.testing.assert_allclose(mapped, expected.clip(1 / 502, 501 / 502), atol=1e-12)


@pytest.mark.parametrize("method", list(CALIBRATIONS))
def test_jets_without_a_failure_and_certain_scores_give_a_finite_map(method):
    labels = np.array([0, 1] * 20)
    scores = np.where(labels == 1, 1.0, 0.0)
    mapped = fit_calibration(labels, scores, method)(np.array([[1.0, 0.0], [0.4, 0.6]]))
    assert np.isfinite(mapped).all()


def saturated(wrong=0.1, number=1000, scale=300.0):
    """Scores with log-odds of some hundred, a part of them wrong: far too sure."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, number)
    taken = np.where(generator.random(number) < wrong, 1 - labels, labels)
    odds = (2.0 * taken - 1) * scale * (1 + 0.2 * generator.normal(size=number))
    p = 1 / (1 + np.exp(-np.stack([-odds, odds], axis=1).clip(-690, 690)))
    return labels, p


@pytest.mark.parametrize("scale", [3.0, 30.0, 300.0])
def test_the_temperature_of_saturated_scores_is_that_of_a_search(scale):
    labels, scores = saturated(scale=scale)
    logs = np.log(scores)

    def loss(log_weight):
        z = np.exp(log_weight) * logs
        return (np.logaddexp(*z.T) - z[np.arange(len(z)), labels]).sum()

    best = minimize_scalar(loss, bounds=(-12, 5), method="bounded", options={"xatol": 1e-10})
    fitted = fit_calibration(labels, scores, "temperature")
    assert np.log(fitted.weights[0]) == pytest.approx(best.x, abs=1e-3)
    assert nll(labels, fitted(scores)) == pytest.approx(best.fun, rel=1e-6)
    vector = fit_calibration(labels, scores, "vector")
    assert nll(labels, vector(scores)) < best.fun + 1e-6
    assert not re.search(r"± 0(\.0+)?(,|$)", f"{fitted.describe()}, {vector.describe()}")


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_scores_of_0_and_1_that_are_right_nine_times_in_ten_become_nine_tenths(method):
    labels, scores = saturated()
    hard = np.eye(2)[scores.argmax(axis=1)]
    mapped = fit_calibration(labels, hard, method)(hard)
    frequency = (hard.argmax(axis=1) == labels).mean()
    assert mapped.max(axis=1).mean() == pytest.approx(frequency, abs=0.005)
    assert (mapped.argmax(axis=1) == hard.argmax(axis=1)).all()


def test_scores_worse_than_chance_become_equal_and_keep_their_order():
    labels, scores = saturated(wrong=0.7, scale=3.0)
    fitted = fit_calibration(labels, scores, "temperature")
    assert fitted.weights[0] > 0
    np.testing.assert_allclose(fitted(scores), 0.5, atol=1e-4)


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_scores_that_say_nothing_are_mapped_to_what_the_jets_allow(method):
    labels = np.repeat([0, 1], [300, 700])
    constant = fit_calibration(labels, np.full((1000, 2), 0.5), method)
    expected = [0.5, 0.5] if method == "temperature" else [0.3, 0.7]
    np.testing.assert_allclose(constant(np.full((1, 2), 0.5))[0], expected, atol=1e-3)


def test_a_class_without_jets_is_made_unlikely():
    labels, scores = draw(600, classes=3)
    some = labels != 2
    fitted = fit_calibration(labels[some], scores[some], "vector")
    mapped = fitted(scores)
    assert np.isfinite(mapped).all()
    assert mapped[:, 2].mean() < 0.01


def test_separated_classes_keep_a_finite_temperature():
    labels = np.repeat([0, 1], 500)
    fitted = fit_calibration(labels, np.where(labels == 1, 0.9, 0.1), "temperature")
    assert 1 < fitted.weights[0] < 20
    certain = fit_calibration(labels, np.eye(2)[labels], "temperature")
    assert certain.weights[0] == pytest.approx(1)


def test_an_unknown_method_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'temperature'"):
        fit_calibration([0, 1], [0.2, 0.8], "temprature")
