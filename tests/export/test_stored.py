"""Files of earlier releases: their probabilities do not change."""

from __future__ import annotations

import numpy as np
import pytest

from pcloud.export.check import ExportedTagger
from pcloud.export.inputs import CloudInputs
from tests.export.stored import FOLDER, NUM_JETS

NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))


@pytest.mark.parametrize("name", NAMES)
def test_an_older_file_gives_its_stored_probabilities(name, needs_onnx):
    stored = np.load(FOLDER / f"{name}.npz")
    jets = np.split(stored["p4"], np.cumsum(stored["counts"])[:-1])
    assert len(jets) == NUM_JETS
    tagger = ExportedTagger(FOLDER / f"{name}.onnx")
    assert tagger.classes == ["qcd", "top"]
    assert tagger.metadata["metrics"]["auc"]["value"] > 0.9
    inputs = CloudInputs.from_metadata(tagger.metadata["inputs"])
    found = tagger(inputs.jets([{"p4": p4} for p4 in jets]))["probabilities"]
    np.testing.assert_allclose(found, stored["probabilities"], rtol=0, atol=1e-6)


def test_there_is_a_file_of_this_release():
    assert "release_0_1" in NAMES
    assert (FOLDER / "release_0_1.onnx").stat().st_size < 60_000
