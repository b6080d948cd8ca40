"""Many files, scored and converted by several processes."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pcloud import Run, train, write_jets
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.io import convert_files
from pcloud.scheduler import Scheduler, connected
from tests.training.conftest import TINY, make_jets


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("files")
    for i in range(3):
        write_jets(make_jets(40 + i, seed=i), folder / f"{i}.npz")
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def run(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run")
    options: dict[str, Any] = {"data": files, "model": TINY, "out": out, "epochs": 1}
    return train(**options, batch_size=32, accelerator="cpu", progress=False)


@pytest.fixture(scope="module")
def scheduler() -> Any:
    pytest.importorskip("distributed")
    with connected("local:1") as scheduler:
        yield scheduler


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def fail(text: str) -> None:
    raise InputError(text)


def test_scores_of_several_processes_are_those_of_one(
    scheduler: Scheduler, run: Run, files: list[str], tmp_path: Path
) -> None:
    run.predict_files(files, tmp_path / "one")
    parts: list[float] = []
    found = run.predict_files(files, tmp_path / "many", scheduler=scheduler, advance=parts.append)
    assert [prediction.jets for prediction in found] == [40, 41, 42]
    assert sum(parts) == pytest.approx(1.0)
    for prediction in found:
        one = pq.read_table(tmp_path / "one" / prediction.path.name)
        assert pq.read_table(prediction.path).equals(one)
    found[1].path.unlink()
    again = run.predict_files(files, tmp_path / "many", scheduler=scheduler)
    assert [prediction.is_old for prediction in again] == [True, False, True]


@pytest.mark.once
@pytest.mark.slow
def test_work_of_a_killed_process_is_done_by_another_one(
    scheduler: Scheduler, tmp_path: Path
) -> None:
    assert list(scheduler.run([partial(die_once, tmp_path / "killed")])) == ["done"]


def test_an_error_comes_after_the_rest_is_done(scheduler: Scheduler) -> None:
    results = scheduler.run([partial(fail, "bad.npz: no jets"), partial(str, 1), partial(str, 2)])
    found = []
    with pytest.raises(InputError, match=r"bad.npz: no jets"):
        found += list(iter(lambda: next(results), None))  # all before the error
    assert list(scheduler.run([partial(str, 3)])) == ["3"]


def test_files_are_converted_by_several_processes(
    scheduler: Scheduler, files: list[str], tmp_path: Path
) -> None:
    found = convert_files(files, tmp_path, run=scheduler.run)
    assert [conversion.jets for conversion in found] == [40, 41, 42]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.once
@pytest.mark.slow
def test_the_command_starts_processes_that_convert(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "convert",
        *files,
        str(tmp_path / "out"),
        "--each",
        "--scheduler",
        "local:1",
        "--quiet",
    ]
    assert main(words) == 0
    assert "123 jets in 3 files" in capsys.readouterr().out
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("address", ["nowhere", "local:0"])
def test_an_address_that_is_none_is_an_input_error(address: str) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match=r"neither an address|no scheduler"), connected(address):
        pass


def test_a_scheduler_needs_a_folder(
    files: list[str], run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [
        str(run.path),
        files[0],
        "--out",
        str(tmp_path / "s.parquet"),
        "--scheduler",
        "local:1",
    ]
    assert main(["predict", *words]) == 2
    assert "--scheduler needs a folder" in capsys.readouterr().err
