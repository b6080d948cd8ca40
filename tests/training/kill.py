"""Kill trainings at chosen and random moments, continue them, compare them with a whole one.

Run by `test_resume.py` as a process of its own: forks share its slow imports, and every training
is a forked child that really dies by SIGKILL. Prints a JSON object: moment to findings.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic  # noqa: F401 (training imports both late; every fork would do it again)
import pytorch_optimizer  # noqa: F401
import torch

from pcloud import run_files
from pcloud.run_files import write_atomic
from pcloud.training import callbacks, fit, module
from pcloud.training.checkpoint import read_checkpoint, write_checkpoint

FOLDER = Path(sys.argv[1])
OPTIONS = json.loads(sys.argv[2])


# Begins with the weights of the uninterrupted training, and learns from it
TUNING = {
    "init_from": FOLDER / "whole",
    "teacher": FOLDER / "whole",
    "reset_head": True,
    "freeze": "norm",
    "lr_head_factor": 10.0,
}


def train(name: str, **more: Any) -> None:
    fit.train(out=FOLDER / name, progress=False, **OPTIONS, **more)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fork(work: Callable[[], Any]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return child


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Moments, each prepared in the child before it trains


def at_step(step: int, before: str) -> Callable[[], None]:
    """Die around the end of a step."""

    def prepare() -> None:
        hook = callbacks.RunCheckpoint.on_train_batch_end

        def patched(self: callbacks.RunCheckpoint, *args: Any) -> None:
            if before == "saving" and self.state.step + 1 == step:
                die()
            hook(self, *args)
            if self.state.step == step:
                die()

        callbacks.RunCheckpoint.on_train_batch_end = patched  # type: ignore[method-assign]

    return prepare


def in_validation() -> None:
    module.TaggerModule.validation_step = lambda *args: die()  # type: ignore[method-assign]


def writing(name: str, call: int, how: str) -> Callable[[], None]:
    """Die at the `call`-th writing of a file: before it, half-way, or before the renaming."""

    def prepare() -> None:
        calls = 0

        def patched(path: Path, write: Callable[[Any], Any]) -> None:
            nonlocal calls
            calls += path.name == name
            if path.name != name or calls != call:
                return write_atomic(path, write)
            if how == "before":
                die()
            new = path.with_name(f".{path.name}.new")
            with new.open("wb") as file:
                write(file)
                if how == "half":
                    file.truncate(file.tell() // 2)
            return die()

        run_files.write_atomic = patched
        write_checkpoint.__globals__["write_atomic"] = patched

    return prepare


MOMENTS: dict[str, list[Callable[[], None]]] = {
    "before the first checkpoint": [at_step(2, "saving")],
    "after a checkpoint in the middle of an epoch": [at_step(6, "")],
    "before a checkpoint in the middle of an epoch": [at_step(9, "saving")],
    "after the last step of an epoch": [at_step(8, "")],
    "in validation": [in_validation],
    "half-way through last.ckpt": [writing("last.ckpt", 3, "half")],
    "before renaming last.ckpt": [writing("last.ckpt", 4, "whole")],
    "half-way through best.ckpt": [writing("best.ckpt", 1, "half")],
    "between best.ckpt and metrics.csv": [writing("metrics.csv", 2, "before")],
    "half-way through metrics.csv": [writing("metrics.csv", 3, "half")],
    "half-way through config.yaml": [writing("config.yaml", 1, "half")],
    "three times": [at_step(3, ""), at_step(11, "saving"), writing("last.ckpt", 2, "half")],
}
TUNED: list[Callable[[], None]] = [at_step(2, "saving"), at_step(6, ""), at_step(11, "saving")]


def killed(name: str, prepare: Callable[[], None], **more: Any) -> bool:
    def work() -> None:
        prepare()
        train(name, **more)

    return status(fork(work)) == -signal.SIGKILL


def killed_at_random(name: str, seconds: float) -> int:
    """Kill over and over until a training survives; the number of kills."""
    kills = 0
    while True:
        child = fork(lambda: train(name))
        time.sleep(seconds * random.random())
        os.kill(child, signal.SIGKILL)
        if status(child) == 0:
            return kills
        kills += 1
        seconds *= 1.3


def killed_while_tuning() -> dict[str, Any]:
    assert status(fork(lambda: train("tuned", **TUNING))) == 0, "the fine-tuning failed"
    died = sum(killed("tuned_again", prepare, **TUNING) for prepare in TUNED)
    finished = status(fork(lambda: train("tuned_again", **TUNING))) == 0
    whole, found = findings("tuned"), findings("tuned_again") if finished else {}
    different = [k for k in whole if found.get(k) != whole[k]]
    return {"died": died, "finished": finished, "different": different}


def findings(name: str) -> dict[str, Any]:
    """What a run ended with: everything but the clock's columns, tensors by their bits."""
    found: dict[str, Any] = {}
    for checkpoint in ("last", "best"):
        content = read_checkpoint(FOLDER / name / "checkpoints" / f"{checkpoint}.ckpt")
        found |= {f"{checkpoint}/{k}": v for k, v in flatten(content)}
    with (FOLDER / name / "metrics.csv").open() as file:
        found["metrics.csv"] = [without_clock(row) for row in csv.DictReader(file)]
    found["files"] = sorted(p.name for p in (FOLDER / name / "checkpoints").iterdir())
    return found


def flatten(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, torch.Tensor):
        return [(path, value.numpy().tobytes().hex())]
    if isinstance(value, dict):
        value = without_clock(value)
        return [item for k, v in value.items() for item in flatten(v, f"{path}/{k}")]
    if isinstance(value, list | tuple):
        return [item for i, v in enumerate(value) for item in flatten(v, f"{path}/{i}")]
    return [(path, value)]


def without_clock(row: dict[Any, Any]) -> dict[Any, Any]:
    return {k: v for k, v in row.items() if k not in ("seconds", "jets_per_s")}


def main() -> None:
    torch.set_num_threads(1)
    assert status(fork(lambda: train("whole"))) == 0, "the uninterrupted training failed"
    whole = findings("whole")
    results = {}
    random.seed(4)
    for i, (moment, kills) in enumerate([*MOMENTS.items(), ("at random", [])]):
        if kills:
            died = sum(killed(f"run{i}", prepare) for prepare in kills)
            finished = status(fork(lambda: train(f"run{i}"))) == 0  # noqa: B023 (runs at once)
        else:
            died, finished = killed_at_random(f"run{i}", 1.0), True
        found = findings(f"run{i}") if finished else {}
        different = [k for k in whole if found.get(k) != whole[k]]
        results[moment] = {"died": died, "finished": finished, "different": different}
    results["fine-tuned and taught, three times"] = killed_while_tuning()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
