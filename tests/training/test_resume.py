"""A training killed at any moment continues and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pcloud import Run, train
from pcloud.cli import main
from pcloud.errors import InputError, UnreadableFileWarning
from tests.training.conftest import TINY, make_jets

MOMENTS = (
    "before the first checkpoint",
    "after a checkpoint in the middle of an epoch",
    "before a checkpoint in the middle of an epoch",
    "after the last step of an epoch",
    "in validation",
    "half-way through last.ckpt",
    "before renaming last.ckpt",
    "half-way through best.ckpt",
    "between best.ckpt and metrics.csv",
    "half-way through metrics.csv",
    "half-way through config.yaml",
    "three times",
    "at random",
    "fine-tuned and taught, three times",
)


@pytest.fixture(scope="module")
def killed_runs(
    jet_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    options = {
        "data": str(jet_file),
        "model": TINY,
        "batch_size": 50,
        "epochs": 3,
        "checkpoint_steps": 3,
        "deterministic": True,
    }
    command = [sys.executable, str(Path(__file__).with_name("kill.py"))]
    done = subprocess.run(
        [*command, str(tmp_path_factory.mktemp("kill")), json.dumps(options)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_training_ends_bit_for_bit_as_a_whole_one(
    killed_runs: dict[str, dict[str, Any]], moment: str
) -> None:
    found = killed_runs[moment]
    assert found["died"] >= 1, "it was not killed: nothing was tested"
    assert found["finished"]
    assert found["different"] == []


@pytest.mark.once
@pytest.mark.slow
def test_all_moments_were_tested(killed_runs: dict[str, dict[str, Any]]) -> None:
    assert set(killed_runs) == set(MOMENTS)


@pytest.mark.once
@pytest.mark.slow
def test_the_command_line_continues_a_killed_run_with_the_same_command(
    options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(**options | {"out": tmp_path / "whole", "epochs": 10}, progress=False)
    out = tmp_path / "killed"
    flags = options | {"out": out, "epochs": 10, "checkpoint_steps": 5}
    words = [word for k, v in flags.items() for word in (f"--{k.replace('_', '-')}", str(v))]
    command = [sys.executable, "-c", "from pcloud.cli import main; raise SystemExit(main())"]
    command += ["train", *words]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=one_thread)
    checkpoint = out / "checkpoints" / "last.ckpt"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not Run(out).finished

    assert main(["train", *words]) == 0
    assert "continuing after step" in capsys.readouterr().err
    run = Run(out)
    assert run.finished
    for key, value in whole.model("last").state_dict().items():
        assert value.equal(run.model("last").state_dict()[key]), key
    assert json.loads((out / "environment.json").read_text())["sessions"] == 2


def test_a_training_with_muon_continues_bit_for_bit(
    options: dict[str, Any], tmp_path: Path
) -> None:
    from pcloud.training import callbacks

    options |= {"optimizer": "muon", "lr": 1e-2, "weight_decay": 0.01, "checkpoint_steps": 1}
    whole = train(**options | {"out": tmp_path / "whole"}, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.RunState, "end_epoch", _stop)
        with pytest.raises(ZeroDivisionError):
            train(**options, progress=False)
    assert not Run(options["out"]).finished
    continued = train(**options, progress=False)
    for key, value in whole.model("last").state_dict().items():
        assert value.equal(continued.model("last").state_dict()[key]), key


def test_a_damaged_last_checkpoint_is_replaced_by_the_one_before(
    options: dict[str, Any], tmp_path: Path
) -> None:
    from pcloud.training import callbacks

    options |= {"checkpoint_steps": 1}
    whole = train(**options | {"out": tmp_path / "whole"}, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.RunState, "end_epoch", _stop)
        with pytest.raises(ZeroDivisionError):
            train(**options, progress=False)
    last = Path(options["out"]) / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.warns(UnreadableFileWarning, match="the checkpoint before it is used"):
        continued = train(**options, progress=False)
    for key, value in whole.model("last").state_dict().items():
        assert value.equal(continued.model("last").state_dict()[key]), key
    assert not list(last.parent.glob("previous*"))


def test_a_run_is_not_continued_with_other_jets(options: dict[str, Any], tmp_path: Path) -> None:
    from pcloud.io import write_jets
    from pcloud.training import callbacks

    path = tmp_path / "jets.parquet"
    write_jets(make_jets(300), path)
    options["data"] = str(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.RunState, "end_epoch", _stop)
        with pytest.raises(ZeroDivisionError):
            train(**options, checkpoint_steps=1, progress=False)
    assert not Run(options["out"]).finished
    write_jets(make_jets(300, seed=1), path, overwrite=True)
    with pytest.raises(InputError, match="its jets are not those it began with"):
        train(**options, checkpoint_steps=1, progress=False)


def _stop(*args: Any) -> bool:
    raise ZeroDivisionError
