"""All commands on jets whose classes, columns and files have hostile names."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

import pcloud
from pcloud.cli.program import main

NAMES = {
    "six": ["[/]", "$\\frac{$", "\x1b[31m", "<script>", "a\nb", "\u202ec"],
    "two": ["$\\frac{$[/red]", "_a\nb\x07"],
}
FILE = "[bold]$x$\x1b[31m.parquet"


@pytest.fixture(scope="module", params=NAMES)
def folder(request, tmp_path_factory):
    """Folder with jets, and what every command printed about a run of them."""
    path = tmp_path_factory.mktemp(request.param)
    names = NAMES[request.param]
    jets = pcloud.load_dataset("simulated", "test")[:240]
    jets["label"] = np.arange(240) % len(names)
    jets = ak.Array(jets.layout, attrs={"classes": names})
    pcloud.write_jets(jets, path / FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        words = ["--data", FILE, "--model", "hl_logistic", "--epochs", "1", "--batch-size", "64"]
        assert main(["train", *words, "--out", "run"]) == 0
        yield path


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return NAMES[folder.name.rstrip("0123456789")]


COMMANDS = {
    "train": ["train", "--data", FILE, "--model", "hl_logistic", "--out", "run"],
    "evaluate": ["evaluate", "run", "--bootstrap", "2"],
    "evaluate other": ["evaluate", "run", "--data", FILE, "--bootstrap", "2"],
    "robustness": [
        "evaluate",
        "run",
        "--bootstrap",
        "0",
        "--robustness",
        "--robustness-jets",
        "30",
    ],
    "predict": ["predict", "run", FILE, "-o", "[/]\x1b.parquet", "--overwrite"],
    "calibrate": ["calibrate", "run", "--method", "vector"],
    "uncertainty": ["uncertainty", "run", "--samples", "3", "--jets", "30"],
    "taylor": ["explain", "run", "--jets", "20", "--pair-jets", "0"],
    "attribution": ["explain", "run", "--jets", "8", "--method", "occlusion"],
    "compare": ["compare", FILE, FILE, "--run", "run", "--max-jets", "80", "--permutations", "9"],
    "convert": ["convert", FILE, "[/]\x1b.npz", "--overwrite"],
    "report": ["report", "run"],
}


def check_printed(said):
    printed = said.out + said.err
    assert not set(printed) & set("\x1b\x07\u202e\r")
    assert "Traceback" not in printed
    return printed


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_names_as_text(command, here, capsys):
    signal = ["--signal", here[0]] if command == "robustness" and len(here) > 2 else []
    background = ["--background", here[1]] if signal else []
    if command == "robustness":
        assert main(["evaluate", "run", "--bootstrap", "0"]) == 0
        capsys.readouterr()
    assert main([*COMMANDS[command], *signal, *background]) == 0, capsys.readouterr().err
    printed = check_printed(capsys.readouterr())
    if command in ("evaluate", "taylor"):
        assert here[0] in printed


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "run", "--signal", "[/]\x1b"],
        ["evaluate", "run\x1b[31m"],
        ["predict", "run", "\x1b[/].parquet", "-o", "x.parquet"],
        ["train", "--data", "\x1b[/].h5", "--model", "pfn", "--out", "new"],
        ["train", "--data", FILE, "--model", "\x1b[/]", "--out", "new"],
        ["\x1b[/]"],
        ["report", "run", "--\x1b[/]"],
    ],
)
def test_an_error_prints_names_as_text(command, here, capsys):
    assert main(command) == 2
    printed = check_printed(capsys.readouterr())
    assert printed.count("\n") == 1


def test_the_page_and_notebooks_show_names_as_text(here):
    for command in ("evaluate", "calibrate", "uncertainty", "compare"):
        assert main(COMMANDS[command]) == 0
    run = pcloud.Run("run")
    pages = [run.report().read_text("utf-8"), run._repr_html_(), run.evaluate()._repr_html_()]
    for page in pages:
        assert not set(page) & set("\x1b\x07\u202e")
        assert "<script>" not in page
    assert not set(repr(run)) & set("\x1b\x07\u202e")
    assert not set(str(run.evaluate())) & set("\x1b\x07\u202e")
