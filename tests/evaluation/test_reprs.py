"""Results in a terminal are short, and tables in a notebook."""

from __future__ import annotations

import numpy as np
import pytest

from pcloud.evaluation import Measured, Scores, evaluate
from pcloud.evaluation.calibration_maps import fit_calibration
from pcloud.evaluation.conformal import fit_conformal
from pcloud.evaluation.dependence import measure_dependence
from pcloud.evaluation.robustness import Effect, Robustness
from pcloud.evaluation.sculpting import measure_sculpting
from pcloud.evaluation.shift import Difference, ShiftTest
from pcloud.evaluation.working_points import working_points


@pytest.fixture
def sample() -> Scores:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 300)
    p = 1 / (1 + np.exp(-generator.normal(2 * labels - 1.0)))
    return Scores.from_arrays(labels, np.stack([1 - p, p], axis=1), ["<qcd>", "top"])


def robustness() -> Robustness:
    number = Measured(0.9, 0.01, "DeLong")
    effect = Effect("boost", 0.5, number, number, number, number, number, number, number)
    return Robustness(number, Measured(50.0, 5.0, "counting"), [effect], 0.5, 2000)


def test_scores_count_their_jets(sample):
    assert repr(sample) == "Scores of 600 jets: 300 <qcd>, 300 top"


def test_a_measured_number_shows_its_error_and_method():
    assert repr(Measured(0.9, 0.01, "DeLong")) == "Measured(0.900 ± 0.010, DeLong)"
    assert repr(Measured(0.9, 0.01)) == "Measured(0.900 ± 0.010)"
    limit = Measured.fraction(0, 100)
    assert limit._repr_html_() == '<span title="none passes">&lt; 0.030</span>'


def test_a_table_is_one_line_and_two_tables_in_a_notebook(sample):
    table = evaluate(sample.labels, sample.values, classes=sample.classes, num_bootstrap=0)
    assert repr(table).startswith(f"EvaluationTable of 600 jets: auc {table['auc']}, accuracy ")
    assert "\n" not in repr(table)
    page = table._repr_html_()
    assert page.count("<table>") == 1
    assert "&lt;qcd&gt;" in page
    assert "<qcd>" not in page


def test_results_name_their_numbers(sample):
    given = (sample.labels, sample.values)
    (point,) = working_points(*given, efficiencies=[0.5], mistag_rates=[])
    assert repr(point).startswith(f"WorkingPoint(efficiency 0.5: threshold {point.threshold}")
    (dependence,) = measure_dependence(*given, {"pt": np.arange(600.0)}, bins=3)
    assert "pt: 3 bins from 0 to 599" in repr(dependence)
    assert len(dependence.rows()) == 4
    (cut,) = measure_sculpting(*given, np.arange(600.0), efficiencies=[0.5], num_resamplings=5)
    assert str(cut.distance) in repr(cut)
    assert repr(fit_calibration(*given)).startswith("Scaling(inverse temperature ")
    assert repr(fit_calibration(*given, "isotonic")).endswith(" knots)")
    assert repr(fit_conformal(*given)).startswith("ConformalSets(coverage 0.9, ")
    for result in (point, dependence):
        assert "<table>" in result._repr_html_()


def test_robustness_names_jets_and_modifications():
    found = robustness()
    assert "2,000 jets to 1 modification: AUC 0.900 ± 0.010" in repr(found)
    assert repr(found.effects[0]).startswith("Effect of boost 0.5: AUC 0.900 ± 0.010")
    assert found._repr_html_().count("<tr>") == 3


def test_a_shift_test_states_its_result():
    mean = Measured(1.0, 0.1)
    difference = Difference("pt", mean, mean, 0.3, 0.001, 0.004)
    found = ShiftTest("boosting", Measured(0.7, 0.02), 0.001, (100, 200), [difference])
    assert repr(found) == (
        "ShiftTest of 100 and 200 jets. The samples differ: the classifier 'boosting' separates "
        "them with AUC 0.700 ± 0.020 (p = 0.001)."
    )
    assert "corrected p-value 0.004" in repr(difference)
    assert "<td>0.004</td>" in found._repr_html_()
