"""The examples of calibration, uncertainty, interpretation and robustness run."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("small_sample")


def test_taylor_coefficients_of_the_toys(tmp_path, run_script):
    printed = run_script("examples/taylor.py", "--steps", "10")
    assert printed.count("<t_(x1, x2)>") == 2
    assert (tmp_path / "runs/taylor/correlation_course.png").stat().st_size > 5_000


@pytest.mark.usefixtures("undrawn")
def test_an_ensemble_says_how_far_it_can_be_trusted(tmp_path, run_script):
    quick = ["--members", "2", "--epochs", "1", "--max-jets", "400", "--explain-jets", "10"]
    printed = run_script("examples/trust.py", *quick)
    for words in ("temperature*", "mistag rate", "soft pile-up", "less uncertain half", "<t_("):
        assert words in printed
    page = (tmp_path / "runs/trust/report.html").read_text("utf-8")
    assert "Uncertainty of the scores" in page


def test_attribution_robustness_and_shift_are_shown(run_script):
    quick = ["--train-jets", "300", "--jets", "120", "--epochs", "1", "--model", "pfn"]
    printed = run_script("examples/robustness.py", *quick)
    assert "not accounted for" in printed
    assert printed.count("change of the AUC") == 4
    assert "most different:" in printed


def test_the_mass_is_taken_out_of_a_score_by_and_by(tmp_path, run_script):
    quick = ["--weights", "0", "30", "--jets", "200", "--test-jets", "400", "--epochs", "1"]
    quick += ["--batch-size", "100", "--width", "8", "--seeds", "0"]
    printed = run_script("examples/decorrelation.py", *quick, "--max-runs", "1")
    assert "| 0 | 0 | 0." in printed
    assert "| 30 |" not in printed
    printed = run_script("examples/decorrelation.py", *quick)
    assert printed.count("weight 30, seed 0:") == 1
    assert "weight 0, seed 0:" not in printed
    assert "| 30 | 0 | 0." in printed
    assert (tmp_path / "runs/decorrelation/decorrelation.png").stat().st_size > 10_000


def test_epistemic_uncertainty_against_training_jets_becomes_a_figure(tmp_path, run_script):
    quick = ["--jets", "40", "400", "--steps", "2", "--test-jets", "100", "--width", "8"]
    printed = run_script("examples/training_size.py", *quick)
    assert "| 400 | 0 |" in printed
    assert (tmp_path / "runs/training_size/training_size.png").stat().st_size > 10_000
