"""All commands on jets whose classes, columns and files have hostile names."""

from __future__ import annotations

from contextlib import nullcontext

import awkward as ak
import numpy as np
import pytest

import pcloud
from pcloud.cli.program import main
from tests.conftest import only_transformations

NAMES = {
    "two": ["[/]$\\frac{$\x1b[31m", "_<script>a\nb\u202e"],
    "three": ["[/red]", "$\\frac{$", "\x1b]0;\x07"],
}
FILE = "[bold]$x$\x1b[31m.parquet"


pytestmark = [
    pytest.mark.filterwarnings("ignore::pcloud.training.constant.NothingLearnedWarning"),
    pytest.mark.filterwarnings("ignore:Attempting to set identical"),
    pytest.mark.filterwarnings("ignore::pcloud.training.run_sample.OtherJetsWarning"),
]
TRAIN = ["train", "--data", FILE, "--model", "hl_logistic", "--out", "run", "--epochs", "1"]
TRAIN += ["--batch-size", "64"]


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
        assert main(TRAIN) == 0
        assert main(["evaluate", "run", "--bootstrap", "0"]) == 0
        yield path


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return NAMES[folder.name.rstrip("0123456789")]


COMMANDS = {
    "train": TRAIN,
    "evaluate": ["evaluate", "run", "--bootstrap", "2"],
    "evaluate other": ["evaluate", "run", "--data", FILE, "--bootstrap", "2"],
    "predict": ["predict", "run", FILE, "-o", "[x]\x1b.parquet", "--overwrite"],
    "calibrate": ["calibrate", "run", "--method", "vector"],
    "convert": ["convert", FILE, "[x]\x1b.npz", "--overwrite"],
}
OF_TWO_CLASSES = {
    "robustness": [
        "evaluate",
        "run",
        "--bootstrap",
        "0",
        "--robustness",
        "--robustness-jets",
        "30",
    ],
    "uncertainty": ["uncertainty", "run", "--samples", "2", "--jets", "10"],
    "taylor": ["explain", "run", "--jets", "4", "--pair-jets", "0"],
    "attribution": ["explain", "run", "--jets", "4", "--method", "occlusion"],
    "compare": [
        *("compare", FILE, FILE, "--run", "run", "--max-jets", "60"),
        *("--classifier", "logistic", "--permutations", "9"),
    ],
}


def check_page(page):
    assert not set(page) & set("\x1b\x07\u202e")
    assert "<script" not in page


def check_printed(said):
    printed = said.out + said.err
    assert not set(printed) & set("\x1b\x07\u202e\r")
    assert "Traceback" not in printed
    return printed


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_names_as_text(command, here, capsys):
    assert main(COMMANDS[command]) == 0, capsys.readouterr().err
    printed = check_printed(capsys.readouterr())
    if command == "evaluate" and len(here) > 2:
        assert "[/red]" in printed


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


def test_studies_the_page_and_notebooks_show_names_as_text(here, capsys):
    if len(here) == 2:  # of more classes by the same code, for each class in turn
        for words in OF_TWO_CLASSES.values():
            few = only_transformations("rotation") if "--robustness" in words else nullcontext()
            with few:
                assert main(words) == 0, capsys.readouterr().err
            check_printed(capsys.readouterr())
    assert main(["report", "run"]) == 0, capsys.readouterr().err
    check_printed(capsys.readouterr())
    run = pcloud.Run("run")
    table = run.evaluate(num_bootstrap=0)
    report = (run.path / "report.html").read_text("utf-8")
    for page in (report, run._repr_html_(), table._repr_html_()):
        check_page(page)
    for text in (repr(run), str(table), repr(table), table.to_markdown()):
        assert not set(text) & set("\x1b\x07\u202e")
