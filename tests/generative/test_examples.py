"""The examples of small generators run on data that are at hand."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("vae.py", ["points", "--steps", "30"], "components of the code are unused"),
        ("gan.py", ["digits", "--steps", "12", "--kind", "wasserstein"], "distance:"),
        ("vae.py", ["jets", "--steps", "5"], "components of the code are unused"),
    ],
)
def test_examples_of_generators_run(script, words, said, run_script, small_sample, tmp_path):
    printed = run_script(f"examples/{script}", *words)
    assert said in printed
    assert "times as far from each other" in printed
    assert len(list(tmp_path.rglob("*.png"))) == 2
