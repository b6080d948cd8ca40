from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from pcloud.errors import InputError
from pcloud.evaluation.calibration import Reliability, measure_calibration


def draw(number, seed=0, classes=2, sharpness=1.0):
    """Labels that happen with probability softmax(z), and scores softmax(sharpness z)."""
    generator = np.random.default_rng(seed)
    z = 2 * generator.normal(size=(number, classes))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    labels = (generator.random((number, 1)) > p.cumsum(1)).sum(1).clip(max=classes - 1)
    scores = np.exp(sharpness * z)
    return labels, scores / scores.sum(1, keepdims=True)


def brute_force(predicted, happened, edges):
    total = 0.0
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        last = i == len(edges) - 2
        inside = [j for j, p in enumerate(predicted) if low <= p < high or (last and p == high)]
        if inside:
            gap = np.mean([predicted[j] for j in inside]) - np.mean([happened[j] for j in inside])
            total += len(inside) * abs(gap)
    return total / len(predicted)


@pytest.mark.parametrize("equal", ["width", "counts"])
def test_calibration_error_is_that_of_a_loop_over_bins(equal):
    labels, scores = draw(300)
    scores[:5, 1] = [0.0, 1.0, 0.2, 0.4, 1.0]
    diagram = Reliability.of(scores[:, 1], labels == 1, 10, equal=equal)
    expected = brute_force(scores[:, 1], labels == 1, diagram.edges)
    assert diagram.error() == pytest.approx(expected, abs=1e-12)
    weights = np.random.default_rng(1).integers(0, 3, 300).astype(np.uint8)
    repeated = Reliability(
        np.repeat(scores[:, 1], weights), np.repeat(labels == 1, weights), diagram.edges
    )
    assert diagram.error(weights) == pytest.approx(repeated.error(), abs=1e-12)


def test_bins_of_equal_counts_hold_equal_counts():
    diagram = Reliability.of(
        np.random.default_rng(0).random(1000) ** 4, np.ones(1000, bool), 10, equal="counts"
    )
    assert set(diagram.sums()[0]) == {100}
    tied = Reliability.of(np.full(10, 0.3), np.arange(10) < 3, 5, equal="counts")
    assert tied.error() == pytest.approx(0)


def test_one_score_for_all_has_a_closed_form():
    labels = np.repeat([1, 0], [600, 400])
    table = measure_calibration(labels, np.full(1000, 0.8), num_bootstrap=400)
    assert table["ece"].value == pytest.approx(0.2)
    assert table["ece"].error == pytest.approx(np.sqrt(0.6 * 0.4 / 1000), rel=0.15)
    assert table["calibration_rms"].value == pytest.approx(0.2, abs=0.002)
    assert table["ece_perfect"].value == pytest.approx(
        np.sqrt(0.8 * 0.2 / 1000 * 2 / np.pi), rel=0.15
    )


def test_the_bias_of_the_calibration_error_is_what_a_calibrated_tagger_shows():
    found, floor = [], []
    for seed in range(30):
        table = measure_calibration(*draw(500, seed), num_bootstrap=20, seed=seed)
        found.append(table["ece"].value)
        floor.append(table["ece_perfect"].value)
    assert np.mean(floor) > 0.02  # the truth is 0
    difference = np.mean(found) - np.mean(floor)
    assert abs(difference) < 3 * np.std(found) / np.sqrt(len(found))


@pytest.mark.parametrize(("sharpness", "number"), [(1.0, 500), (1.4, 500), (2.0, 1000)])
def test_the_debiased_calibration_error_is_unbiased_in_the_square_and_covers(sharpness, number):
    def diagram(seed, jets):
        labels, scores = draw(jets, seed, sharpness=sharpness)
        return Reliability.of(scores[:, 1], labels == 1, equal="counts")

    truth = 0.0 if sharpness == 1 else diagram(1000, 400_000).mean_square()[0]
    squares, errors = np.transpose([diagram(seed, number).mean_square() for seed in range(300)])
    assert abs(squares.mean() - truth) < 4 * squares.std() / 300**0.5
    assert 0.75 < errors.mean() / squares.std() < (1.6 if sharpness == 1 else 1.3)
    raw = np.mean([diagram(seed, number).error() for seed in range(50)])
    found = measure_calibration(*draw(number, sharpness=sharpness), num_bootstrap=2)
    entry = found["calibration_rms"]
    assert entry.low < truth**0.5 + 3 * entry.error
    if sharpness == 1:
        assert raw > 0.02  # the truth is 0
    else:
        inside = np.abs(squares - truth) < errors
        assert 0.58 < inside.mean() < 0.80


def test_the_excess_of_the_calibration_error_underestimates_and_the_raw_value_overestimates():
    labels, scores = draw(400_000, 7, sharpness=1.4)
    truth = Reliability.of(scores[:, 1], labels == 1).error()
    tables = [
        measure_calibration(*draw(500, seed, sharpness=1.4), num_bootstrap=20) for seed in range(40)
    ]
    raw = np.mean([table["ece"].value for table in tables])
    excess = raw - np.mean([table["ece_perfect"].value for table in tables])
    assert excess < 0.9 * truth < 1.05 * truth < raw


def test_overconfidence_is_seen_above_the_bias():
    table = measure_calibration(*draw(2000, sharpness=2.0), num_bootstrap=50)
    assert table["ece"].value > table["ece_perfect"].value + 5 * table["ece_perfect"].error


def test_proper_scores_are_those_of_scikit_learn():
    labels, scores = draw(400)
    table = measure_calibration(labels, scores[:, 1], num_bootstrap=2)
    assert table["brier"].value == pytest.approx(brier_score_loss(labels, scores[:, 1]))
    assert table["log_loss"].value == pytest.approx(log_loss(labels, scores))
    labels, scores = draw(400, classes=4)
    table = measure_calibration(labels, scores, num_bootstrap=2)
    assert table["brier"].value == pytest.approx(((scores - np.eye(4)[labels]) ** 2).sum(1).mean())
    assert table["log_loss"].value == pytest.approx(log_loss(labels, scores))


def test_the_error_of_the_brier_score_is_its_spread():
    tables = [measure_calibration(*draw(400, seed), num_bootstrap=2) for seed in range(200)]
    spread = np.std([table["brier"].value for table in tables], ddof=1)
    # the spread includes that of the mix of classes, which the error takes as given
    assert np.mean([table["brier"].error for table in tables]) == pytest.approx(spread, rel=0.15)


def test_many_classes_have_an_error_each():
    labels, scores = draw(3000, classes=3)
    table = measure_calibration(labels, scores, classes=["a", "b", "c"], num_bootstrap=10)
    for c, name in enumerate("abc"):
        expected = brute_force(scores[:, c], labels == c, np.linspace(0, 1, 16))
        assert table[f"ece[{name}]"].value == pytest.approx(expected)
    top = brute_force(scores.max(1), labels == scores.argmax(1), np.linspace(0, 1, 16))
    assert table["ece"].value == pytest.approx(top)
    assert "biased upwards" in str(table)


def test_points_have_an_error_where_all_jets_agree():
    predicted, observed, error = Reliability.of(np.full(10, 0.95), np.ones(10, bool), 10).points()
    assert (predicted, observed) == (pytest.approx(0.95), 1)
    assert error[1, 0] == 0
    assert 0.05 < error[0, 0] < 0.3


def test_what_is_no_probability_is_refused():
    with pytest.raises(InputError, match="not in"):
        measure_calibration([0, 1], [-1.0, 3.0])
    with pytest.raises(InputError, match="bins must be at least 1"):
        measure_calibration([0, 1], [0.1, 0.3], bins=0)
