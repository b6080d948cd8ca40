"""Several processes that train one network together give the result of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pcloud
from pcloud.training.ranks import Ranks, _launched
from tests.training.conftest import make_jets

NO_DROPOUT = f"{Path(__file__).with_name('without_dropout.py')}:Plain"


def results(folder: Path, *words: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcloud.io.parquet.ROW_GROUP", 500)
        pcloud.write_jets(make_jets(301), folder / "jets.parquet")
    options = {
        "data": str(folder / "jets.parquet"),
        "model": NO_DROPOUT,
        "batch_size": 45,
        "epochs": 2,
        "accelerator": "cpu",
        "deterministic": True,
    }
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("ranks.py"))]
    done = subprocess.run(
        [*command, str(folder), json.dumps(options), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return results(tmp_path_factory.mktemp("ranks"))


@pytest.mark.once
@pytest.mark.parametrize("model", ["particlenet", "part", "lorentznet"])
def test_losses_of_several_processes_are_those_of_one(found: dict[str, Any], model: str) -> None:
    one = found["one"]["losses"][model]
    ranks = [part["losses"][model] for part in found["two"]]
    ranks += [part[model] for part in found["three"]]
    assert len(ranks) == 5
    assert len(one["float64"]) == 40
    assert one["float64"][-1] < one["float64"][0]
    for rank in ranks:
        assert np.abs(np.subtract(one["float64"], rank["float64"])).max() < 1e-10
        assert rank["float32"] == pytest.approx(one["float32"], abs=1e-6)
    assert ranks[0] == ranks[1]
    assert ranks[2] == ranks[3] == ranks[4]


@pytest.mark.once
def test_rows_of_all_ranks_are_gathered(found: dict[str, Any]) -> None:
    assert [part["gathered"] for part in found["two"]] == [[0.0, 1.0, 1.0]] * 2


@pytest.mark.once
@pytest.mark.parametrize("run", ["train", "weighted"])
def test_a_run_of_two_processes_has_the_metrics_of_one(found: dict[str, Any], run: str) -> None:
    one, two = found["one"][run], found["two"][0][run]
    assert two == found["two"][1][run]
    for name in ("train_loss", "val_loss", "train_acc", "val_acc", "val_auc"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=2e-4)


@pytest.mark.once
def test_two_processes_train_on_a_stream(found: dict[str, Any]) -> None:
    (row,) = found["two"][0]["streamed"]
    assert row["train_loss"] == pytest.approx(found["one"]["streamed"][0]["train_loss"], rel=0.1)


@pytest.mark.once
def test_a_signal_to_any_process_stops_all_and_the_run_continues(found: dict[str, Any]) -> None:
    for rank in range(2):
        stopped, whole = found["two"][rank]["stopped"], found["two"][rank]["train"]
        for name in ("train_loss", "val_loss"):
            assert [row[name] for row in stopped] == [row[name] for row in whole]


@pytest.mark.once
def test_an_error_of_the_first_process_is_said_once(found: dict[str, Any]) -> None:
    assert [part["error"] for part in found["two"]] == ["FileNotFoundError", "exit 2"]


def test_a_step_of_slurm_is_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    slurm = {"PROCID": "5", "LOCALID": "1", "STEP_NUM_TASKS": "8", "STEP_TASKS_PER_NODE": "4(x2)"}
    slurm |= {"NODEID": "1", "STEP_NODELIST": "node[03-04]", "JOB_ID": "123456"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr("os.environ", dict(os.environ))
    assert _launched() == Ranks(5, 8, 4)
    assert os.environ["MASTER_ADDR"] == "node03"
    assert os.environ["MASTER_PORT"] == "23456"
    assert (os.environ["LOCAL_RANK"], os.environ["GROUP_RANK"]) == ("1", "1")
    os.environ["SLURM_STEP_NUM_TASKS"] = "1"
    for name in ("RANK", "WORLD_SIZE"):
        del os.environ[name]
    assert _launched() == Ranks()


@pytest.mark.once
@pytest.mark.slow
def test_the_end_of_a_process_is_said_by_the_others_at_once(tmp_path: Path) -> None:
    found = results(tmp_path, "--kill")
    said, killed = found["killed"]
    assert killed is None
    message, _, seconds = said.rpartition(" after ")
    assert message.startswith("rank 0 of 2 has lost contact to another one, which has ended")
    assert float(seconds.split()[0]) < 60
    for rank in range(2):
        for row, whole in zip(found["continued"][rank], found["two"][rank]["train"], strict=True):
            assert row["val_loss"] == whole["val_loss"]
