from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation import Measured, evaluate
from pcloud.evaluation.metrics import EvaluationTable


def softmax(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def draw_classes(
    size: int, num_classes: int = 4, seed: int = 0, separation: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(size) % num_classes
    logits = generator.normal(size=(size, num_classes))
    logits[np.arange(size), labels] += separation
    return labels, softmax(logits)


# --- values


def test_two_columns_of_probabilities_give_the_numbers_of_scikit_learn(tagger):
    labels, scores = tagger.draw(700, 900, np.random.default_rng(1))
    table = evaluate(labels, np.stack([1 - scores, scores], axis=1), num_bootstrap=0)
    assert list(table) == ["auc", "accuracy", "rejection@0.3", "rejection@0.5"]
    assert abs(float(table["auc"]) - roc_auc_score(labels, scores)) < 1e-12
    assert float(table["accuracy"]) == accuracy_score(labels, scores > 0.5)


def test_one_column_means_the_score_of_the_signal(tagger):
    labels, scores = tagger.draw(300, 500, np.random.default_rng(2))
    one = evaluate(labels, scores)
    two = evaluate(labels, np.stack([1 - scores, scores], axis=1))
    assert one.entries == two.entries


def test_either_class_can_be_the_signal(tagger):
    labels, scores = tagger.draw(300, 500, np.random.default_rng(3))
    columns = np.stack([scores, 1 - scores], axis=1)
    usual = evaluate(labels, columns[:, ::-1], classes=["qcd", "top"], num_bootstrap=0)
    for options in ({"signal": "top"}, {"signal": 0}, {"background": "qcd"}, {"background": 1}):
        turned = evaluate(1 - labels, columns, classes=["top", "qcd"], num_bootstrap=0, **options)
        assert dict(turned) == dict(usual)
    assert dict(evaluate(1 - labels, scores, signal=0, num_bootstrap=0)) == dict(usual)


def test_rejections_are_taken_at_the_efficiencies_asked_for(tagger):
    labels, scores = tagger.draw(400, 50_000, np.random.default_rng(4))
    table = evaluate(labels, scores, efficiencies=[0.25, 0.9], num_bootstrap=0)
    assert list(table)[2:] == ["rejection@0.25", "rejection@0.9"]
    cut = np.sort(scores[labels == 1])[-100]
    assert float(table["rejection@0.25"]) == pytest.approx(1 / np.mean(scores[labels == 0] >= cut))


def test_numbers_of_many_classes_are_those_of_scikit_learn():
    labels, scores = draw_classes(3000)
    labels[labels == 3][:200] = 0  # unequal classes
    table = evaluate(labels, scores, num_bootstrap=0)
    expected = roc_auc_score(labels, scores, multi_class="ovr", average=None)
    for c in range(4):
        assert abs(float(table[f"auc[class {c}]"]) - expected[c]) < 1e-12
    assert float(table["auc_ovr"]) == pytest.approx(expected.mean(), abs=1e-12)
    assert table["auc_macro"] == table["auc_ovr"]  # the name of older files
    assert (
        EvaluationTable.from_dict({"metrics": {"auc_macro": table["auc_ovr"].to_dict()}})["auc_ovr"]
        == table["auc_ovr"]
    )
    assert float(table["accuracy"]) == accuracy_score(labels, scores.argmax(axis=1))


@pytest.mark.parametrize("digits", [1, 9])
def test_area_of_one_class_against_one_is_that_of_scikit_learn(digits):
    labels, scores = draw_classes(2000)
    labels[labels == 3][:400] = 0
    labels[np.flatnonzero(labels == 2)[:350]] = 1  # unequal classes
    scores = scores.round(digits)
    scores[:, 0] += 1 - scores.sum(axis=1)
    scores = scores.clip(0) / scores.clip(0).sum(axis=1, keepdims=True)
    table = evaluate(labels, scores, num_bootstrap=0)
    pairs = roc_auc_score(labels, scores, multi_class="ovo", average="macro")
    assert float(table["auc_ovo"]) == pytest.approx(pairs, abs=1e-12)
    assert abs(float(table["auc_ovr"]) - pairs) > 1e-3


def test_areas_of_equal_classes_are_the_same_against_the_rest_and_one_by_one():
    table = evaluate(*draw_classes(2000), num_bootstrap=0)
    assert float(table["auc_ovr"]) == pytest.approx(float(table["auc_ovo"]), abs=1e-12)
    assert table["auc_ovr"].error == pytest.approx(table["auc_ovo"].error, rel=0.01)


def test_the_error_of_the_area_of_pairs_is_that_of_resampling():
    labels, scores = draw_classes(1500)
    some = (labels != 2) | (np.arange(1500) % 4 == 0)
    entry = evaluate(labels[some], scores[some], num_bootstrap=200)["auc_ovo"]
    assert entry.error == pytest.approx(entry.bootstrap, rel=0.2)


def test_against_one_background_the_score_is_s_over_s_plus_b():
    labels, scores = draw_classes(4000)
    names = ["QCD", "Hbb", "Hcc", "Tbl"]
    table = evaluate(labels, scores, classes=names, background="QCD", num_bootstrap=0)
    assert "auc[QCD vs QCD]" not in table
    some = (labels == 0) | (labels == 2)
    ratio = scores[some, 2] / (scores[some, 2] + scores[some, 0])
    alone = evaluate(labels[some] == 2, ratio, num_bootstrap=0)
    for quantity in ("auc", "rejection@0.3", "rejection@0.5"):
        assert table[f"{quantity}[Hcc vs QCD]"].value == alone[quantity].value
        assert table[f"{quantity}[Hcc vs QCD]"].error == pytest.approx(alone[quantity].error)


def test_one_signal_of_many_classes_is_all_that_is_measured():
    labels, scores = draw_classes(400)
    table = evaluate(labels, scores, signal=1, background=0, efficiencies=[0.5])
    assert [name for name in table if "[" not in name] == ["accuracy"]
    assert {name.partition("[")[2] for name in table if "[" in name} == {
        "class 1]",
        "class 1 vs class 0]",
    }


def test_jets_like_neither_class_rank_in_the_middle():
    scores = np.array([[0, 0, 1], [0.9, 0.1, 0], [0.1, 0.9, 0], [0.8, 0.2, 0], [0, 0, 1.0]])
    table = evaluate([0, 0, 1, 1, 2], scores, background=0, num_bootstrap=0)
    # s/(s+b): background 0.5, 0.1; signal 0.9, 0.2. Three of four pairs are in order.
    assert float(table["auc[class 1 vs class 0]"]) == 0.75


def test_scores_of_the_2019_taggers_give_the_published_numbers_in_seconds(reference_data: Path):
    data = np.load(reference_data / "landscape_test_404k_scores_inferred_labels.npz")
    start = time.process_time()
    particlenet = evaluate(data["label_inferred"], data["score_particlenet_2019"])
    resnext = evaluate(data["label_inferred"], data["score_resnext50_2019"], num_bootstrap=0)
    seconds = time.process_time() - start
    for table, numbers in (
        (particlenet, (0.98475, 1269.9, 326.2)),
        (resnext, (0.98369, 1121.8, 299.6)),
    ):
        auc, tight, loose = numbers
        assert float(table["auc"]) == pytest.approx(auc, abs=5e-6)
        assert float(table["rejection@0.3"]) == pytest.approx(tight, abs=0.05)
        assert float(table["rejection@0.5"]) == pytest.approx(loose, abs=0.05)
    expected = roc_auc_score(data["label_inferred"], data["score_particlenet_2019"])
    assert abs(float(particlenet["auc"]) - expected) < 1e-12
    # 159 background jets pass at 0.3: 7.9 % from counting them, the threshold adds little.
    tight = particlenet["rejection@0.3"]
    assert tight.error / tight.value == pytest.approx(159**-0.5, rel=0.02)
    for entry in particlenet.values():
        assert entry.bootstrap == pytest.approx(entry.error, rel=0.2)
    assert seconds < 20  # about 2 on an idle core


# --- errors: pulls over many samples of a tagger whose truth is known


def tables_of(
    measure: Callable[[np.random.Generator], EvaluationTable], number: int
) -> list[EvaluationTable]:
    """Tables of many samples."""
    return [measure(np.random.default_rng([7, seed])) for seed in range(number)]


def pulls(
    tables: Sequence[EvaluationTable],
    truth: dict[str, float],
    error: Callable[[Measured], float] = lambda entry: entry.error,
) -> dict[str, np.ndarray]:
    """(value - truth) / error in many samples.

    A rejection is pulled as the background efficiency it stands for, whose distribution is
    the nearer to a normal one.
    """
    found: dict[str, list[float]] = {name: [] for name in truth}
    for table in tables:
        for name, true in truth.items():
            entry = table[name]
            if name.startswith("rejection"):
                relative = error(entry) / entry.value
                found[name].append((1 - entry.value / true) / relative)
            else:
                found[name].append((entry.value - true) / error(entry))
    return {name: np.array(values) for name, values in found.items()}


def assert_unit_pull(pull: np.ndarray, width_bias: float = 0.03) -> None:
    """Pulls centred on 0 with width 1, at 4 standard errors and a small-sample allowance."""
    number = len(pull)
    assert abs(np.mean(pull)) < 4 / number**0.5 + 0.1
    assert abs(np.std(pull) - 1) < 4 / (2 * number) ** 0.5 + width_bias
    assert abs(np.mean(np.abs(pull) < 1) - 0.6827) < 4 * (0.6827 * 0.3173 / number) ** 0.5 + 0.02


def test_a_constant_score_has_neither_an_error_of_zero_nor_one_of_rounding():
    labels = np.repeat([0, 1], [158, 142])
    table = evaluate(labels, np.full(300, 0.4))  # all taken for class 0
    for name in ("accuracy", "auc"):
        assert 1 / 1000 < table[name].error < 3 / 142
        assert table[name].bootstrap is None
    assert "± 0 " not in str(table)
    assert "± 0\n" not in str(table)


def test_counting_errors_cover_the_truth(tagger):
    truth = {
        "auc": tagger.auc,
        "accuracy": tagger.accuracy,
        "rejection@0.3": tagger.rejection(0.3),
        "rejection@0.5": tagger.rejection(0.5),
    }

    def measure(generator):
        # Unequal classes: an accuracy at 0.5 stays tagger.accuracy in both.
        return evaluate(*tagger.draw(2000, 10_000, generator), num_bootstrap=0)

    for pull in pulls(tables_of(measure, 400), truth).values():
        assert_unit_pull(pull)


def test_bootstrap_errors_cover_the_truth(tagger):
    truth = {
        "auc": tagger.auc,
        "accuracy": tagger.accuracy,
        "rejection@0.5": tagger.rejection(0.5),
    }

    def measure(generator):
        sample = tagger.draw(1000, 4000, generator)
        return evaluate(*sample, efficiencies=[0.5], num_bootstrap=60)

    found = pulls(tables_of(measure, 120), truth, error=lambda entry: entry.bootstrap)
    for pull in found.values():
        assert_unit_pull(pull, width_bias=0.05)


def test_few_signal_jets_need_the_error_of_the_threshold(tagger):
    efficiency, num_signal, num_background = 0.3, 200, 30_000
    truth = {"rejection@0.3": tagger.rejection(efficiency)}

    def measure(generator):
        sample = tagger.draw(num_signal, num_background, generator)
        return evaluate(*sample, efficiencies=[efficiency], num_bootstrap=0)

    def of_background_alone(entry):
        return entry.value * (entry.value / num_background) ** 0.5

    tables = tables_of(measure, 250)
    pull = pulls(tables, truth)["rejection@0.3"]
    assert_unit_pull(pull, width_bias=0.12)
    narrow = pulls(tables, truth, error=of_background_alone)["rejection@0.3"]
    assert np.std(narrow) > 1.5


def test_errors_of_many_classes_cover_the_truth():
    labels, scores = draw_classes(400_000, num_classes=3, seed=1)
    names = ["accuracy", "auc_ovr", "auc[class 1]", "rejection@0.5[class 1]"]
    names += ["auc[class 1 vs class 0]", "rejection@0.5[class 1 vs class 0]"]
    options = {"background": 0, "efficiencies": [0.5], "num_bootstrap": 0}
    large = evaluate(labels, scores, **options)

    def measure(generator):
        sample = draw_classes(2400, num_classes=3, seed=generator.integers(2**32))
        return evaluate(*sample, **options)

    truth = {name: float(large[name]) for name in names}
    for pull in pulls(tables_of(measure, 250), truth).values():
        assert_unit_pull(pull, width_bias=0.05)


def test_accuracy_error_is_binomial_class_by_class():
    labels = np.repeat([0, 1], [100, 300])
    scores = np.where(np.arange(400) % 10 == 0, 1 - labels, labels) * 0.8 + 0.1
    error = evaluate(labels, scores, num_bootstrap=0)["accuracy"].error
    # Each class has nine tenths right: the classes together are one binomial.
    assert error == pytest.approx((0.9 * 0.1 / 400) ** 0.5, rel=0.02)


def test_bootstrap_is_a_function_of_its_seed(tagger):
    sample = tagger.draw(200, 200, np.random.default_rng(0))
    first, again, other = (evaluate(*sample, seed=seed) for seed in (1, 1, 2))
    assert first.entries == again.entries
    assert first["auc"].bootstrap != other["auc"].bootstrap
    assert first["auc"].error == other["auc"].error


# --- limits


def test_no_passing_background_gives_a_limit_and_not_infinity(tagger):
    labels, scores = tagger.draw(1000, 200, np.random.default_rng(5))
    entry = evaluate(labels, scores, efficiencies=[0.01], num_bootstrap=50)["rejection@0.01"]
    assert entry.limit == "lower"
    assert entry.value == pytest.approx(200 / 2.9957, rel=0.01)  # -ln 0.05 of Poisson
    assert str(entry).startswith("> ")


def test_limit_on_a_rejection_holds_in_nineteen_of_twenty_samples(tagger):
    # Slightly more than the 3.0 background jets that no passing jet excludes: the worst case, in
    # which a limit of a known threshold excludes the truth in 5 % of the samples.
    true = tagger.rejection(0.1)
    num_background = round(2.9957 * true * 1.02)
    excluded = 0
    for seed in range(600):
        sample = tagger.draw(500, num_background, np.random.default_rng([11, seed]))
        entry = evaluate(*sample, efficiencies=[0.1], num_bootstrap=0)["rejection@0.1"]
        excluded += entry.limit == "lower" and entry.value > true
    assert excluded / 600 < 0.05 + 4 * (0.05 * 0.95 / 600) ** 0.5


def test_perfect_and_inverted_taggers_get_limits():
    labels = np.repeat([0, 1], [40, 60])
    perfect = evaluate(labels, labels * 0.8 + 0.1)
    assert perfect["auc"].limit == perfect["accuracy"].limit == "lower"
    assert perfect["auc"].value == pytest.approx(0.05 ** (1 / 40))
    assert perfect["accuracy"].value == pytest.approx(0.05 ** (1 / 100))
    inverted = evaluate(labels, 0.9 - labels * 0.8)
    assert inverted["auc"].limit == inverted["accuracy"].limit == "upper"
    assert "95% confidence" in " ".join(perfect.notes)


# --- bad input


GOOD = np.array([0.1, 0.4, 0.6, 0.9])


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 0], GOOD, "3 labels for 4 scores"),
        ([1, 1, 1, 1], GOOD, "all 4 jets are of class 'signal'"),
        ([0, 1, 2, 1], GOOD, "jet 2 has labels outside 0 to 1, the first 2"),
        ([0, -1, -1, 1], GOOD, "2 jets, from jet 1 on, have labels outside"),
        ([0, 0.5, 1, 1], GOOD, "whole numbers"),
        (["qcd", "top", "qcd", "top"], GOOD, "whole numbers"),
        ([[0, 1], [0, 1]], GOOD, "labels must have shape"),
        ([0, 0, 1, 1], [0.1, np.nan, 0.3, np.inf], "2 jets, from jet 1 on, have NaN"),
        ([0, 0, 1, 1], [[0.5, np.nan]] * 4, "NaN"),
        ([0, 0, 1, 1], GOOD[:, None], "shape"),
        ([0, 0, 1, 1], GOOD.astype(complex), "real numbers"),
        ([], [], "no scores"),
        ([0, 0, 1, 1], [[0.5, 0.5], [3.1, -3.1], [0.5, 0.5], [0, 1]], "softmax of logits"),
        ([0, 0, 1, 1], [[0.2, 0.2]] * 4, "adding up to 1"),
        ([0, 0, 0, 1], GOOD, "too few jets of class 'signal' \\(1\\)"),
    ],
)
def test_arrays_that_cannot_be_evaluated_are_refused(labels, scores, message: str):
    with pytest.raises(InputError, match=message):
        evaluate(labels, scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"efficiencies": [0.3, 1.0]}, "between 0 and 1, got 1.0"),
        ({"efficiencies": [0.0]}, "between 0 and 1"),
        ({"efficiencies": [float("nan")]}, "between 0 and 1"),
        ({"efficiencies": [0.3, 0.3]}, "repeat"),
        ({"num_bootstrap": -5}, "num_bootstrap"),
        ({"num_bootstrap": 1}, "num_bootstrap"),
        ({"classes": ["a"]}, "1 class name "),
        ({"classes": ["a", "a"]}, "repeat"),
        ({"signal": 2}, "no class 2"),
        ({"signal": 1, "background": 1}, "both signal and background"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        evaluate([0, 0, 1, 1], GOOD, **options)


def test_an_unknown_class_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'top'"):
        evaluate([0, 0, 1, 1], GOOD, classes=["qcd", "top"], signal="tops")


def test_any_discriminant_ranks_but_has_no_accuracy(tagger):
    labels, scores = tagger.draw(100, 100, np.random.default_rng(0))
    logits = np.log(scores / (1 - scores))
    table = evaluate(labels, logits)
    assert "accuracy" not in table
    assert "No accuracy" in " ".join(table.notes)
    assert table["auc"] == evaluate(labels, scores)["auc"]


def test_classes_without_jets_are_left_out_and_named():
    labels, scores = draw_classes(300)
    table = evaluate(np.where(labels == 3, 0, labels), scores)
    assert "auc[class 3]" not in table
    assert "Left out, with fewer than two jets: class 3" in " ".join(table.notes)
    with pytest.raises(InputError, match="too few jets of class 'class 3'"):
        evaluate(np.where(labels == 3, 0, labels), scores, signal="class 3")


def test_equal_scores_are_noted():
    assert "same score" in " ".join(evaluate([0, 0, 1, 1], np.full(4, 0.5)).notes)


def test_lists_integers_tensors_and_half_precision_are_taken(tagger):
    torch = pytest.importorskip("torch")
    labels, scores = tagger.draw(50, 50, np.random.default_rng(0))
    half = scores.astype(np.float16)
    expected = dict(evaluate(labels, half.astype(np.float64)))
    tensor = torch.tensor(half.astype(np.float64), requires_grad=True)
    for given in (half, half.tolist(), tensor):
        assert dict(evaluate(labels.tolist(), given)) == expected
    assert evaluate([0, 1, 0, 1], [1, 2, 3, 4])["auc"].value == 0.75


def test_inputs_are_left_as_they_were(tagger):
    labels, scores = tagger.draw(50, 50, np.random.default_rng(0))
    kept = labels.copy(), scores.copy()
    evaluate(labels, scores)
    np.testing.assert_array_equal(labels, kept[0])
    np.testing.assert_array_equal(scores, kept[1])
