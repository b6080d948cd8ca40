"""Commands killed at random moments and started again; used by `benchmarks/faults.py`.

Every command works on a copy of a small trained run. It is a forked child that dies by SIGKILL at a
random moment of its usual duration. The same command is then started again and must end with exit
code 0, without a traceback, and with the same files as the command that was not killed: jets, scores
and weights are compared bit by bit, of the other files the names. Of a training with two processes
one is killed, and the job has to end by itself before it is started again.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_MAX_SECONDS = 300  # of a command that was started again
_OPTIONS = ["--batch-size", "64", "--quiet"]
_OVERWRITE = ["--overwrite", "--quiet"]  # a kill can follow the last step
_TRAIN = ["--data", "jets.parquet", "--model", "pfn", "--epochs", "2", *_OPTIONS]
_TRAIN += ["--deterministic", "true", "--checkpoint-steps", "3"]
_ROW_GROUP = 100  # jets
_RANKS = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
_RANKS += ["-m", "pcloud"]

#: Arguments of each command in a folder with `jets.parquet` and the trained run `run`.
COMMANDS: dict[str, list[str]] = {
    "train": ["train", *_TRAIN, "--out", "new"],
    "train --storage map": ["train", *_TRAIN, "--storage", "map", "--out", "new"],
    "train --storage stream": ["train", *_TRAIN, "--storage", "stream", "--out", "new"],
    "train, two processes": ["train", *_TRAIN, "--out", "new"],
    "train --ensemble": ["train", *_TRAIN, "--ensemble", "2", "--out", "new"],
    "evaluate": ["evaluate", "run"],
    "evaluate --robustness": ["evaluate", "run", "--robustness"],
    "predict": ["predict", "run", "jets.parquet", *_OVERWRITE],
    "calibrate": ["calibrate", "run"],
    "uncertainty": ["uncertainty", "run", "--quiet"],
    "explain": ["explain", "run", "--jets", "20", "--quiet"],
    "report": ["report", "run"],
    "compare": ["compare", "jets.parquet", "jets.parquet"],
    "convert": ["convert", "jets.parquet", "jets.npz", *_OVERWRITE],
    "convert --shuffle": [
        *("convert", "jets.parquet", "shuffled", "--files", "3", "--shuffle", "--overwrite"),
        "--quiet",
    ],
    "convert --each": ["convert", "parts", "each", "--each", *_OVERWRITE],
    "predict FILES": ["predict", "run", "parts", "--out", "scores", "--quiet"],
    "simulate": ["simulate", "new.parquet", "--jets", "30", "--workers", "1", *_OVERWRITE],
}
_OF_SEVERAL_PROCESSES = "train, two processes"


@dataclass
class Kills:
    """Outcomes of the kills of one command."""

    kills: int = 0  # before the command had ended
    completed: int = 0  # by the second start
    errors: int = 0  # exit codes other than 0 of the second start
    tracebacks: int = 0
    hangs: int = 0
    left_files: int = 0  # second starts after which files are others than without a kill
    message: str = ""

    @property
    def faults(self) -> int:
        """Number of faults."""
        return self.errors + self.tracebacks + self.hangs + self.left_files


def kill_commands(
    number: int, seed: int, names: Sequence[str] = tuple(COMMANDS)
) -> dict[str, Kills]:
    """Kill each command `number` times at random moments and start it again."""
    for module in ("pytorch_optimizer", "pydantic", "pcloud.training.fit", "pcloud.studies"):
        importlib.import_module(module)  # which every child would do again
    moments = random.Random(seed)
    found = {}
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        base = Path(name) / "base"
        base.mkdir()
        _prepare(base)
        for command in names:
            start = _start_ranks if command == _OF_SEVERAL_PROCESSES else _fork
            found[command] = _kill_command(
                Path(name), base, COMMANDS[command], number, moments, start
            )
    return found


def _prepare(base: Path) -> None:
    """Write jets and train a run on them."""
    child = os.fork()
    if child == 0:
        import pcloud

        os.chdir(base)
        from pcloud.io import convert

        jets = pcloud.load_dataset("simulated", "train")
        pcloud.write_jets(jets[:600], "whole.parquet")
        convert("whole.parquet", "jets.parquet", row_group=_ROW_GROUP)
        Path("whole.parquet").unlink()
        Path("parts").mkdir()
        for i in range(4):
            pcloud.write_jets(jets[200 * i : 200 * (i + 1)], f"parts/{i}.parquet")
        os._exit(0)
    os.waitpid(child, 0)
    for arguments in (["train", *_TRAIN, "--out", "run"], ["evaluate", "run"]):
        code, said = _wait(_fork(base, arguments), base)
        assert code == 0, said


def _kill_command(
    folder: Path,
    base: Path,
    arguments: list[str],
    number: int,
    moments: random.Random,
    start: Callable[[Path, list[str]], int],
) -> Kills:
    kills = Kills()
    place = folder / "place"
    _copy(base, place)
    began = time.monotonic()
    code, said = _wait(start(place, arguments), place)
    seconds = time.monotonic() - began
    if code != 0:
        return Kills(errors=1, message=f"without a kill: {said}")
    whole = _files(place)
    for _ in range(number):
        _copy(base, place)
        child = start(place, arguments)
        time.sleep(moments.uniform(0, seconds))
        if start is _fork:
            os.kill(child, signal.SIGKILL)
            kills.kills += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        else:
            was_killed = _kill_one_of(child, moments)
            ended, _ = _wait(child, place)
            kills.hangs += ended is None
            kills.kills += was_killed and ended != 0
        code, said = _wait(start(place, arguments), place)
        other = {name for name, _ in _files(place) ^ whole}
        kills.tracebacks += "Traceback" in said
        kills.hangs += code is None
        kills.errors += code not in (0, None) and "Traceback" not in said
        kills.left_files += code == 0 and bool(other)
        kills.completed += code == 0 and not other
        if code != 0 or other:
            kills.message = said[-300:] or f"other files: {sorted(other)}"
    return kills


def _copy(base: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base, place)


def _files(place: Path) -> set[tuple[str, str]]:
    """Names of the files, and a checksum of those that must be equal bit by bit."""
    files = (p for p in place.rglob("*") if p.is_file() and p.name != "said")
    return {(str(p.relative_to(place)), _checksum(p)) for p in files}


def _checksum(path: Path) -> str:
    if path.suffix == ".ckpt":
        import torch

        weights = torch.load(path, map_location="cpu", weights_only=True)["tagger"]["weights"]
        content = b"".join(values.numpy().tobytes() for values in weights.values())
    elif path.suffix in (".parquet", ".npz"):
        content = path.read_bytes()
    else:
        return ""
    return hashlib.sha256(content).hexdigest()


def _start_ranks(folder: Path, arguments: list[str]) -> int:
    """Start a command with two processes."""
    with (folder / "said").open("w") as said:
        command = [*_RANKS, *arguments]
        return subprocess.Popen(command, cwd=folder, stdout=said, stderr=said).pid


def _kill_one_of(launcher: int, moments: random.Random) -> bool:
    """Kill one of the processes that a launcher has started; False if it has none."""
    try:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    except FileNotFoundError:
        return False
    if not children:
        return False
    os.kill(int(moments.choice(children)), signal.SIGKILL)
    return True


def _fork(folder: Path, arguments: list[str]) -> int:
    """Start a command in a child process; what it prints is in the file ``said``."""
    child = os.fork()
    if child:
        return child
    try:
        os.chdir(folder)
        said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        from pcloud.cli import main

        code = main(arguments)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        code = 1
    os._exit(code)


def _wait(child: int, folder: Path) -> tuple[int | None, str]:
    """Exit code of a command, None if it was killed because it took too long, and its output."""
    end = time.monotonic() + _MAX_SECONDS
    code: int | None = None
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.02)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return code, (folder / "said").read_text(encoding="utf-8", errors="replace")


def table(found: dict[str, Kills]) -> str:
    """Markdown table of the outcomes."""
    header = ["command", "kills", "completed by a second start", "errors", "tracebacks", "hangs"]
    rows = [[*header, "other files"], ["---", *["---:"] * 6]]
    for name, kills in found.items():
        counts = [kills.kills, kills.completed, kills.errors, kills.tracebacks, kills.hangs]
        rows.append([f"`{name}`", *map(str, [*counts, kills.left_files])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
