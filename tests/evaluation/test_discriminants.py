"""Discriminants from class probabilities, and rejections of each background class."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from pcloud.errors import InputError
from pcloud.evaluation.discriminants import (
    Discriminant,
    auc_matrix,
    efficiencies_at_mistag_rates,
    fraction_scan,
    rejections,
    rejections_in_bins,
)
from pcloud.evaluation.figures.discriminants import (
    auc_matrix_figure,
    fraction_figure,
    rejections_figure,
)
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.scores import Scores
from pcloud.studies.comparison import RunComparison, compare_taggers, run_names
from pcloud.studies.discriminants import StoredDiscriminants, parse_fractions

CLASSES = ["light", "c", "b"]


def draw(number: int = 6000, seed: int = 0, *, weighted: bool = False) -> Scores:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, number)
    logits = generator.normal(size=(number, 3))
    logits[np.arange(number), labels] += 1.5
    logits[labels == 1, 2] += 0.7
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    weights = generator.lognormal(0, 0.7, number) if weighted else None
    return Scores.from_arrays(labels, p, CLASSES, weights)


def test_the_discriminant_is_the_formula():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    discriminant = Discriminant.of(CLASSES, "b", {"c": 0.2})
    expected = np.log(p[:, 2] / (0.2 * p[:, 1] + 0.8 * p[:, 0]))
    np.testing.assert_allclose(discriminant(p), expected, rtol=1e-12)
    assert str(discriminant) == "log(p_b / (0.8 p_light + 0.2 p_c))"
    assert Discriminant.of(CLASSES, "b").fractions == (0.5, 0.5, 0.0)
    assert np.isfinite(discriminant(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))).all()


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"tau": 0.2}, "no class named 'tau': classes are light, c, b"),
        ({"b": 0.2}, "'b' is the signal"),
        ({"c": 1.2}, "between 0 and 1"),
        ({"c": 0.5, "light": 0.7}, "add up to 1"),
        ({"c": 0.5, "light": 0.2}, "add up to 1"),
    ],
)
def test_fractions_that_cannot_be_used_are_refused(fractions: dict, message: str):
    with pytest.raises(InputError, match=message):
        Discriminant.of(CLASSES, "b", fractions)


@pytest.mark.parametrize("weighted", [False, True])
def test_rejections_are_those_of_the_roc_curve_of_each_background(weighted: bool):
    sample = draw(weighted=weighted)
    discriminant = Discriminant.of(CLASSES, "b", {"c": 0.2})
    values = discriminant(sample.values)
    found = rejections(sample, discriminant, [0.6, 0.77])
    for name in ("light", "c"):
        jets = np.isin(sample.labels, [2, CLASSES.index(name)])
        fpr, tpr, _ = roc_curve(
            sample.labels[jets] == 2,
            values[jets],
            sample_weight=sample.weights_of(jets),
            drop_intermediate=False,
        )
        for entry, efficiency in zip(found[name], (0.6, 0.77), strict=True):
            assert entry.value == pytest.approx(1 / np.interp(efficiency, tpr, fpr), rel=1e-9)
            assert entry.low < entry.value < entry.high


def test_efficiencies_belong_to_the_mistag_rate():
    sample = draw()
    discriminant = Discriminant.of(CLASSES, "b", {"c": 0.2})
    values = discriminant(sample.values)
    found = efficiencies_at_mistag_rates(sample, discriminant, [0.1, 0.01])
    for name in ("light", "c"):
        background = np.sort(values[sample.labels == CLASSES.index(name)])[::-1]
        for entry, rate in zip(found[name], (0.1, 0.01), strict=True):
            cut = background[int(rate * len(background)) - 1]
            passed = (values[sample.labels == 2] >= cut).mean()
            assert entry.value == pytest.approx(passed, abs=2e-3)


def test_the_scan_trades_one_rejection_for_the_other():
    sample = draw(20_000)
    shares, of_c, of_light = fraction_scan(
        sample, Discriminant.of(CLASSES, "b"), "c", "light", num_points=5
    )
    assert shares == [0, 0.25, 0.5, 0.75, 1]
    assert of_c[-1].value > of_c[0].value
    assert of_light[0].value > of_light[-1].value
    same = rejections(sample, Discriminant.of(CLASSES, "b", {"c": 0.25}), [0.7])
    assert of_c[1] == same["c"][0]
    figure = fraction_figure(
        shares, of_c, of_light, names=("c", "light"), signal="b", efficiency=0.7, chosen=0.25
    )
    assert figure.axes[0].get_xlabel() == "rejection of light"


def test_bins_add_up_to_the_whole_sample():
    sample = draw(20_000)
    pt = np.random.default_rng(1).exponential(100, 20_000)
    discriminant = Discriminant.of(CLASSES, "b")
    edges, values = rejections_in_bins(sample, discriminant, pt, 0.7, bins=4)
    assert len(edges) == 5
    assert set(values) == set(CLASSES)
    assert np.mean([entry.value for entry in values["b"]]) == pytest.approx(0.7, abs=0.01)
    whole = rejections(sample, discriminant, [0.7])["c"][0].value
    passing = [1 / entry.value for entry in values["c"]]
    assert np.mean(passing) == pytest.approx(1 / whole, rel=0.02)


def test_the_matrix_of_areas_is_that_of_scikit_learn():
    sample = draw(weighted=True)
    matrix = auc_matrix(sample)
    for i in range(3):
        assert matrix[i][i] is None
        for j in {0, 1, 2} - {i}:
            jets = np.isin(sample.labels, [i, j])
            p = sample.values[jets]
            expected = roc_auc_score(
                sample.labels[jets] == i,
                p[:, i] / (p[:, i] + p[:, j]),
                sample_weight=sample.weights[jets],
            )
            assert matrix[i][j].value == pytest.approx(expected, abs=1e-12)
    auc_matrix_figure(matrix, classes=CLASSES)


def test_results_are_stored_and_read_back(tmp_path):
    sample = draw()
    pt = np.random.default_rng(1).exponential(100, len(sample.labels))
    stored = StoredDiscriminants.of(sample, "b", {"c": 0.2}, {"pt": pt})
    stored.write(tmp_path)
    again = StoredDiscriminants.read(tmp_path)
    assert again.to_dict() == stored.to_dict()
    assert stored.rows()[0] == ["b efficiency", "rejection of light", "rejection of c"]
    assert [row[0] for row in stored.mistag_rows()[1:]] == ["10 %", "1 %", "0.1 %"]
    assert stored.scan.chosen == pytest.approx(0.2)


def test_fractions_of_the_command_line():
    assert parse_fractions(["c=0.2", "a=b=0.3"]) == {"c": 0.2, "a=b": 0.3}
    for text in ("c", "c=x", "=0.2"):
        with pytest.raises(InputError, match=r"a fraction is given as class=0\.2"):
            parse_fractions([text])


def test_each_of_many_classes_has_points_of_its_own():
    names = [f"class {i}" for i in range(10)]
    values = {name: [Measured(10.0 + i, 1.0)] * 2 for i, name in enumerate(["b", *names])}
    figure = rejections_figure("pt", [0.0, 1.0, 2.0], values, signal="b")
    points = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "_", "|")]
    assert len({(line.get_color(), line.get_marker()) for line in points}) == len(names)


# --- several taggers


def test_taggers_on_the_same_jets_have_paired_differences(tmp_path):
    first = draw(weighted=True)
    noisy = first.values + np.random.default_rng(3).uniform(0, 0.2, first.values.shape)
    second = Scores.from_arrays(
        first.labels, noisy / noisy.sum(1, keepdims=True), CLASSES, first.weights
    )
    found, files = compare_taggers(
        {"a": first, "b": second}, signal="b", figure=tmp_path / "roc", num_bootstrap=10
    )
    effect = found.effects[1][0]
    assert effect.auc_change.value < 0
    assert effect.auc_change.error < 0.7 * effect.auc.error
    assert files[0].exists()
    assert found.rows()[0][:3] == ["tagger", "AUC", "1000 x difference"]
    assert found.write(tmp_path) == tmp_path / "comparison.json"
    read = RunComparison.read(tmp_path)
    assert read.rows() == found.rows()
    assert read.effects[1][1].rejection == found.effects[1][1].rejection
    text = (tmp_path / "comparison.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(text.splitlines()))
    assert [line["tagger"] for line in lines] == ["a", "a", "b", "b"]
    assert float(lines[2]["auc_change"]) == pytest.approx(effect.auc_change.value, rel=1e-6)
    assert float(lines[2]["auc_change_error"]) == pytest.approx(effect.auc_change.error, rel=0.01)


def test_taggers_on_other_jets_are_refused():
    with pytest.raises(InputError, match="were evaluated on other jets"):
        compare_taggers({"a": draw(), "b": draw(seed=1)}, signal="b")
    with pytest.raises(InputError, match="were evaluated on other jets"):
        compare_taggers({"a": draw(), "b": draw(weighted=True)}, signal="b")


def test_names_of_runs_are_short_and_different():
    assert run_names(["runs/a", "runs/b"]) == ["a", "b"]
    assert run_names(["one/a", "two/a"]) == ["one/a", "two/a"]
    with pytest.raises(InputError, match="named twice"):
        run_names(["runs/a", "runs/a"])
