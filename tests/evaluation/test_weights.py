"""Metrics of jets with weights: values of scikit-learn, errors by bootstrap and by toys."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    roc_auc_score,
    roc_curve,
)

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable, evaluate, register_metric
from pcloud.evaluation.calibration import measure_calibration
from pcloud.evaluation.calibration_maps import fit_calibration
from pcloud.evaluation.conformal import fit_conformal
from pcloud.evaluation.dependence import measure_dependence
from pcloud.evaluation.figures import confusion_figure, score_figure
from pcloud.evaluation.figures.confusion import confusion_matrix as our_confusion_matrix
from pcloud.evaluation.influence import Estimate, weighted_mean
from pcloud.evaluation.robustness import compare_scores
from pcloud.evaluation.scores import Scores, ScoresWriter, read_scores
from pcloud.evaluation.sculpting import measure_sculpting
from pcloud.evaluation.working_points import efficiency_threshold, working_points


def draw(
    size: int, seed: int = 0, *, negative: float = 0.1, correlation: float = 0.4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores, and weights that depend on the score, some of them negative."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, size)
    x = generator.normal(size=size) + 2 * labels
    weights = generator.lognormal(0, 0.7, size) * np.exp(correlation * x)
    weights[generator.random(size) < negative] *= -1
    return labels, 1 / (1 + np.exp(2 * (1 - x))), weights


def draw_classes(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, size)
    logits = generator.normal(size=(size, 3))
    logits[np.arange(size), labels] += 1.5
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, scores, generator.lognormal(0, 0.7, size) * np.exp(scores[:, 0])


# --- values


def test_values_are_those_of_scikit_learn():
    labels, scores, weights = draw(3000, negative=0)
    efficiencies = (0.6, 0.8)
    table = evaluate(labels, scores, weights=weights, num_bootstrap=0, efficiencies=efficiencies)
    assert abs(float(table["auc"]) - roc_auc_score(labels, scores, sample_weight=weights)) < 1e-12
    accuracy = accuracy_score(labels, scores > 0.5, sample_weight=weights)
    assert abs(float(table["accuracy"]) - accuracy) < 1e-12
    curve = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    for efficiency in efficiencies:
        rejection = 1 / np.interp(efficiency, curve[1], curve[0])
        assert table[f"rejection@{efficiency}"].value == pytest.approx(rejection, rel=1e-12)


def test_tied_scores_give_the_values_of_scikit_learn():
    labels, scores, weights = draw(3000, seed=1, negative=0)
    scores = scores.round(1)
    table = evaluate(labels, scores, weights=weights, num_bootstrap=0)
    assert abs(float(table["auc"]) - roc_auc_score(labels, scores, sample_weight=weights)) < 1e-12


def test_areas_of_several_classes_are_those_of_scikit_learn():
    labels, scores, weights = draw_classes(900)
    table = evaluate(labels, scores, weights=weights, num_bootstrap=0)
    ovr = [roc_auc_score(labels == c, scores[:, c], sample_weight=weights) for c in range(3)]
    assert abs(float(table["auc_ovr"]) - np.mean(ovr)) < 1e-12
    pairs = []
    for i in range(3):
        for j in {0, 1, 2} - {i}:
            jets = np.isin(labels, [i, j])
            part = labels[jets] == i
            pairs.append(roc_auc_score(part, scores[jets, i], sample_weight=weights[jets]))
    assert abs(float(table["auc_ovo"]) - np.mean(pairs)) < 1e-12


def test_log_loss_brier_score_and_confusion_matrix_are_those_of_scikit_learn():
    labels, scores, weights = draw(2000, negative=0)
    table = measure_calibration(labels, scores, weights=weights, num_bootstrap=2)
    expected = log_loss(labels, scores, sample_weight=weights)
    assert abs(float(table["log_loss"]) - expected) < 1e-12
    expected = brier_score_loss(labels, scores, sample_weight=weights)
    assert abs(float(table["brier"]) - expected) < 1e-12
    ours = our_confusion_matrix(Scores.from_arrays(labels, scores, weights=weights))
    np.testing.assert_allclose(
        ours, confusion_matrix(labels, scores > 0.5, sample_weight=weights), rtol=1e-12
    )


def test_area_with_negative_weights_is_the_weighted_fraction_of_pairs():
    labels, scores, weights = draw(300)
    signal, background = labels == 1, labels == 0
    above = scores[signal][:, None] > scores[background]
    pairs = weights[signal][:, None] * weights[background]
    table = evaluate(labels, scores, weights=weights, num_bootstrap=0)
    assert float(table["auc"]) == pytest.approx((pairs * above).sum() / pairs.sum(), abs=1e-12)


def test_whole_weights_give_the_values_of_repeated_jets():
    labels, scores, _ = draw(400)
    number = np.random.default_rng(3).integers(1, 4, 400)
    weighted = evaluate(labels, scores, weights=number, num_bootstrap=0)
    repeated = evaluate(np.repeat(labels, number), np.repeat(scores, number), num_bootstrap=0)
    for name in ("auc", "accuracy", "rejection@0.5"):
        assert weighted[name].value == pytest.approx(repeated[name].value, rel=1e-12)
    points = working_points(labels, scores, weights=number)
    same = working_points(np.repeat(labels, number), np.repeat(scores, number))
    for mine, theirs in zip(points, same, strict=True):
        assert mine.threshold.value == theirs.threshold.value
        for name in ("efficiency", "mistag_rate"):
            one, other = getattr(mine, name), getattr(theirs, name)
            if not (one.limit or other.limit):
                assert one.value == pytest.approx(other.value, rel=1e-9)


def test_weights_of_one_and_weights_equal_in_each_class_change_no_interval():
    labels, scores, _ = draw(500)
    plain = evaluate(labels, scores)
    assert evaluate(labels, scores, weights=np.ones(500)).entries == plain.entries
    per_class = evaluate(labels, scores, weights=np.where(labels == 1, 0.2, 3.0))
    for name in ("auc", "rejection@0.3", "rejection@0.5"):
        assert per_class[name] == plain[name]
    assert per_class["accuracy"] != plain["accuracy"]


# --- errors


def test_errors_agree_with_the_bootstrap():
    table = evaluate(*draw(4000)[:2], weights=draw(4000)[2], num_bootstrap=300)
    for name in ("auc", "accuracy", "rejection@0.5"):
        assert table[name].bootstrap == pytest.approx(table[name].error, rel=0.2)


def test_errors_of_several_classes_agree_with_the_bootstrap():
    labels, scores, weights = draw_classes(3000)
    table = evaluate(labels, scores, weights=weights, num_bootstrap=200)
    for name in ("auc_ovr", "auc_ovo", "accuracy"):
        assert table[name].bootstrap == pytest.approx(table[name].error, rel=0.2)


@pytest.mark.parametrize("negative", [0.0, 0.1])
def test_intervals_cover_the_truth_where_weights_depend_on_the_score(negative: float):
    # measured with 300 toys: 0.63 to 0.73; the binomial spread of 100 toys is 0.05
    everything = draw(300_000, seed=99, negative=0.0)  # a sign independent of the score cancels
    options = {"efficiencies": (0.5, 0.8), "num_bootstrap": 0}
    truth = evaluate(*everything[:2], weights=everything[2], **options)
    names = ("auc", "accuracy", "rejection@0.8")
    covered = dict.fromkeys(names, 0)
    for seed in range(100):
        labels, scores, weights = draw(1500, seed, negative=negative)
        table = evaluate(labels, scores, weights=weights, **options)
        for name in names:
            low, high = table[name].interval()
            covered[name] += low <= truth[name].value <= high
    for number in covered.values():
        assert 0.54 < number / 100 < 0.82


def test_an_effective_number_of_jets_gives_another_error():
    labels, scores, weights = draw(20_000, negative=0, correlation=1.0)
    signal = labels == 1
    passed, w = scores[signal] > 0.9, weights[signal]
    found = weighted_mean(passed, w)
    number = w.sum() ** 2 / (w**2).sum()
    naive = (found.value * (1 - found.value) / number) ** 0.5
    toys = []
    for seed in range(60):
        labels, scores, weights = draw(20_000, 1 + seed, negative=0, correlation=1.0)
        signal = labels == 1
        toys.append(weighted_mean(scores[signal] > 0.9, weights[signal]).value)
    assert found.error() == pytest.approx(np.std(toys), rel=0.3)
    assert naive > 1.3 * found.error()


def test_differences_of_estimates_of_the_same_jets_have_small_errors():
    generator = np.random.default_rng(0)
    values, weights = generator.random(1000), generator.lognormal(0, 0.7, 1000)
    first = weighted_mean(values, weights)
    second = weighted_mean(values + 0.01 * generator.random(1000), weights)
    assert (second - first).error() < 0.1 * first.error()
    assert first.log().error() == pytest.approx(first.error() / first.value)
    assert isinstance(first, Estimate)


def test_error_of_a_paired_change_agrees_with_toys():
    changes, errors = [], []
    for seed in range(80):
        labels, scores, weights = draw(1500, seed)
        noise = np.random.default_rng(1000 + seed).normal(0, 0.05, 1500)
        after = np.clip(scores + noise, 0, 1)
        effect = compare_scores(labels, scores, after, weights=weights)
        changes.append(effect.auc_change.value)
        errors.append(effect.auc_change.error)
    assert np.mean(errors) == pytest.approx(np.std(changes), rel=0.25)


def test_few_effective_jets_give_a_limit():
    labels, scores, weights = draw(3000, negative=0)
    weights[(labels == 0) & (scores > 0.9)] *= 1e-3
    weights[np.flatnonzero((labels == 0) & (scores > 0.9))[0]] = 30.0  # one jet is all that passes
    entry = evaluate(labels, scores, weights=weights, num_bootstrap=0)["rejection@0.3"]
    assert entry.limit == "lower"
    assert entry.method == "fewer than three background jets pass"


# --- what needs weights that are not negative, and checks


def test_isotonic_and_conformal_calibration_refuse_negative_weights():
    labels, scores, weights = draw(300)
    with pytest.raises(InputError, match=r"isotonic calibration needs weights .* jets of 300"):
        fit_calibration(labels, scores, "isotonic", weights=weights)
    with pytest.raises(InputError, match="conformal calibration needs weights"):
        fit_conformal(labels, scores, weights=weights)


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_whole_weights_give_the_calibration_of_repeated_jets(method: str):
    labels, scores, _ = draw(300)
    number = np.random.default_rng(3).integers(1, 4, 300)
    weighted = fit_calibration(labels, scores, method, weights=number)
    repeated = fit_calibration(np.repeat(labels, number), np.repeat(scores, number), method)
    p = np.stack([1 - scores, scores], axis=1)
    np.testing.assert_allclose(weighted(p), repeated(p), atol=5e-3)


def test_conformal_sets_cover_the_weight_of_jets():
    labels, scores, weights = draw(4000, negative=0)
    sets = fit_conformal(labels, scores, 0.1, weights=weights)
    others = draw(20_000, seed=5, negative=0)
    inside = sets(np.stack([1 - others[1], others[1]], axis=1))
    covered = np.average(inside[np.arange(20_000), others[0]], weights=others[2])
    assert covered == pytest.approx(0.9, abs=0.02)
    equal = fit_conformal(labels, scores, 0.1, weights=np.full(4000, 2.0))
    assert equal == fit_conformal(labels, scores, 0.1)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"weights must have shape \(4,\)"),
        ([1.0, np.nan, 1.0, 1.0], "NaN or infinite weights"),
        ([1.0, -2.0, -1.0, 1.0], "the weights of the 2 jets of class 'background' have the sum -1"),
        (["a", "b", "c", "d"], "weights must be real numbers"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights: list, message: str):
    labels = [0, 0, 1, 1] if len(weights) == 4 and weights[1] == -2.0 else [0, 1, 0, 1]
    with pytest.raises(InputError, match=message):
        evaluate(labels, [0.1, 0.9, 0.2, 0.8], weights=weights)


# --- tables, files, figures


def test_the_table_says_that_numbers_are_weighted_and_is_read_back(tmp_path):
    labels, scores, weights = draw(500)
    table = evaluate(labels, scores, weights=weights, num_bootstrap=0)
    text = str(table)
    assert "weighted value" in text
    assert f"the sum of weights is {weights.sum():.5g}" in text
    assert "the effective sample size" in text
    assert "Negative weights" in text
    table.write(tmp_path)
    assert EvaluationTable.read(tmp_path).to_dict() == table.to_dict()


def test_scores_are_stored_with_their_weights(tmp_path):
    labels, scores, weights = draw(50)
    sample = Scores.from_arrays(labels, np.stack([1 - scores, scores], 1), weights=weights)
    with ScoresWriter(tmp_path / "scores.parquet", sample.classes) as file:
        file.write(sample.values, sample.labels, sample.weights)
    np.testing.assert_array_equal(read_scores(tmp_path / "scores.parquet").weights, weights)


def test_a_metric_of_the_user_gets_the_weights_if_it_takes_them():
    from pcloud.evaluation import custom_metrics

    labels, scores, weights = draw(300)
    try:

        @register_metric("mean score")
        def mean_score(labels, scores, weights=None):
            return np.average(scores, weights=weights)

        @register_metric("plain mean")
        def plain_mean(labels, scores):
            return scores.mean()

        names = ["mean score", "plain mean"]
        table = evaluate(labels, scores, weights=weights, metrics=names, num_bootstrap=2)
    finally:
        custom_metrics._REGISTERED.pop("mean score", None)
        custom_metrics._REGISTERED.pop("plain mean", None)
    assert float(table["mean score"]) == pytest.approx(np.average(scores, weights=weights))
    assert "Not weighted, without a parameter weights: plain mean." in table.notes


def test_thresholds_and_dependence_use_weights():
    labels, scores, weights = draw(2000, negative=0)
    signal = labels == 1
    threshold = efficiency_threshold(scores[signal], 0.5, weights[signal])
    passed = weights[signal] @ (scores[signal] >= threshold) / weights[signal].sum()
    assert 0.5 <= passed < 0.51
    found = measure_dependence(labels, scores, {"x": scores * 0}, weights=weights)[0]
    assert found.signal[0].value == pytest.approx(passed, rel=1e-12)


def test_sculpting_counts_weights():
    labels, scores, weights = draw(2000)
    mass = np.random.default_rng(0).uniform(0, 100, 2000)
    cut = measure_sculpting(labels, scores, mass, weights=weights, num_resamplings=20)[0]
    assert sum(cut.before) == pytest.approx(weights[labels == 0].sum())
    assert abs(cut.distance.value - cut.noise.value) < 5 * cut.noise.error  # no sculpting here


def test_figures_show_weights():
    labels, scores, weights = draw(400)
    sample = Scores.from_arrays(labels, np.stack([1 - scores, scores], 1), weights=weights)
    figure = confusion_figure(sample)
    assert "sum of weights" in figure.axes[0].get_title(loc="left")
    texts = [text.get_text() for text in figure.axes[0].texts]
    expected = weights[(labels == 0) & (scores <= 0.5)].sum()
    assert texts[0] == f"{expected:,.5g}"
    score_figure(sample)


def test_a_confusion_matrix_with_negative_cells_is_drawn():
    labels = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([0.1, 0.2, 0.9, 0.9, 0.8, 0.3])
    weights = np.array([1.0, 1.0, -0.5, 1.0, 1.0, -0.5])
    figure = confusion_figure(Scores.from_arrays(labels, scores, weights=weights))
    shades = [patch.get_alpha() for patch in figure.axes[0].patches]
    assert min(shades) == 0.0
    assert max(shades) == 1.0
