"""The examples of calibration, uncertainty and interpretation run."""

from __future__ import annotations

from tests.test_examples import run_example


def test_taylor_coefficients_of_the_toys(tmp_path):
    printed = run_example(tmp_path, "taylor.py", "--steps", "100")
    assert printed.count("<t_(x1, x2)>") == 2
    assert (tmp_path / "runs/taylor/correlation_course.png").stat().st_size > 5_000


def test_an_ensemble_says_how_far_it_can_be_trusted(tmp_path):
    quick = ["--members", "2", "--epochs", "1", "--max-jets", "400", "--explain-jets", "10"]
    printed = run_example(tmp_path, "trust.py", *quick)
    for words in ("temperature*", "mistag rate", "soft pile-up", "surer half", "<t_("):
        assert words in printed
    page = (tmp_path / "runs/trust/report.html").read_text("utf-8")
    assert "How sure the tagger is" in page
