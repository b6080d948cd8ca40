"""The command line: help for everything, one line for every error, the whole way to a report."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import warnings
from argparse import ArgumentParser, _SubParsersAction
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from pcloud import Run, write_jets
from pcloud.cli import build_parser, main
from pcloud.cli.output import print_rows
from pcloud.training.data import load_splits
from pcloud.training.module import TaggerModule
from pcloud.training.run_sample import OtherJetsWarning
from tests.training.conftest import TINY, make_jets

COMMANDS = (
    *("train", "evaluate", "predict", "calibrate", "uncertainty", "explain", "report"),
    *("export", "check", "compare", "inspect", "convert", "simulate", "models", "datasets"),
    *("download", "doctor", "completion", "draw", "tune", "generate", "pretrain", "weak"),
)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    write_jets(make_jets(300), "jets.parquet")
    yield
    torch.set_num_threads(threads)


TRAIN = [
    *("train", "--data", "jets.parquet", "--model", TINY, "--out", "run"),
    *("--epochs", "2", "--batch-size", "64"),
]


def subparsers(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    (action,) = (a for a in parser._actions if isinstance(a, _SubParsersAction))
    return action._name_parser_map


# Help


def test_all_commands_are_there() -> None:
    assert set(subparsers(build_parser())) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is(command: str) -> None:
    for action in subparsers(build_parser())[command]._actions:
        assert action.help, f"{command}: {action.option_strings or action.dest} has no help"
        assert len(action.help) > 10 or action.dest == "help"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_readable(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: pcloud {command}")
    for noise in ("typing.", "Literal[", "NoneType", "null", "<class", "(type:", "+ ", "TEXT|TEXT"):
        assert noise not in text


def test_help_shows_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: 60.0)" in text
    assert "Seed of the initial weights" in text
    assert "One of ranger, adamw, lion, muon, sgd" in text


def test_help_does_not_wait_for_slow_imports() -> None:
    code = (
        "import sys; from pcloud.cli import build_parser; build_parser().format_help(); "
        "print([m for m in ('torch', 'lightning', 'awkward', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The whole way


@pytest.mark.usefixtures("undrawn")
def test_from_jets_to_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TRAIN) == 0
    said = capsys.readouterr()
    (train_jets,) = load_splits(Run("run").config, "train")
    assert f"{len(train_jets)} training jets" in said.err
    assert "finished; best val_loss" in said.err
    assert said.out == ""

    assert main(["evaluate", "run"]) == 0
    said = capsys.readouterr().out
    assert "AUC" in said or "auc" in said
    assert "±" in said

    assert main(["report", "run"]) == 0
    assert Path(capsys.readouterr().out.strip()).read_text().startswith("<!")

    assert main(["predict", "run", "jets.parquet", "-o", "scores.parquet", "-q"]) == 0
    assert capsys.readouterr().out == "scores of 300 jets: scores.parquet\n"
    assert pq.read_table("scores.parquet").num_rows == 300

    write_jets(make_jets(60, seed=3), "other.npz")
    assert main(["evaluate", "run", "--data", "other.npz", "--efficiencies", "0.6"]) == 0
    assert "run/evaluations/other" in capsys.readouterr().out
    assert Path("run/evaluations/other/metrics.json").exists()


def test_the_configuration_of_a_run_trains_the_same_again() -> None:
    assert main([*TRAIN, "-q", "--seed", "3", "--model-options.width", "4"]) == 0
    assert main(["train", "--config", "run/config.yaml", "--out", "again", "-q"]) == 0
    first, again = Run("run"), Run("again")
    assert first.config.model_options == {"width": 4}
    assert first.config.differences(again.config) == []
    for key, value in first.model("last").state_dict().items():
        assert value.equal(again.model("last").state_dict()[key])


def test_the_same_command_again_says_that_the_run_is_finished(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([*TRAIN, "-q"])
    before = Path("run/checkpoints/last.ckpt").stat().st_mtime_ns
    assert main(TRAIN) == 0
    assert capsys.readouterr().err.strip() == "run is finished; --overwrite starts anew"
    assert Path("run/checkpoints/last.ckpt").stat().st_mtime_ns == before


def test_several_files_and_features_are_lists() -> None:
    write_jets(make_jets(100, seed=1), "more.parquet")
    words = [*TRAIN, "-q", "--features", "log_pt", "deta", "--class-weights", "1", "2"]
    words[3:3] = ["more.parquet"]
    words[2:4] = ["jets.parquet", "more.parquet"]
    assert main(words) == 0
    config = Run("run").config
    assert config.data == [str(Path(name).absolute()) for name in ("jets.parquet", "more.parquet")]
    assert config.features == ["log_pt", "deta"]
    assert config.class_weights == [1.0, 2.0]
    assert Run("run").feature_set.names == ("log_pt", "deta")


def test_a_schema_of_ones_own_is_a_yaml_file(capsys: pytest.CaptureFixture[str]) -> None:
    jets = make_jets(200)
    arrays = {
        f"my_{k}": np.nan_to_num(np.ma.filled(ak.to_numpy(ak.pad_none(jets.p4[k], 20)), 0))
        for k in ("E", "px", "py", "pz")
    }
    np.savez("mine.npz", **arrays, truth=jets.label.to_numpy())
    p4 = {k: f"my_{k}" for k in ("E", "px", "py", "pz")}
    Path("schema.yaml").write_text(yaml.safe_dump({"p4": p4, "label": "truth"}))
    words = [*TRAIN, "-q", "--schema", "schema.yaml"]
    words[2] = "mine.npz"
    assert main(words) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("default", OtherJetsWarning)
        assert main(["evaluate", "run", "--data", "mine.npz", "--schema", "schema.yaml"]) == 0
    assert "of these 200 jets are training jets of run, too" in capsys.readouterr().err
    assert main(["convert", "mine.npz", "ours.parquet", "--schema", "schema.yaml", "-q"]) == 0


def test_tables_of_models_and_data_sets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # They are compared with the documentation in tests/cli/test_model_table.py.
    monkeypatch.setattr("pcloud.cli.model_table.flops_per_jet", lambda model: 12.3e6)
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "particlenet_lite" in text
    assert "26,416" in text
    assert "1902.08570" in text
    assert "on images: cnn, dense, group_cnn" in text
    assert main(["models", "--markdown"]) == 0
    text = capsys.readouterr().out
    assert "[1902.08570](https://arxiv.org/abs/1902.08570)" in text
    assert "| 12.3 |" in text
    assert main(["datasets"]) == 0
    assert "simulated" in capsys.readouterr().out


def test_several_files_are_scored_and_converted_in_their_order(capsys) -> None:
    write_jets(make_jets(60, seed=3), "other.npz")
    assert main([*TRAIN[:-4], "--epochs", "1", "-q"]) == 0
    assert main(["convert", "jets.parquet", "other.npz", "all.parquet"]) == 0
    assert main(["predict", "run", "jets.parquet", "other.npz", "-o", "two.parquet", "-q"]) == 0
    assert main(["predict", "run", "all.parquet", "-o", "one.parquet", "-q"]) == 0
    said = capsys.readouterr().out
    assert said.count("360 jets") == 3
    two, one = pq.read_table("two.parquet"), pq.read_table("one.parquet")
    assert two.drop(["file", "entry"]).equals(one.drop(["entry"]))
    assert two["entry"].to_pylist() == [*range(300), *range(60)]


# Interruption


def test_ctrl_c_saves_the_run_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = TaggerModule.training_step, []

    def interrupted(self: TaggerModule, *args: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)

    monkeypatch.setattr(TaggerModule, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    assert main(TRAIN) == 130
    assert "the same command continues it" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler
    assert not Run("run").finished
    assert main(TRAIN) == 0
    assert "continuing after step 2" in capsys.readouterr().err
    assert len(calls) == 6  # 3 steps in each of 2 epochs, none lost and none repeated


def test_sigterm_saves_the_run_too(monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = TaggerModule.training_step, []

    def interrupted(self: TaggerModule, *args: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)

    monkeypatch.setattr(TaggerModule, "training_step", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main([*TRAIN, "-q"])
    assert stopped.value.code == 128 + signal.SIGTERM
    assert main([*TRAIN, "-q"]) == 0
    assert len(calls) == 6


# Bad input


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of files with one fault each, beside one of good jets."""
    folder = tmp_path_factory.mktemp("bad")
    jets = make_jets(300)
    write_jets(jets, folder / "jets.parquet")
    write_jets(jets[jets.label == 1], folder / "one_class.parquet")
    write_jets(ak.without_field(jets, "label"), folder / "unlabelled.parquet")
    p4 = {k: jets.p4[k] * 1000 * 500 for k in ("E", "px", "py", "pz")}
    units = ak.with_field(jets, ak.zip(p4, with_name="Momentum4D"), "p4")
    write_jets(units, folder / "mev.parquet")
    good = (folder / "jets.parquet").read_bytes()
    (folder / "truncated.parquet").write_bytes(good[:2000])
    (folder / "empty.h5").write_bytes(b"")
    (folder / "text.parquet").write_text("these are no jets")
    (folder / "bad.yaml").write_text("data: [a, b")
    (folder / "unknown.yaml").write_text("data: jets.parquet\nmax_jet: 3\n")
    particles = [[[np.nan, 0.1, 0.2, 11]], [[5.0, 0.1, 0.2, 22]]]
    np.savez(folder / "nan.npz", X=np.array(particles), y=np.array([0, 1]))
    return folder


WITHOUT_DATA = ["--model", "pfn", "--out", "run"]
BAD = [
    (["train"], "training needs data and model and out"),
    (["train", "--data", "absent.h5", *WITHOUT_DATA], "absent.h5"),
    (["train", "--data", "simulatd", *WITHOUT_DATA], "did you mean 'simulated'"),
    (["train", "--data", "truncated.parquet", *WITHOUT_DATA], "truncated.parquet"),
    (["train", "--data", "empty.h5", *WITHOUT_DATA], "empty.h5"),
    (["train", "--data", "text.parquet", *WITHOUT_DATA], "text.parquet"),
    (["train", "--data", "one_class.parquet", *WITHOUT_DATA], "'b'"),
    (["train", "--data", "unlabelled.parquet", *WITHOUT_DATA], "have no labels"),
    (["train", "--data", "mev.parquet", *WITHOUT_DATA], "mev.parquet"),
    (["train", "--data", "nan.npz", *WITHOUT_DATA], "nan.npz"),
    ([*TRAIN, "--model", "particlnet"], "did you mean 'particlenet'"),
    ([*TRAIN, "--model", "my_tagger:Tagger"], "my_tagger"),
    ([*TRAIN, "--model-options.widht", "3"], "did you mean 'width'"),
    ([*TRAIN, "--recipe", "partt"], "did you mean 'part'"),
    ([*TRAIN, "--features", "kin", "charge_of_the_particle"], "charge_of_the_particle"),
    ([*TRAIN, "--features", "full"], "need charge"),
    ([*TRAIN, "--max-jets", "many"], "--max-jets: 'many'"),
    ([*TRAIN, "--lr", "-3"], "lr must be positive"),
    ([*TRAIN, "--optimizer", "sdg"], "did you mean 'sgd'"),
    ([*TRAIN, "--out", "jets.parquet/run"], "cannot make the folder jets.parquet/run"),
    ([*TRAIN, "--class-weights", "1", "2", "3"], "3 numbers for 2 classes"),
    ([*TRAIN, "--max-jet", "3"], "no option named '--max-jet'; did you mean '--max-jets'"),
    ([*TRAIN, "--accelerator", "tpu"], "accelerator"),
    ([*TRAIN, "--schema", "landscap"], "did you mean 'landscape'"),
    (["train", "--config", "absent.yaml"], "absent.yaml"),
    (["train", "--config", "bad.yaml"], "bad.yaml"),
    (["train", "--config", "unknown.yaml"], "did you mean '--max-jets'"),
    (["trian"], "no command named 'trian'; did you mean 'train'"),
    (["evaluate"], "run"),
    (["evaluate", "absent"], "no run at absent"),
    (["evaluate", "."], "not the folder of a run"),
    (["predict", "absent", "jets.parquet"], "no run at absent"),
    (["report", "absent"], "absent"),
    (["convert", "absent.root", "jets.npz"], "absent.root"),
    (["convert", "jets.parquet", "jets.doc"], "jets.doc"),
    (["convert", "jets.parquet", "jets.parquet"], "itself"),
    (["simulate", "jets.doc", "-n", "10"], "jets.doc"),
    (["simulate", "new.parquet", "-n", "-5"], "-5"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words)[-60:] for words, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str],
    message: str,
    bad_files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(bad_files)
    if words[0] == "simulate":
        pytest.importorskip("pythia8mc")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("pcloud: error: ")
    assert said.count("\n") == 1
    assert message in said
    assert not Path("run").exists()


def test_another_configuration_in_the_folder_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([*TRAIN, "-q"])
    capsys.readouterr()
    assert main([*TRAIN, "--seed", "9"]) == 2
    assert "seed 0 is now 9" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from pcloud.training import fit

    monkeypatch.setattr(fit, "load_training_data", lambda *_, **__: {}["absent"])
    with pytest.raises(KeyError):
        main(TRAIN)


@pytest.mark.filterwarnings("default::pcloud.io.BadJetWarning")
def test_dropped_jets_are_counted_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    X = np.zeros((50, 3, 4))
    rng = np.random.default_rng(0)
    X[:, :2] = rng.uniform(0.1, 0.5, (50, 2, 4))
    X[:, :2, 0] *= 100
    X[:, :2, 3] = 211
    X[7, 0, 0] = np.nan
    np.savez("bad.npz", X=X, y=np.arange(50) % 2)
    words = [*TRAIN, "--data", "bad.npz"]
    assert main(words) == 2
    assert "jet" in capsys.readouterr().err
    assert main([*words, "--on-bad-jet", "drop", "-q", "--batch-size", "8"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("pcloud: warning: bad.npz: dropped 1 of 50 jets")
    assert said.count("\n") == 1


def test_tables_wider_than_the_terminal_keep_every_number(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    header = ["", "1000 x AUC change", "ratio to unchanged"]
    print_rows([header, ["angular smearing of everything", "-0.26 ± 0.48", "1.000 ± 0.030"]])
    printed = capsys.readouterr().out
    assert "angular smearing of everything -0.26 ± 0.48 1.000 ± 0.030" in printed
    assert "unchanged" in printed
    assert "ratio to unchanged" not in printed  # in two lines


def test_the_package_run_as_a_program_ends_with_the_exit_code_of_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pcloud", "train", "--model", "pfn"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("pcloud", run_name="__main__")
    assert stop.value.code == 2


# Arguments of the wrong kind


@pytest.fixture(scope="module")
def odd_places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an empty folder and file, a file of jets, and a run that has not been trained."""
    folder = tmp_path_factory.mktemp("odd")
    write_jets(make_jets(40), folder / "jets.parquet")
    (folder / "empty").mkdir()
    (folder / "nothing").write_bytes(b"")
    (folder / "nothing.parquet").write_bytes(b"")
    (folder / "untrained").mkdir()
    config = {"data": "jets.parquet", "model": "pfn", "out": "untrained"}
    (folder / "untrained" / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


PLACES = ["absent", "empty", "nothing", "nothing.parquet", "untrained", "jets.parquet/a", "a\0b"]
_ON_RUNS = ("evaluate", "calibrate", "uncertainty", "explain")
WRONG = [
    *([command, place] for command in _ON_RUNS for place in [*PLACES, "jets.parquet"]),
    *(["predict", place, "jets.parquet"] for place in [*PLACES, "jets.parquet"]),
    *(["report", place] for place in PLACES if place != "untrained"),
    ["report", "jets.parquet"],
    *(["train", "--data", place, *WITHOUT_DATA] for place in PLACES),
    *(["train", "--config", place] for place in [*PLACES, "jets.parquet"]),
    *([*TRAIN[:-2], "--schema", place] for place in [*PLACES, "jets.parquet"]),
    *(["convert", place, "out.npz"] for place in PLACES),
    *(["convert", "jets.parquet", place] for place in PLACES),
    *(["compare", place, "jets.parquet"] for place in PLACES),
    *(["compare", "jets.parquet", "jets.parquet", "--run", place] for place in PLACES),
    ["compare", "jets.parquet", "jets.parquet", "--out", "nothing"],
    ["convert", "jets.parquet", "absent/out.npz"],
    ["train", "--data", "jets.parquet", "--model", "pfn", "--out", "nothing"],
    ["train", "--data", "jets.parquet", "--model", "empty:A", "--out", "new"],
    ["train", "--data", "jets.parquet", "--model", "jets.parquet:A", "--out", "new"],
]


@pytest.mark.parametrize("words", WRONG, ids=[" ".join(words)[-60:] for words in WRONG])
def test_an_argument_of_the_wrong_kind_is_one_line_and_exit_code_2(
    words: list[str],
    odd_places: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(odd_places)
    before = sorted(odd_places.rglob("*"))
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("pcloud: error: ")
    assert said.count("\n") == 1
    assert sorted(odd_places.rglob("*")) == before
