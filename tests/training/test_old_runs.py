"""Run folders of the first version, whose models and options had other names."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pcloud import Run, read_jets, train
from pcloud.cli import main
from pcloud.errors import InputError, OldNameWarning
from pcloud.io import write_jets
from pcloud.training.checkpoint import read_checkpoint, write_checkpoint
from pcloud.training.config import TrainConfig
from pcloud.training.data import load_training_data
from pcloud.training.run_sample import OtherJetsWarning, load_run_sample
from pcloud.training.weights import read_weights
from tests.training.conftest import make_jets

OLD = {"phi": [8, 8], "f": [6]}
NEW = {"phi_widths": [8, 8], "head_widths": [6]}
OLD_WEIGHTS = {"head.0.": "f.0.", "head.output.": "classify."}


def make_old(run: Path, old: Path) -> Run:
    """Copy a run, and write into it what the first version wrote."""
    shutil.copytree(run, old)
    fingerprint = load_training_data(Run(run).config).identity.old
    config = yaml.safe_load((old / "config.yaml").read_text())
    config |= {"model_options": OLD, "out": str(old), "decorrelate_weight": 10.0}
    del config["split"]
    (old / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    for path in (old / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        if "run" in content:
            content["run"]["fingerprint"] = fingerprint
        tagger = content["tagger"]
        tagger["options"] = OLD
        for new, name in OLD_WEIGHTS.items():
            tagger["weights"] = {
                key.replace(new, name, 1) if key.startswith(new) else key: value
                for key, value in tagger["weights"].items()
            }
        assert set(tagger["weights"]) == {
            f"{layer}.{kind}"
            for layer in ("phi.0", "phi.2", "f.0", "classify")
            for kind in ("weight", "bias")
        }
        torch.save(content, path)
    return Run(old)


@pytest.fixture
def pfn_options(options: dict[str, Any]) -> dict[str, Any]:
    old = {"split": "permutation"}
    return options | old | {"model": "pfn", "model_options": NEW, "epochs": 1, "progress": False}


@pytest.fixture
def runs(pfn_options: dict[str, Any], tmp_path: Path) -> tuple[Run, Run]:
    """A run, and the same one as the first version left it."""
    run = train(**pfn_options)
    return run, make_old(run.path, tmp_path / "old")


def test_an_old_run_is_read_without_a_word(runs: tuple[Run, Run], jet_file: Path) -> None:
    run, old = runs
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jets = read_jets(jet_file)
        np.testing.assert_array_equal(old.predict(jets), run.predict(jets))
        assert old.config.model_options == NEW
        assert old.tagger("last").options == NEW
        weights = read_weights(old.path, "pfn")
    assert list(weights.state) == list(run.model().state_dict())
    assert weights.options == NEW


def test_an_old_run_is_continued_by_the_old_command(
    runs: tuple[Run, Run], pfn_options: dict[str, Any]
) -> None:
    _, old = runs
    command = pfn_options | {"out": str(old.path)}
    assert train(**command).finished
    with pytest.warns(OldNameWarning, match="option '(phi|f)' is now called") as caught:
        assert train(**command | {"model_options": OLD}).finished
    assert caught[0].filename == __file__
    with pytest.raises(InputError, match="another configuration: model_options"):
        train(**command | {"model_options": NEW | {"dropout": 0.5}})


def test_old_weights_are_those_of_a_new_run(
    runs: tuple[Run, Run], pfn_options: dict[str, Any], tmp_path: Path
) -> None:
    run, old = runs
    given = pfn_options | {"out": str(tmp_path / "new"), "init_from": str(old.path), "lr": 1e-30}
    given["model_options"] = {}
    tuned = train(**given, weight_decay=0.0)
    for key, value in run.model().state_dict().items():
        torch.testing.assert_close(tuned.model().state_dict()[key], value)


def test_a_file_with_old_options_is_read_with_a_warning_in_one_line(
    pfn_options: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pfn_options.pop("progress")
    config = pfn_options | {"model_options": OLD, "data": str(pfn_options["data"])}
    config["out"] = str(tmp_path / "cli")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    with warnings.catch_warnings():
        warnings.simplefilter("default", OldNameWarning)
        assert main(["train", "--config", str(tmp_path / "config.yaml"), "-q"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        f"pcloud: warning: option {old!r} is now called {new!r}; the old name is accepted until "
        "version 1.0"
        for old, new in zip(OLD, NEW, strict=True)
    ]
    assert Run(tmp_path / "cli").config.model_options == NEW


def test_an_option_under_both_names_is_an_error() -> None:
    given = {"data": "a", "model": "pfn", "out": "b", "model_options": OLD | NEW}
    with pytest.warns(OldNameWarning), pytest.raises(InputError, match="'phi_widths' is given twi"):
        TrainConfig.from_dict(given)


def test_an_old_run_keeps_its_splits_and_its_check_of_the_jets(
    runs: tuple[Run, Run], pfn_options: dict[str, Any]
) -> None:
    run, old = runs
    del pfn_options["split"]
    assert old.config.split == "permutation"
    for split in ("train", "val", "test"):
        ours, theirs = (load_run_sample(r, split).p4.E for r in (run, old))
        assert ours.tolist() == theirs.tolist()
    path = old.checkpoint("last")
    content = read_checkpoint(path)
    content["run"]["state"]["finished"] = False
    number = content["run"]["fingerprint"].pop("checksum")
    content["run"]["fingerprint"]["checksum"] = number + 1
    write_checkpoint(content, path)
    with pytest.raises(InputError, match="its jets are not those it began with"):
        train(**pfn_options | {"out": str(old.path)})
    stored = content["run"]["fingerprint"] | {"checksum": number}
    load_training_data(old.config).identity.check(stored, old.path)


def test_the_splits_of_an_old_run_that_have_moved_are_warned_of(
    pfn_options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(pfn_options["data"], tmp_path / "data" / "b.parquet")
    run = train(**pfn_options | {"data": str(tmp_path / "data")})
    old = make_old(run.path, tmp_path / "old")
    assert len(load_run_sample(old, "test")) == 50
    write_jets(make_jets(100, seed=5), tmp_path / "data" / "a.parquet")
    with pytest.warns(OtherJetsWarning, match="400 then, 480 now; its splits are drawn anew"):
        load_run_sample(old, "test")
