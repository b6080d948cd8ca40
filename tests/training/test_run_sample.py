"""Jets of a run: paths, fingerprints, and what is said when the jets have changed."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import awkward as ak
import pytest
import yaml

from pcloud import Run, train
from pcloud.cli import main
from pcloud.errors import InputError, UnreadableFileWarning
from pcloud.io import read_jets, write_jets
from pcloud.report import write_report
from pcloud.training.checkpoint import checkpoint_path, read_checkpoint, write_checkpoint
from pcloud.training.config import TrainConfig
from pcloud.training.data import load_splits, load_training_data
from pcloud.training.folder import write_config
from pcloud.training.run_sample import OtherJetsWarning, load_run_sample
from tests.training.conftest import TINY, make_jets


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the jets and the run of a training of one step."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "data").mkdir()
    write_jets(make_jets(300), folder / "data" / "b.parquet")
    options = {"data": folder / "data", "model": TINY, "steps": 4, "batch_size": 64}
    train(**options, out=folder / "run", progress=False)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """Copy of it, whose run has the jets of the copy."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    config = TrainConfig.from_run(tmp_path / "run")
    out = {"out": str(tmp_path / "run"), "data": str(tmp_path / "data")}
    write_config(tmp_path / "run", config.with_options(**out))
    return tmp_path


def interrupted(folder: Path) -> dict[str, object]:
    """Make the run unfinished; return the options that continue it."""
    path = checkpoint_path(folder / "run", "last")
    content = read_checkpoint(path)
    content["run"]["state"]["finished"] = False
    write_checkpoint(content, path)
    options = {"data": folder / "data", "model": TINY, "steps": 4, "batch_size": 64}
    return options | {"out": folder / "run", "progress": False}


def scale(folder: Path, factor: float) -> None:
    """Multiply all momenta of the file by a factor."""
    path = folder / "data" / "b.parquet"
    jets = read_jets(path)
    p4 = ak.zip({c: factor * jets.p4[c] for c in ak.fields(jets.p4)}, with_name="Momentum4D")
    write_jets(ak.with_field(jets, p4, "p4"), path, overwrite=True)


def test_other_momenta_are_no_jets_to_continue_with(folder: Path) -> None:
    options = interrupted(folder)
    scale(folder, 10.0)  # the keys in the file are those of the first momenta: the same split
    with pytest.raises(InputError, match=r"not those it began with \(then \d+ training jets"):
        train(**options)


def test_a_run_is_not_continued_after_a_file_was_added(folder: Path) -> None:
    options = interrupted(folder)
    write_jets(make_jets(60, seed=7), folder / "data" / "a.parquet")
    with pytest.raises(InputError, match="are not those it began with"):
        train(**options)


def test_a_run_is_not_continued_with_jets_in_another_order(folder: Path) -> None:
    options = interrupted(folder)
    path = folder / "data" / "b.parquet"
    write_jets(read_jets(path)[::-1], path, overwrite=True)
    with pytest.raises(InputError, match="training jets come in another order"):
        train(**options)


def test_a_renamed_and_divided_file_continues_a_run(folder: Path) -> None:
    run = Run(folder / "run")
    path = folder / "data" / "b.parquet"
    jets = read_jets(path)
    write_jets(jets[:100], folder / "data" / "x.npz")
    write_jets(jets[100:], folder / "data" / "y.parquet")
    path.unlink()
    load_training_data(run.config).identity.check(run.fingerprint, run.path)


def test_studies_warn_of_other_jets_with_both_numbers(folder: Path) -> None:
    run = Run(folder / "run")
    before = {name: len(load_run_sample(run, name)) for name in ("train", "val", "test")}
    write_jets(make_jets(200, seed=7), folder / "data" / "a.parquet")
    for split, name in (("train", "training"), ("val", "validation"), ("test", "test")):
        with pytest.warns(OtherJetsWarning) as caught:
            found = load_run_sample(run, split)
        assert f"the {name} jets of {run.path} have changed" in str(caught[0].message)
        assert f"{before[split]} then" in str(caught[0].message)
        assert f"{len(found)} now" in str(caught[0].message)
        assert len(found) > before[split]


@pytest.mark.usefixtures("undrawn")
def test_the_commands_warn_of_other_jets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(folder / "run")
    assert main(["evaluate", run, "--bootstrap", "0"]) == 0
    assert "warning" not in capsys.readouterr().err
    scale(folder, 1.01)
    for words in (
        ["evaluate", run, "--bootstrap", "0"],
        ["calibrate", run],
        ["uncertainty", run, "--samples", "2", "-q"],
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("default", OtherJetsWarning)
            assert main(words) == 0
        assert "have changed since the training" in capsys.readouterr().err, words
    with pytest.warns(OtherJetsWarning, match="jets evaluated in .* have changed since the train"):
        write_report(run)


def test_training_jets_that_are_evaluated_are_counted(folder: Path) -> None:
    run = Run(folder / "run")
    (jets,) = load_splits(run.config, "train")
    copy = ak.concatenate([ak.without_field(jets[:30], "split_key"), make_jets(40, seed=9)])
    copy.attrs["classes"] = ["a", "b"]
    write_jets(copy, folder / "copy.parquet")
    with pytest.warns(OtherJetsWarning, match="30 of these 70 jets are training jets of"):
        run.evaluate(str(folder / "copy.parquet"), num_bootstrap=0)


def test_a_run_whose_last_checkpoint_is_damaged_is_evaluated_with_a_warning(folder: Path) -> None:
    checkpoint_path(folder / "run", "last").write_bytes(b"damaged")
    with pytest.warns(UnreadableFileWarning, match="cannot be compared"):
        Run(folder / "run").evaluate(num_bootstrap=0)


def test_the_configuration_has_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"data": ["a.h5", "*.h5"], "val": "simulated", "model": "pfn", "out": "run"}
    Path("run").mkdir()
    write_config(Path("run"), TrainConfig(**options, data_root="../x"))
    written = yaml.safe_load(Path("run/config.yaml").read_text())
    assert written["data"] == [str(tmp_path / "a.h5"), str(tmp_path / "*.h5")]
    assert written["val"] == "simulated"
    assert written["out"] == str(tmp_path / "run")
    assert written["data_root"] == str(tmp_path.parent / "x")
    written["data"] = "../a.h5"
    Path("run/config.yaml").write_text(yaml.safe_dump(written))
    monkeypatch.chdir("/")
    assert TrainConfig.from_run(tmp_path / "run").data == str(tmp_path / "a.h5")
    del written["split"]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(written))
    assert TrainConfig.from_run(tmp_path / "run").data == "../a.h5"
    assert TrainConfig.from_run(tmp_path / "run").split == "permutation"
