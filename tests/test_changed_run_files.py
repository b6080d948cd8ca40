"""Files of a run with changed values or bytes: an error of one line that names the file, or read."""

from __future__ import annotations

import importlib
import json
import math
import re
import shutil
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import pcloud
from pcloud.errors import InputError, UnreadableFileWarning
from pcloud.models import build_model
from pcloud.models.size import limited_size
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.report.sections import discrimination, drawn_section
from pcloud.training.checkpoint import checkpoint_path, read_checkpoint, read_tagger
from pcloud.training.tensor_file import read_tensors

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def campaign() -> Any:
    """The benchmark as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("faults_run_files")
    sys.modules.pop("faults_run_files", None)


@pytest.fixture(scope="module")
def folder(campaign: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a run with all studies, and with an interrupted one."""
    folder = tmp_path_factory.mktemp("changed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        campaign.make_run(folder, "pfn")
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def half(folder: Path, tmp_path: Path) -> Path:
    """A copy of the interrupted run, with its last checkpoint alone."""
    copy = Path(shutil.copytree(folder / "half", tmp_path / "half"))
    checkpoint_path(copy, "previous").unlink(missing_ok=True)
    return copy


def change(path: Path, place: str, value: Any) -> None:
    """Replace a value of a checkpoint or a JSON file."""
    is_json = path.suffix == ".json"
    content = json.loads(path.read_text()) if is_json else torch.load(path, weights_only=True)
    entry = content
    *keys, last = [int(key) if key.isdigit() else key for key in place.split("/")]
    for key in keys:
        entry = entry[key]
    entry[last] = value
    if is_json:
        path.write_text(json.dumps(content))
    else:
        torch.save(content, path)


def resume(run: Path) -> None:
    config = pcloud.training.TrainConfig.from_file(run / "config.yaml", out=str(run))
    pcloud.train(config, progress=False)


def test_changed_values_and_bytes_end_in_one_line_or_are_read(campaign: Any, folder: Path):
    found = campaign.changed_run_files(folder, seed=1, number=300, num_bytes=60, quick=True)
    assert not found.faults
    assert found.counts["one line"] > 150
    assert found.counts["read"] > 50


def test_an_unchanged_interrupted_run_continues(half: Path):
    resume(half)
    assert pcloud.Run(half).finished


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("run/state/epoch", 5, "epoch 5 with metrics of 1 epochs"),
        ("run/state/next_batch", 10**9, "no position in 2 epochs"),
        ("run/state/step", 1, "no position in 2 epochs"),
        ("run/state/history/0", {"epoch": 1.0}, "not the columns epoch, train_loss"),
        ("run/train_metrics/correct", None, "train_metrics.correct: None cannot be used"),
        ("run/random/numpy", ("MT19937", torch.zeros(3).long(), 0, 0, 0.0), "not 624 integers"),
        ("run/random/torch", torch.zeros(5, dtype=torch.uint8), "run.random"),
        ("run/scheduler/last_epoch", "x", "run.scheduler.last_epoch: expected a number"),
        ("run/optimizer/param_groups/0/lr", math.nan, "param_groups.0.lr: expected a number"),
        ("run/optimizer/param_groups/0/params", [0], "not the parameters of the network"),
        ("run/optimizer/state/0/exp_avg", torch.zeros(2), "expected torch.float32"),
        ("run/optimizer/state/0", {}, "is missing"),
        ("tagger/weights/phi.0.weight", torch.zeros(2), "the weights do not fit"),
        ("tagger/options/phi_widths", [10**4, 10**4], "would have more than"),
    ],
)
def test_a_training_does_not_continue_from_a_damaged_state(
    half: Path, place: str, value: Any, reason: str
):
    if torch.load(half / "checkpoints/last.ckpt", weights_only=True)["run"]["optimizer"].get(
        "base_optimizer"
    ):
        place = place.replace("run/optimizer/", "run/optimizer/base_optimizer/")
    path = checkpoint_path(half, "last")
    weights = read_tensors(path)["tagger"]["weights"]
    name = next(iter(weights))
    change(path, place.replace("phi.0.weight", name), value)
    with pytest.raises(InputError, match=re.escape(reason)) as caught:
        resume(half)
    assert "last.ckpt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_check_sum_of_a_checkpoint_is_an_error(half: Path):
    path = checkpoint_path(half, "best")
    with zipfile.ZipFile(path) as archive:
        part = max(archive.infolist(), key=lambda part: part.file_size)
        at = part.header_offset + 200
    content = bytearray(path.read_bytes())
    start = content.index(part.filename.encode(), part.header_offset)
    content[max(at, start + 120)] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"best\.ckpt is not a readable checkpoint"):
        read_checkpoint(path)


def test_a_compressed_checkpoint_is_an_error(half: Path, tmp_path: Path):
    path = tmp_path / "packed.ckpt"
    with (
        zipfile.ZipFile(checkpoint_path(half, "best")) as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in archive.namelist():
            packed.writestr(part, archive.read(part))
    with pytest.raises(InputError, match="is compressed"):
        read_checkpoint(path)


def test_a_tensor_larger_than_its_file_is_an_error(tmp_path: Path):
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "x.ckpt")
    with pytest.raises(InputError, match="a: 1,000,000,000,000 numbers, more than the file holds"):
        read_tensors(tmp_path / "x.ckpt")


def test_lists_in_lists_without_end_are_an_error(tmp_path: Path):
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]  # 2^40 lists for a reader that does not count them
    torch.save(value, tmp_path / "x.ckpt")
    with pytest.raises(InputError, match="more than"):
        read_tensors(tmp_path / "x.ckpt")


def test_weights_with_nan_are_an_error(half: Path):
    path = checkpoint_path(half, "best")
    name = next(iter(read_tensors(path)["tagger"]["weights"]))
    change(path, f"tagger/weights/{name}", torch.full((8, 7), math.nan))
    with pytest.raises(InputError, match=f"best.ckpt: tagger.weights.{re.escape(name)}: .* NaN"):
        read_tagger(path)


def test_networks_without_bound_are_not_built():
    with pytest.raises(InputError, match=r"more than|cannot be built"):  # as the system allows
        build_model("pfn", 7, phi_widths=[10**6, 10**6])
    with limited_size(10_000), pytest.raises(InputError, match="more than 10,000 numbers"):
        build_model("pfn", 7)
    build_model("pfn", 7)


@pytest.mark.parametrize("value", ["x", None, [1.5], {}])
def test_options_of_a_model_have_their_types(value: Any):
    with pytest.raises(InputError, match="part': num_heads cannot be"):
        build_model("part", 7, num_heads=value)


def test_the_report_leaves_out_a_section_that_cannot_be_shown(folder: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("metrics.json", "scores.parquet"):
        shutil.copy(folder / "run" / name, run / name)
    change(run / "metrics.json", "settings/signal", "no such class")
    contents = RunContents.read(run)
    with pytest.warns(UnreadableFileWarning, match="'discrimination' cannot show .no class named"):
        section = drawn_section(discrimination, contents, FigureFolder(tmp_path))
    assert not section.body
    change(run / "metrics.json", "settings/num_bootstrap", 1e308)
    with pytest.warns(UnreadableFileWarning, match=r"metrics\.json .*settings\.num_bootstrap: 1e"):
        RunContents.read(run)
