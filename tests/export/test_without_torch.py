"""The example that scores jets without torch."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

import awkward as ak
import numpy as np

import pcloud
from pcloud.training.run_sample import load_run_sample
from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "score_without_torch.py"


def test_jets_are_scored_in_a_process_without_torch(run, file, tmp_path):
    jets = load_run_sample(run, "test")
    pcloud.write_jets(jets, tmp_path / "jets.parquet")
    command = [sys.executable, EXAMPLE, file, tmp_path / "jets.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = run.predict(jets, calibrated=True).mean(0)
    found = [float(number) for number in re.findall(r"mean score (\S+)", done.stdout)]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_scores_of_events_have_the_lists_of_their_jets(run, file):
    example = runpy.run_path(str(EXAMPLE))
    jets = load_run_sample(run, "test")[:12]
    lengths = [3, 0, 4, 5]
    events = ak.unflatten(jets[["p4", "charge"]], lengths)
    found = example["scores"](events, example["Tagger"](str(file)), "b")
    assert ak.num(found).tolist() == lengths
    expected = run.predict(jets, calibrated=True)[:, 1]
    np.testing.assert_allclose(ak.flatten(found), expected, atol=1e-6)
