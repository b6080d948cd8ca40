"""``pcloud doctor``."""

from __future__ import annotations

import warnings
from importlib.metadata import version

import pytest
import torch

import pcloud
from pcloud.cli import doctor, main


def test_versions_machine_and_settings(capsys, monkeypatch):
    monkeypatch.setenv("PCLOUD_REFERENCE_DATA", "/somewhere")
    monkeypatch.setenv("UNRELATED_SECRET", "hidden")
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines() if line]
    assert rows[0][:2] == ["pcloud", pcloud.__version__]
    assert ["torch", str(torch.__version__)] in rows
    assert ["awkward", version("awkward")] in rows
    assert ["free", "memory"] in [row[:2] for row in rows]
    assert "PCLOUD_REFERENCE_DATA=/somewhere" in text
    assert "hidden" not in text


def test_a_package_that_is_absent_has_its_extra(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda name: ["numpy>=1", "nothing; extra == 'sim'"])
    assert main(["doctor"]) == 0
    assert ["nothing", "not", "installed", "sim"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


def test_the_other_project_of_the_same_import_name_is_warned_of(capsys, monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "1.4" if name == "pcloud" else real(name))
    with warnings.catch_warnings():
        warnings.simplefilter("default", doctor.SameNameWarning)
        assert main(["doctor"]) == 0
    assert "pip uninstall pcloud" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_versions_are_those_of_the_modules(name):
    assert doctor._version(name) == str(__import__(name).__version__)
