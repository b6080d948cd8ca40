from __future__ import annotations

import sys

import pytest

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.report.robustness import robustness
from pcloud.studies.robustness import read_robustness, robustness_run
from tests.conftest import only_transformations


@pytest.fixture
def few_changes():
    with only_transformations("rotation", "particle_loss"):
        yield


def test_the_command_leaves_tables_and_the_report_draws_them(options, few_changes, capsys):
    run = pcloud.train(**options, progress=False)
    arguments = [str(run.path), "--robustness", "--robustness-jets", "60", "--bootstrap", "10"]
    assert main(["evaluate", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "particle loss" in printed
    stored = read_robustness(run.path)
    assert stored.robustness.jets <= 60
    assert [e.name for e in stored.robustness.effects] == ["particle_loss"] * 4 + ["rotation"] * 2
    assert (stored.signal, stored.background) == ("b", "a")
    section = robustness(RunContents.read(run.path), FigureFolder(run.path / "figures"))
    assert section.title == "Robustness to modified jets"
    assert section.body
    for name in ("robustness", "dependence", "sculpting"):
        assert (run.path / "figures" / f"{name}.png").stat().st_size > 5000
    assert main(["evaluate", *arguments, "--data", "simulated"]) == 2
    assert "leave --data out" in capsys.readouterr().err


def test_a_broken_file_is_said(tmp_path):
    (tmp_path / "robustness.json").write_text("{}")
    with pytest.raises(InputError, match="write it anew"):
        read_robustness(tmp_path)


def test_what_simulation_cannot_do_is_said_before_the_first_jet(options, few_changes, monkeypatch):
    run = pcloud.train(**options, progress=False)
    with pytest.raises(InputError, match=r"simulated jets are qcd, top, the run knows a, b"):
        robustness_run(run, jets=50, simulations=10)
    monkeypatch.setattr("pcloud.simulate.sample.CLASSES", ("a", "b"))
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    monkeypatch.delitem(sys.modules, "pcloud.simulate.engines", raising=False)
    with pytest.raises(ImportError, match=r"pcloud-hep\[sim\]"):
        robustness_run(run, jets=50, simulations=10)
