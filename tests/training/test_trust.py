"""Run folders, checkpoints and configurations from strangers: their Python code does not run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

import pcloud
from pcloud.cli.program import main
from pcloud.errors import InputError

NET = """
import torch
open("ran", "w").close()

class Net(torch.nn.Module):
    def __init__(self, in_features, num_outputs=2):
        super().__init__()
        self.head = torch.nn.Linear(in_features, num_outputs)

    def forward(self, x, p4, batch):
        return torch.zeros(int(batch.max()) + 1, 2).index_add(0, batch, self.head(x))
"""


@pytest.fixture(scope="module")
def good(jet_file, tmp_path_factory):
    """Trained run of a registered model."""
    out = tmp_path_factory.mktemp("good") / "run"
    options = {"epochs": 1, "batch_size": 256, "progress": False}
    pcloud.train(data=str(jet_file), model="hl_logistic", out=str(out), **options)
    return out


@pytest.fixture
def jets(good, jet_file, tmp_path, monkeypatch):
    """File of jets, beside the folder ``sent`` whose checkpoints name code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCLOUD_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("pcloud.models.trust._KNOWN", {})
    shutil.copytree(good, "sent")
    Path("sent/payload.py").write_text(NET)
    for name in ("best", "last"):
        path = Path(f"sent/checkpoints/{name}.ckpt")
        content = torch.load(path, weights_only=True)
        tagger = content["tagger"]
        weights = torch.nn.Linear(7, 2).state_dict()
        weights = {f"head.{key}": value for key, value in weights.items()}
        tagger.update(name="sent/payload.py:Net", options={}, weights=weights)
        tagger["features"] = pcloud.feature_set("kin").to_dict()
        torch.save(content, path)
    return str(jet_file)


def name_in_config(folder="sent", **changes):
    path = Path(folder, "config.yaml")
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(values | changes))


def train_words(jets, *more, model="hl_logistic", out="new"):
    return ["train", "--data", jets, "--model", model, "--out", out, "--epochs", "1", "-q", *more]


COMMANDS = {
    "evaluate": lambda jets: ["evaluate", "sent", "--bootstrap", "0"],
    "evaluate other jets": lambda jets: ["evaluate", "sent", "--data", jets, "--bootstrap", "0"],
    "predict": lambda jets: ["predict", "sent", jets, "-o", "scores.parquet", "-q"],
    "calibrate": lambda jets: ["calibrate", "sent", "--checkpoint", "last"],
    "uncertainty": lambda jets: ["uncertainty", "sent", "-q", "--samples", "2", "--jets", "20"],
    "explain": lambda jets: ["explain", "sent", "-q", "--jets", "20", "--method", "occlusion"],
    "compare": lambda jets: ["compare", jets, jets, "--run", "sent", "--max-jets", "50"],
    "init-from a run": lambda jets: train_words(jets, "--init-from", "sent", "--reset-head"),
    "init-from a checkpoint": lambda jets: train_words(
        jets, "--init-from", "sent/checkpoints/best.ckpt", "--reset-head"
    ),
    "teacher": lambda jets: train_words(jets, "--teacher", "sent"),
}


BUILD_THE_CONFIGURATION = ("evaluate", "evaluate other jets", "calibrate", "uncertainty", "explain")
CASES = [(command, "checkpoint") for command in COMMANDS]
CASES += [(command, "configuration") for command in BUILD_THE_CONFIGURATION]


@pytest.mark.parametrize(("command", "place"), CASES)
def test_no_command_runs_code_that_a_run_names(command, place, jets, good, capsys):
    if place == "configuration":
        shutil.rmtree("sent/checkpoints")
        shutil.copytree(good / "checkpoints", "sent/checkpoints")
        name_in_config(model="sent/payload.py:Net", model_options={})
    before = sorted(Path().rglob("*"))
    assert main(COMMANDS[command](jets)) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "--trust-code" in said.err
    assert "sent/payload.py" in said.err
    assert said.out == ""
    assert sorted(Path().rglob("*")) == before
    assert not Path("ran").exists()


@pytest.mark.parametrize("command", ["evaluate", "predict", "compare"])
def test_a_command_runs_code_that_the_user_allows(command, jets):
    assert main([*COMMANDS[command](jets), "--trust-code"]) == 0
    assert Path("ran").exists()


def test_a_configuration_does_not_run_code_unasked(jets, capsys):
    options = {"data": jets, "model": "sent/payload.py:Net", "out": "new", "epochs": 1}
    Path("sent.yaml").write_text(yaml.safe_dump(options))
    words = ["train", "--config", "sent.yaml", "--batch-size", "256", "-q"]
    for more in ([], ["--ensemble", "2"]):
        assert main([*words, *more]) == 2
        assert not Path("new").exists()
        assert not Path("ran").exists()
    name_options = options | {"model": "pixel_cloud"}
    name_options["model_options"] = {"network": "sent/payload.py:Net"}
    Path("wrapped.yaml").write_text(yaml.safe_dump(name_options))
    assert main(["train", "--config", "wrapped.yaml", "-q"]) == 2
    for config in (
        pcloud.training.TrainConfig.from_file("sent.yaml"),
        pcloud.training.TrainConfig.from_file("wrapped.yaml", epochs=2),
        pcloud.training.TrainConfig.from_file("sent.yaml").with_options(out="b"),
    ):
        with pytest.raises(InputError, match="--trust-code"):
            pcloud.train(config, progress=False)
    assert not Path("ran").exists()
    assert "--trust-code" in capsys.readouterr().err
    assert main([*words, "--model", "sent/payload.py:Net"]) == 0, "named by the user"
    assert main([*words, "--out", "again", "--seed", "3"]) == 0, "known now"


def test_a_run_of_ones_own_goes_on_without_being_asked(jets):
    Path("mine.py").write_text(NET + "# mine\n")
    options = {"epochs": 1, "batch_size": 256, "progress": False}
    run = pcloud.train(data=jets, model="mine.py:Net", out="own", **options)
    assert len(run.predict(pcloud.read_jets(jets)[:5])) == 5
    assert main(["evaluate", "own", "--bootstrap", "0"]) == 0
    assert main(["train", "--config", "own/config.yaml", "-q", "--out", "second"]) == 0
    Path("mine.py").write_text(NET + "# mine, but changed\n")
    assert main(["evaluate", "own", "--bootstrap", "0"]) == 2
    with pytest.raises(InputError, match="trust_code=True"):
        pcloud.Run("own").evaluate()
    assert pcloud.Run("own", trust_code=True).evaluate(num_bootstrap=0)


def test_options_of_a_stored_checkpoint_are_no_words_of_the_user(jets, good):
    """A killed run is continued with the options in its checkpoint."""
    shutil.rmtree("sent/checkpoints")
    shutil.copytree(good / "checkpoints", "sent/checkpoints")
    path = Path("sent/checkpoints/last.ckpt")
    content = torch.load(path, weights_only=True)
    content["run"]["state"]["finished"] = False
    content["tagger"]["name"] = "pixel_cloud"
    content["tagger"]["options"] = {"network": "sent/payload.py:Net"}
    torch.save(content, path)
    run = pcloud.Run("sent")
    with pytest.raises(InputError, match="--trust-code"):
        run.tagger("last")
    assert not Path("ran").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_run_can_be_shown_without_running_its_code(jets):
    name_in_config(model="sent/payload.py:Net", model_options={})
    run = pcloud.Run("sent")
    assert "payload" in repr(run)
    assert "payload" in run._repr_html_()
    run.report()
    assert not Path("ran").exists()
