"""Production of blocks of jets by several processes, and their storage in part files."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pcloud.errors import InputError
from pcloud.io.files import input_errors
from pcloud.io.jets import FlatJets
from pcloud.io.npz import read_member
from pcloud.run_files import file_errors, make_folder, read_json, write_atomic, write_json
from pcloud.simulate.block import Settings, make_block

#: Process and number of a block.
Task = tuple[str, int]


class PartFiles:
    """Folder that stores finished blocks until the sample is complete.

    Parameters
    ----------
    folder : Path
        Folder, which is created if it does not exist.
    settings : Settings
        Settings that determine the jets.

    Raises
    ------
    InputError
        If the folder contains blocks with other settings or other versions of Pythia or FastJet.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        note = describe(settings)
        file = folder / "settings.json"
        remedy = f"remove {folder}"
        if file.exists() and read_json(file, "settings of a simulation", remedy) != note:
            raise InputError(
                f"{folder}: contains blocks of an interrupted run with other settings (see "
                "settings.json there); repeat that run, or remove the folder"
            )
        make_folder(folder)
        write_json(file, note, indent=1)

    def __contains__(self, task: Task) -> bool:
        return self._path(task).exists()

    def __setitem__(self, task: Task, jets: FlatJets) -> None:
        columns: dict[str, Any] = {"offsets": jets.offsets, "p4": np.stack(jets.p4), **jets.jet}
        write_atomic(self._path(task), lambda file: np.savez(file, **columns))

    def __getitem__(self, task: Task) -> FlatJets:
        path = self._path(task)
        with file_errors(path, "block of jets", "remove it, and repeat the command"):
            return self._read(path)

    def _read(self, path: Path) -> FlatJets:
        with input_errors(path, "jets"), path.open("rb") as file, zipfile.ZipFile(file) as archive:
            arrays = {
                info.filename.removesuffix(".npy"): read_member(path, archive, info)
                for info in archive.infolist()
            }
        offsets, p4 = arrays.pop("offsets"), arrays.pop("p4")
        return FlatJets(offsets, tuple(p4), jet=arrays)

    def remove(self) -> None:
        """Remove the folder and the blocks in it."""
        for file in (*self.folder.glob("*.npz"), *self.folder.glob(".*.new")):
            file.unlink()
        (self.folder / "settings.json").unlink()
        with contextlib.suppress(OSError):  # it contains other files
            self.folder.rmdir()

    def _path(self, task: Task) -> Path:
        return self.folder / f"{task[0]}-{task[1]:06d}.npz"


def describe(settings: Settings) -> dict[str, Any]:
    """Dictionary of plain types with the settings and versions that determine the jets."""
    return {
        **json.loads(json.dumps(asdict(settings))),
        "pythia8mc": version("pythia8mc"),
        "fastjet": version("fastjet"),
    }


def make_blocks(
    tasks: Sequence[Task], settings: Settings, workers: int
) -> Iterator[tuple[Task, FlatJets]]:
    """Simulate blocks and return each one when it is finished.

    With one worker, the blocks are produced in this process. With more, they are produced in new
    processes (``spawn``: no state of this process, such as its threads, is copied), which end
    immediately if this process is interrupted.

    Parameters
    ----------
    tasks : sequence of (str, int)
        Process and number of each block.
    settings : Settings
        Settings that determine the jets.
    workers : int
        Number of processes.

    Yields
    ------
    task : (str, int)
        Process and number of the block.
    jets : FlatJets
        Jets of the block.
    """
    if workers == 1 or len(tasks) < 2:
        for task in tasks:
            yield task, make_block(*task, settings)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, initializer=_die_at_interrupt)
    try:
        waiting = list(reversed(tasks))  # submitted step by step, so that few must be cancelled
        running: dict[Future[FlatJets], Task] = {}
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                task = waiting.pop()
                running[pool.submit(make_block, *task, settings)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise


def _die_at_interrupt() -> None:
    """End this process without a message at Ctrl-C, which the terminal sends to all processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
