"""Significance improvement, and counts at a threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.evaluation.figures.significance import significance_figure
from pcloud.evaluation.scores import Scores
from pcloud.evaluation.significance import significance_improvement, significance_rows
from pcloud.evaluation.threshold import AtThreshold, counts_at_threshold
from pcloud.report import write_report


def gaussian(number=20_000, seed=0, shift=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, number)
    return Scores.from_arrays(labels, rng.normal(size=number) + shift * labels)


def test_the_improvement_is_that_of_the_rejection():
    sample = gaussian()
    (found,) = significance_improvement(sample)
    table = pcloud.evaluate(sample.labels, sample.values, num_bootstrap=0)
    for efficiency in (0.3, 0.5):
        value = found.values[found.efficiencies.index(efficiency)]
        rejection = table[f"rejection@{efficiency}"]
        assert value.value == pytest.approx(efficiency * math.sqrt(rejection.value))
        assert value.low == pytest.approx(efficiency * math.sqrt(rejection.low))
        assert value.high == pytest.approx(efficiency * math.sqrt(rejection.high))
    assert len(significance_figure([found]).axes[0].containers) == 1


def test_the_interval_covers_the_truth_of_two_gaussians():
    from scipy.stats import norm

    efficiency = 0.5
    truth = efficiency / math.sqrt(norm.sf(1.5 - norm.ppf(efficiency)))
    covered = 0
    for seed in range(200):
        (found,) = significance_improvement(gaussian(1000, seed), efficiencies=[efficiency])
        covered += found.values[0].low < truth < found.values[0].high
    assert 0.58 < covered / 200 < 0.80


def test_the_maximum_is_no_limit():
    (found,) = significance_improvement(gaussian(2000, shift=4.0))
    efficiency, value = found.maximum
    assert value.limit is None
    assert any(entry.limit == "lower" for entry in found.values)  # no background is left there
    assert significance_rows([found])[1][1:3] == [str(value), f"{efficiency:g}"]
    perfect = Scores.from_arrays([0] * 50 + [1] * 50, [0.0] * 50 + [1.0] * 50)
    (nothing,) = significance_improvement(perfect)
    assert nothing.maximum is None
    assert significance_rows([nothing])[1][1] == "none measured"


@pytest.mark.parametrize("classes", [2, 3])
def test_counts_agree_with_scikit_learn(classes):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, classes, 500)
    p = rng.dirichlet(np.ones(classes), 500)
    p[np.arange(500), labels] += 0.4
    p /= p.sum(axis=1, keepdims=True)
    sample = Scores.from_arrays(labels, p)
    found = counts_at_threshold(sample, 0.4)
    assert len(found.classes) == (1 if classes == 2 else 3)
    for one in found.classes:
        target = sample.classes.index(one.signal)
        truth, passes = labels == target, p[:, target] >= 0.4
        expected = confusion_matrix(truth, passes)  # rows: background, signal
        assert [one.true_negatives, one.false_positives] == expected[0].tolist()
        assert [one.false_negatives, one.true_positives] == expected[1].tolist()
        assert one.precision.value == pytest.approx(precision_score(truth, passes))
        assert one.recall.value == pytest.approx(recall_score(truth, passes))


def test_counts_have_weights_and_are_stored(tmp_path):
    w = np.array([1.0, 2.0, 0.5, 4.0])
    sample = Scores.from_arrays([0, 0, 1, 1], [0.2, 0.8, 0.4, 0.9], ["b", "s"], w)
    found = counts_at_threshold(sample, 0.5)
    (one,) = found.classes
    assert (one.true_positives, one.false_positives) == (4, 2)
    assert (one.false_negatives, one.true_negatives) == (0.5, 1)
    assert one.precision.value == pytest.approx(4 / 6)
    found.write(tmp_path)
    assert str(AtThreshold.read(tmp_path)) == str(found)
    assert one.matrix()[1] == ["s", "4", "0.5"]
    (none,) = counts_at_threshold(sample, 2.0).classes
    assert none.precision is None
    with pytest.raises(InputError, match="threshold must be a number"):
        counts_at_threshold(sample, math.nan)


@pytest.mark.usefixtures("undrawn")
def test_the_command_prints_them_and_the_report_has_a_matrix_of_each_evaluation(tmp_path, capsys):
    options = {"epochs": 2, "lr": 0.1, "progress": False, "out": tmp_path / "run"}
    pcloud.train(data="gaussians", model="logistic", **options)
    command = ["evaluate", str(tmp_path / "run"), "--bootstrap", "0"]
    assert main([*command, "--threshold", "0.6"]) == 0
    printed = capsys.readouterr().out
    assert "significance improvement" in printed
    assert "predicted signal" in printed
    for split in ("train", "val"):
        assert main([*command, "--split", split]) == 0
    page = write_report(tmp_path / "run").read_text()
    assert "Significance improvement" in page
    assert "Evaluation train: normalised by true class" in page
    assert "Evaluation val: normalised by true class" in page
    assert "precision" in page
