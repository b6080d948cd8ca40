"""Attribution of runs: which classes and which jets are explained."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

import pcloud
from pcloud.cli import main
from pcloud.report.attribution import attribution
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.studies.attribution import attribute_run, read_attribution
from pcloud.training.data import load_splits


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tagger of three classes: jets with few, some and many particles."""
    folder = tmp_path_factory.mktemp("three")
    jets = pcloud.load_dataset("simulated", "test")[:600]
    number = ak.num(jets.p4).to_numpy()
    labels = np.searchsorted(np.quantile(number, [1 / 3, 2 / 3]), number)
    jets = ak.with_field(jets, labels, "label")
    jets.attrs["classes"] = ["few", "some", "many"]
    pcloud.io.write_jets(jets, folder / "jets.parquet")
    return pcloud.train(
        data=str(folder / "jets.parquet"), model="pfn", model_options={"phi_widths": [8], "head_widths": [8]},
        features="kin", out=str(folder / "run"), epochs=2, batch_size=64, progress=False,
    )  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_each_of_three_classes_is_explained(run, capsys):
    assert len(run.classes) == 3
    command = ["explain", str(run.path), "--method", "occlusion", "--jets", "5"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    found = read_attribution(run.path).classes
    assert [values.signal for values in found] == run.classes
    for values in found:
        assert f"log-odds of {values.signal}" in printed
        assert values.drawn
        assert all(f" {values.signal}: p(" in jet["title"] for jet in values.drawn)
    section = attribution(RunContents.read(run.path), FigureFolder(run.path / "figures"))
    for name in run.classes:
        assert f"The log-odds of {name}, attributed to the particles of 5 test jets" in section.body
    assert main([*command, "--signal", run.classes[2]]) == 0
    assert [found.signal for found in read_attribution(run.path).classes] == run.classes[2:]


def test_the_most_misclassified_jets_are_those_of_all_test_jets(run):
    found = attribute_run(run, ["occlusion"], jets=5)
    (test,) = load_splits(run.config, "test")
    scores, labels = run.predict(test), np.asarray(test.label)
    own = scores[np.arange(len(labels)), labels]
    for values in found.classes:
        members = np.flatnonzero(labels == run.classes.index(values.signal))
        worst = [jet for jet in values.drawn if jet["title"].startswith("worst")]
        assert worst[0]["index"] == members[own[members].argmin()]
        assert len(worst[0]["deta"]) == len(test.p4[worst[0]["index"]])
        assert values.jets == 5
