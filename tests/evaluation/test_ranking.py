from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from pcloud.errors import InputError
from pcloud.evaluation.ranking import Ranking


def rank(labels: np.ndarray, scores: np.ndarray) -> Ranking:
    return Ranking(scores, labels == 1, labels == 0)


def draw(seed: int, size: int, levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Labels and overlapping scores, rounded to a number of levels so that many tie."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=size)
    scores = generator.normal(size=size) + labels
    return labels, scores if levels is None else np.round(scores * levels) / levels


@pytest.mark.parametrize("levels", [None, 100, 3, 1])
def test_area_is_that_of_scikit_learn_with_and_without_ties(levels: int | None):
    labels, scores = draw(1, 5000, levels)
    assert abs(rank(labels, scores).counts.auc() - roc_auc_score(labels, scores)) < 1e-12


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=12).filter(
        lambda jets: len({label for label, _ in jets}) == 2
    )
)
def test_area_is_the_share_of_well_ordered_pairs(jets: list[tuple[int, int]]):
    labels, scores = np.array(jets).T
    s, b = scores[labels == 1, None], scores[labels == 0]
    assert rank(labels, scores).counts.auc() == pytest.approx(
        np.mean((s > b) + 0.5 * (s == b)), abs=1e-15
    )


@pytest.mark.parametrize("levels", [None, 30, 2])
def test_area_of_resampled_jets_is_that_of_the_repeated_jets(levels: int | None):
    labels, scores = draw(2, 400, levels)
    weights = np.random.default_rng(3).poisson(1.0, size=400).astype(np.uint8)
    repeated = np.repeat(labels, weights), np.repeat(scores, weights)
    counts = rank(labels, scores).resampled(weights)
    assert abs(counts.auc() - roc_auc_score(*repeated)) < 1e-12
    points = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(
        counts.background_efficiency(points),
        rank(*repeated).counts.background_efficiency(points),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("levels", [None, 30, 2])
def test_background_efficiency_follows_the_roc_curve_of_scikit_learn(levels: int | None):
    labels, scores = draw(4, 3001, levels)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    points = np.linspace(0.0137, 0.9871, 50)  # between the corners
    np.testing.assert_allclose(
        rank(labels, scores).counts.background_efficiency(points),
        np.interp(points, tpr, fpr),
        rtol=1e-9,
    )


def test_threshold_is_the_score_of_the_last_signal_jet_that_is_kept():
    labels, scores = draw(5, 2000, None)
    signal = np.sort(scores[labels == 1])[::-1]
    for kept in (1, 7, len(signal) // 2, len(signal) - 1):
        passed = np.mean(scores[labels == 0] >= signal[kept - 1])
        found = rank(labels, scores).counts.background_efficiency(np.array(kept / len(signal)))
        assert found == pytest.approx(passed, abs=1e-15)


def test_rounding_of_the_efficiency_asks_for_no_further_jet():
    # 0.1 x 30 is 3.0000000000000004: the fourth signal jet lies below the background.
    scores = np.concatenate([[9, 8, 7], np.zeros(27), np.full(10, 5)])
    labels = np.repeat([1, 0], [30, 10])
    assert rank(labels, scores).counts.background_efficiency(np.array(0.1)) == 0


def test_a_cut_inside_a_tie_takes_the_same_part_of_signal_and_background():
    scores = np.array([2.0, 1, 1, 1, 1, 0, 1, 1, 0, 0])
    labels = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    # 3 of 6 signal jets: the top one and half of the four tied ones, so half of 2 background.
    efficiency = rank(labels, scores).counts.background_efficiency(np.array(0.5))
    assert efficiency == pytest.approx(1 / 4)


def test_equal_scores_reject_as_a_random_choice():
    counts = rank(np.arange(100) % 2, np.zeros(100)).counts
    assert counts.auc() == 0.5
    assert counts.background_efficiency(np.array([0.3]))[0] == pytest.approx(0.3)


def test_jets_of_other_classes_do_not_count():
    labels, scores = draw(6, 1000, 20)
    mixed = np.where(np.arange(1000) % 3 == 0, 2, labels)
    some = mixed != 2
    assert rank(mixed, scores).counts.auc() == rank(labels[some], scores[some]).counts.auc()


def test_curve_ends_in_the_corners_and_encloses_the_area():
    labels, scores = draw(7, 500, 5)
    ranking = rank(labels, scores)
    background, signal = ranking.counts.curve()
    assert (background[0], signal[0], background[-1], signal[-1]) == (0, 0, 1, 1)
    area = np.sum(np.diff(background) * (signal[1:] + signal[:-1]) / 2)
    assert area == pytest.approx(ranking.counts.auc(), abs=1e-12)


def _jackknife(statistic, labels: np.ndarray, kind: int) -> float:
    """Variance of a statistic from leaving out one jet of a kind at a time."""
    jets = np.flatnonzero(labels == kind)
    without = [statistic(np.delete(np.arange(len(labels)), jet)) for jet in jets]
    return (len(jets) - 1) ** 2 / len(jets) * np.var(without, ddof=1)


@pytest.mark.parametrize("levels", [None, 3])
def test_area_influence_gives_the_jackknife_variance(levels: int | None):
    # For a U-statistic of two samples, DeLong's components are the jackknife's exactly.
    labels, scores = draw(8, 150, levels)
    influence = rank(labels, scores).auc_influence()
    for kind in (0, 1):
        number = np.sum(labels == kind)
        components = np.sum(influence[labels == kind] ** 2) * number / (number - 1)
        left_out = _jackknife(lambda j: roc_auc_score(labels[j], scores[j]), labels, kind)
        assert components == pytest.approx(left_out, rel=1e-9)


@pytest.mark.parametrize("levels", [None, 4])
def test_influences_balance_within_each_kind(levels: int | None):
    labels, scores = draw(9, 2000, levels)
    ranking = rank(labels, scores)
    for influence in (ranking.auc_influence(), ranking.background_efficiency_influence(0.37)):
        for kind in (0, 1):
            assert abs(influence[labels == kind].sum()) < 1e-12


def test_one_kind_alone_cannot_be_ranked():
    with pytest.raises(InputError, match="both kinds"):
        rank(np.ones(3), np.arange(3.0))
