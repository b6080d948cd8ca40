"""The example of attribution, robustness and domain shift runs with tiny settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "robustness.py"


def test_attribution_robustness_and_shift_are_shown(tmp_path):
    quick = ["--train-jets", "300", "--jets", "120", "--epochs", "1", "--model", "pfn"]
    done = subprocess.run(
        [sys.executable, EXAMPLE, *quick],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not accounted for" in done.stdout
    assert done.stdout.count("change of the AUC") == 4
    assert "most different:" in done.stdout
