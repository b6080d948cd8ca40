"""The examples of calibration, uncertainty, interpretation and robustness run."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("small_sample")


def test_taylor_coefficients_of_the_toys(tmp_path, run_script):
    printed = run_script("examples/taylor.py", "--steps", "100")
    assert printed.count("<t_(x1, x2)>") == 2
    assert (tmp_path / "runs/taylor/correlation_course.png").stat().st_size > 5_000


def test_an_ensemble_says_how_far_it_can_be_trusted(tmp_path, run_script):
    quick = ["--members", "2", "--epochs", "1", "--max-jets", "400", "--explain-jets", "10"]
    printed = run_script("examples/trust.py", *quick)
    for words in ("temperature*", "mistag rate", "soft pile-up", "surer half", "<t_("):
        assert words in printed
    page = (tmp_path / "runs/trust/report.html").read_text("utf-8")
    assert "How sure the tagger is" in page


def test_attribution_robustness_and_shift_are_shown(run_script):
    quick = ["--train-jets", "300", "--jets", "120", "--epochs", "1", "--model", "pfn"]
    printed = run_script("examples/robustness.py", *quick)
    assert "not accounted for" in printed
    assert printed.count("change of the AUC") == 4
    assert "most different:" in printed
