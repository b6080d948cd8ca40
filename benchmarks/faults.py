"""Damaged files and killed commands: errors, tracebacks, hangs, memory and wrong numbers.

    python benchmarks/faults.py [--files 100000] [--jets 24] [--minutes M] [--run-files N]
                                [--kills N] [--seed 0] [--workers 1] [--out FOLDER]
    python benchmarks/faults.py --case "RNTuple, zlib" 17

Three campaigns:

- ``--files N``: N changed files, equally many of each format that pcloud reads (jets and images; see
  `benchmarks/faults_files.py`). Bits and bytes are changed at random places of whole files, ranges
  set to zero, removed or inserted, files cut, and numbers replaced by very large ones. The files are
  read in child processes with a limit of the address space and of the processor time per file, so
  that an allocation that fails, a reader that hangs and a crash of a C library are seen.
- ``--run-files N``: N changed files of runs (see `benchmarks/faults_run_files.py`).
- ``--kills N``: every command is killed N times at a random moment and started again.

For each format, the table has the number of files that were refused with an `InputError`, read with
the numbers of the good file, and read with other numbers (which only a checksum can detect), and the
faults: other numbers although the format has checksums, any other exception, more than 10 s, more
than 256 MiB, and crashes of a C library, such as HDF5. Times are those of the processor. The exit
status is 1 if there are faults other than crashes. ``--out`` writes the counts and every fault to
``faults.json``, and each file that was read to ``cases.jsonl``, with which a campaign that was ended
goes on; ``--case`` reads one changed file in this process and shows its error with the traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.util
import json
import math
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import faults_files
import faults_kills
import faults_run_files

MAX_MIB = 256
_ADDRESS_SPACE = 3 << 30  # bytes that a child can allocate beyond its size at the start
_BLOCK_CASES = 200  # files per child process
_SILENT_SECONDS = 300  # after which a child that reports nothing is killed

#: Imported before the children are forked, which all need them.
_LATE_IMPORTS = (
    "hdf5plugin",
    "pandas",
    "pcloud.images",
    "pcloud.io.hdf5",
    "pcloud.io.npz",
    "pcloud.io.parquet",
    "pcloud.io.root",
    "tables",
)

FAULTS = ("wrong", "exception", "hang", "memory", "crash")
KINDS = ("refused", "same", "other", *FAULTS)

_FAILED_ALLOCATION = re.compile("Unable to allocate|MemoryError|(malloc|realloc) of size")
_FORK = get_context("fork")


@dataclass
class Tally:
    """Outcomes of the changed files of one format."""

    counts: Counter[str] = field(default_factory=Counter)
    peak_mib: float = 0.0
    seconds: float = 0.0
    faults: list[dict[str, Any]] = field(default_factory=list)

    def add(self, case: dict[str, Any]) -> None:
        """Count one changed file."""
        self.counts[case["kind"]] += 1
        self.peak_mib = max(self.peak_mib, case.get("peak_mib", 0.0))
        self.seconds = max(self.seconds, case.get("seconds", 0.0))
        if case["kind"] in FAULTS:
            self.faults.append(case)


@dataclass
class Child:
    """Process that reads some changed files of one format, and what it said last."""

    name: str
    stop: int
    process: BaseProcess
    said: Connection
    case: int
    heard: float


class Log:
    """Changed files that have been read, one JSON object a line; kept in a file where one is named.

    The first line says which changes and which readers they belong to.
    """

    def __init__(self, names: Iterable[str], seed: int, path: Path | None = None) -> None:
        self.tallies = {name: Tally() for name in names}
        self._next: Counter[tuple[str, int]] = Counter()
        self._path = path
        if path is None:
            return
        about = {"seed": seed, "jets": faults_files.NUM_JETS, "readers": _hash_of_readers()}
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(about) + "\n", encoding="utf-8")
        first, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if json.loads(first) != about:
            raise SystemExit(f"{path} belongs to other changes or readers: name another folder")
        for line in lines:
            if line.endswith("\n"):  # the last one can be cut
                self._count(**json.loads(line))

    def add(self, name: str, case: dict[str, Any]) -> None:
        """Count a changed file and note it."""
        self._count(name, case)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"name": name, "case": case}) + "\n")

    def first(self, name: str, start: int) -> int:
        """First file that is missing of the block that begins with `start`."""
        return max(start, self._next[name, start])

    def _count(self, name: str, case: dict[str, Any]) -> None:
        if name in self.tallies:
            self.tallies[name].add(case)
            start = case["case"] // _BLOCK_CASES * _BLOCK_CASES
            self._next[name, start] = case["case"] + 1


def _hash_of_readers() -> str:
    package = Path(faults_files.__file__).parents[1] / "pcloud"
    paths = [*sorted(package.glob("io/*.py")), package / "images/files.py", faults_files.__file__]
    return hashlib.sha256(b"".join(Path(path).read_bytes() for path in paths)).hexdigest()


def campaign(
    names: list[str],
    number: int,
    seed: int,
    workers: int,
    seconds: float = math.inf,
    path: Path | None = None,
) -> dict[str, Tally]:
    """Read `number` changed files of each format in child processes.

    After `seconds`, no further child is started, so that fewer files are read. With the `path` of a
    log, files that it names are not read again.
    """
    end = time.monotonic() + seconds
    log = Log(names, seed, path)
    blocks = [
        (name, log.first(name, start), min(start + _BLOCK_CASES, number))
        for start in range(0, number, _BLOCK_CASES)
        for name in names
    ]
    waiting = [block for block in reversed(blocks) if block[1] < block[2]]
    for module in _LATE_IMPORTS:
        importlib.import_module(module)
    children: list[Child] = []
    while waiting or children:
        if time.monotonic() > end:
            waiting.clear()
        while waiting and len(children) < workers:
            children.append(_start(*waiting.pop(), seed))
        ready = wait([child.said for child in children], timeout=5)
        for child in list(children):
            ended = False
            if child.said in ready:
                ended = not _hear(child, log)
            elif time.monotonic() - child.heard > _SILENT_SECONDS:
                child.process.kill()  # hangs in C, where no alarm is handled
                log.add(child.name, {"kind": "hang", "case": child.case})
                child.case += 1
                ended = True
            if ended:
                children.remove(child)
                if child.case < child.stop:
                    waiting.append((child.name, child.case, child.stop))
    return log.tallies


def _start(name: str, start: int, stop: int, seed: int) -> Child:
    said, say = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_read_block, args=(name, start, stop, seed, say))
    process.start()
    say.close()
    return Child(name, stop, process, said, start, time.monotonic())


def _hear(child: Child, log: Log) -> bool:
    """Take a message of a child; False at its end, when a crash is counted."""
    try:
        case = child.said.recv()
    except EOFError:
        child.process.join()
        if child.case < child.stop:
            code = child.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            log.add(child.name, {"kind": "crash", "case": child.case, "message": how})
            child.case += 1
        return False
    log.add(child.name, case)
    child.case = case["case"] + 1
    child.heard = time.monotonic()
    return True


def _read_block(name: str, start: int, stop: int, seed: int, say: Connection) -> None:
    """Read changed files in a child process, and report each."""
    _limit_address_space()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, _no_output():
        path, good, expected = good_file(name, Path(folder))
        for case in range(start, stop):
            path.write_bytes(faults_files.changed_file(name, good, seed, case))
            _reset_peak()
            before = _memory_mib("VmRSS")
            began = time.process_time()
            outcome = faults_files.try_reading(name, path, expected)
            seconds = time.process_time() - began
            peak = max(0.0, _memory_mib("VmHWM") - before)
            kind, message = outcome.kind, outcome.message
            if peak > MAX_MIB or _FAILED_ALLOCATION.search(message):
                kind = "memory"
            report = {"case": case, "kind": kind, "seconds": seconds, "peak_mib": peak}
            if kind in FAULTS:
                report["message"] = message[:300]
            say.send(report)


def good_file(name: str, folder: Path) -> tuple[Path, bytes, faults_files.Values]:
    """Path, content and numbers of the good file of a format."""
    made = faults_files.FORMATS[name]
    path = folder / "files" / made.file
    path.parent.mkdir()
    made.write(path)
    return path, path.read_bytes(), made.read(path)


def _limit_address_space() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _memory_mib(key: str) -> float:
    with Path("/proc/self/status").open(encoding="utf-8") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


@contextlib.contextmanager
def _no_output() -> Iterator[None]:
    """C libraries print what they find."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    yield


def show_case(name: str, case: int, seed: int) -> None:
    """Read one changed file in this process, with the traceback of its error."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        path, good, expected = good_file(name, Path(folder))
        path.write_bytes(faults_files.changed_file(name, good, seed, case))
        with contextlib.suppress(Exception):
            try:
                faults_files.FORMATS[name].read(path)
            except Exception:
                traceback.print_exc()
        print(faults_files.try_reading(name, path, expected))


COLUMNS = {
    "refused": "refused",
    "same": "read",
    "other": "other numbers",
    "wrong": "wrong despite checksums",
    "exception": "other exceptions",
    "hang": "over 10 s",
    "memory": f"over {MAX_MIB} MiB",
    "crash": "crashes in C",
}


def table(tallies: dict[str, Tally]) -> str:
    """Markdown table of the outcomes, with a row for all formats."""
    total = Tally()
    for tally in tallies.values():
        total.counts += tally.counts
        total.peak_mib = max(total.peak_mib, tally.peak_mib)
        total.seconds = max(total.seconds, tally.seconds)
    rows = [["format", "files", *COLUMNS.values(), "peak MiB", "longest s"]]
    rows += [["---", *["---:"] * (len(COLUMNS) + 3)]]
    for name, tally in {**tallies, "**all**": total}.items():
        counts = [f"{tally.counts[kind]:,}" for kind in COLUMNS]
        number = f"{tally.counts.total():,}"
        rows.append([name, number, *counts, f"{tally.peak_mib:.0f}", f"{tally.seconds:.1f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def change_run_files(number: int, seed: int) -> int:
    """Change values and bytes of files of runs; number of faults."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name).resolve()
        faults_run_files.make_run(folder)
        found = faults_run_files.changed_run_files(
            folder, seed, number, num_bytes=number // 3, isolated=True
        )
    print(f"\n{found.counts.total()} changed files of runs:", end=" ")
    print("; ".join(f"{outcome} {n}" for outcome, n in sorted(found.counts.items())))
    print(*found.faults, sep="\n")
    return sum(found.counts[kind] for kind in ("traceback", "hang", "crash"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000, help="number of changed files")
    parser.add_argument("--jets", type=int, default=faults_files.NUM_JETS, help="jets per file")
    parser.add_argument("--formats", nargs="+", default=list(faults_files.FORMATS), help="formats")
    parser.add_argument("--run-files", type=int, default=0, help="number of changed files of runs")
    parser.add_argument("--kills", type=int, default=0, help="number of kills of each command")
    parser.add_argument("--seed", type=int, default=0, help="seed of the changes")
    parser.add_argument("--minutes", type=float, default=math.inf, help="limit of the time")
    parser.add_argument("--workers", type=int, default=1, help="number of child processes")
    parser.add_argument("--case", nargs=2, metavar=("FORMAT", "NUMBER"), help="show one file")
    parser.add_argument("--out", type=Path, help="folder for the list of faults")
    options = parser.parse_args()
    faults_files.NUM_JETS = options.jets
    if options.case:
        show_case(options.case[0], int(options.case[1]), options.seed)
        return 0
    began = time.monotonic()
    number = -(-options.files // len(options.formats))
    limits = (options.seed, options.workers, 60 * options.minutes)
    path = options.out / "cases.jsonl" if options.out else None
    tallies = campaign(options.formats, number, *limits, path)
    print(f"up to {number} changed files of each format, seed {options.seed}", end=", ")
    print(f"{time.monotonic() - began:.0f} s\n")
    print(table(tallies))
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / "faults.json"
        contents = {n: vars(t) | {"counts": dict(t.counts)} for n, t in tallies.items()}
        path.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    bad = sum(fault["kind"] != "crash" for fault in faults)
    if options.kills:
        kills = faults_kills.kill_commands(options.kills, options.seed)
        print(f"\n{options.kills} kills of each command\n\n{faults_kills.table(kills)}")
        print(*(f"{name}: {k.message}" for name, k in kills.items() if k.message), sep="\n")
        bad += sum(found.faults for found in kills.values())
    if options.run_files:
        bad += change_run_files(options.run_files, options.seed)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
