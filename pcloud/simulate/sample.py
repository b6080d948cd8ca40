"""Simulation of samples of jets, in memory or to a file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

import awkward as ak
import numpy as np
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.files import check_new_file
from pcloud.io.jets import FlatJets
from pcloud.io.write import write_chunks
from pcloud.simulate.block import Settings
from pcloud.simulate.detector import Detector
from pcloud.simulate.recipe import CLASSES, MIXTURES, PROCESSES, classes_of
from pcloud.simulate.workers import PartFiles, Task, make_blocks
from pcloud.terminal import Terminal

#: Number of blocks of each process whose jets are shuffled together: 20 000 jets, 20 MB.
BLOCKS_PER_CHUNK = 40

#: Blocks by process and number, in memory or on disk.
Blocks = MutableMapping[Task, FlatJets] | PartFiles

#: Suffixes of files that `simulate` can write.
SUFFIXES = (".parquet", ".h5", ".npz")


def simulate_jets(
    num_jets: int,
    *,
    process: str = "both",
    seed: int = 1,
    workers: int = 1,
    detector: Detector | None = None,
    mpi: bool = False,
    tune: int = 14,
    progress: bool = True,
) -> ak.Array:
    """Simulate jets by the Landscape recipe.

    The jets depend on the seed and on the physics settings, but not on the number of workers. A
    larger sample with the same seed contains the jets of a smaller one.

    Parameters
    ----------
    num_jets : int
        Number of jets; with two processes, half of each, and one more QCD jet if it is odd.
    process : {"both", "top", "qcd", "w", "w_qcd"}
        Hadronic top pairs, QCD dijets, or both, shuffled; pairs of hadronic W bosons, or these and QCD
        dijets.
    seed : int, default 1
        Seed of Pythia and of the detector, not negative.
    workers : int, default 1
        Number of processes. With more than one, the code of a script must be inside
        ``if __name__ == "__main__":``.
    detector : Detector, optional
        Parameters of the detector; the default is `Detector()`.
    mpi : bool, default False
        If True, multi-parton interactions are simulated, which the recipe does not include.
    tune : int, default 14
        Number of the pp tune of Pythia; 14 is Monash 2013.
    progress : bool, default True
        If True, a progress bar is shown.

    Returns
    -------
    ak.Array
        Jets with massless ``p4`` in GeV (float32, sorted by pT), ``label`` (1 = top or W), and the
        momentum of the top quark or W boson, ``truth_E``, ``truth_px``, ``truth_py``, ``truth_pz``, which is
        zero for QCD jets. ``attrs["classes"]`` contains the names of the classes.

    Raises
    ------
    InputError
        If an argument is out of range or the process is unknown.
    MissingExtraError
        If pythia8mc or fastjet is not installed.

    Examples
    --------
    >>> jets = simulate_jets(1000, seed=7)  # doctest: +SKIP
    """
    settings = _settings(seed, detector, mpi, tune)
    wanted = _wanted(num_jets, process)
    _check_workers(workers)
    chunks = make_chunks({}, wanted, settings, workers, progress)
    return FlatJets.concatenate(list(chunks)).to_awkward(classes_of(process))


def simulate(
    out: str | os.PathLike[str],
    num_jets: int,
    *,
    process: str = "both",
    seed: int = 1,
    workers: int | None = None,
    detector: Detector | None = None,
    mpi: bool = False,
    tune: int = 14,
    progress: bool = True,
    overwrite: bool = False,
) -> Path:
    """Simulate jets by the Landscape recipe and write them to a file.

    The jets are those of `simulate_jets`. Finished blocks of 250 jets are stored in the folder
    ``OUT.parts`` next to the file. After an interruption, the same call continues with them. They
    are removed when the file is complete.

    Parameters
    ----------
    out : path
        File to write: ``.parquet``, ``.npz``, or ``.h5`` for the HDF5 layout of the Landscape
        sample.
    num_jets : int
        Number of jets; with two processes, half of each, and one more QCD jet if it is odd.
    process : {"both", "top", "qcd", "w", "w_qcd"}
        Hadronic top pairs, QCD dijets, or both, shuffled; pairs of hadronic W bosons, or these and QCD
        dijets.
    seed : int, default 1
        Seed of Pythia and of the detector, not negative.
    workers : int, optional
        Number of processes; the default is one per processor.
    detector : Detector, optional
        Parameters of the detector; the default is `Detector()`.
    mpi : bool, default False
        If True, multi-parton interactions are simulated, which the recipe does not include.
    tune : int, default 14
        Number of the pp tune of Pythia; 14 is Monash 2013.
    progress : bool, default True
        If True, a progress bar is shown.
    overwrite : bool, default False
        If True, an existing file is replaced.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    InputError
        If an argument is out of range, the process or the suffix is unknown, or ``OUT.parts``
        contains blocks with other settings.
    FileExistsError
        If the file exists and `overwrite` is False.
    FileNotFoundError
        If the folder of the file does not exist.
    MissingExtraError
        If pythia8mc or fastjet is not installed.
    """
    out = _check_out(Path(out), overwrite)
    settings = _settings(seed, detector, mpi, tune)
    wanted = _wanted(num_jets, process)
    workers = _check_workers(workers)
    blocks = PartFiles(out.with_name(f"{out.name}.parts"), settings)
    chunks = make_chunks(blocks, wanted, settings, workers, progress)
    write_chunks(chunks, out, classes_of(process), overwrite)
    blocks.remove()
    return out


def make_chunks(
    blocks: Blocks,
    wanted: Mapping[str, int],
    settings: Settings,
    workers: int,
    progress: bool = False,
) -> Iterator[FlatJets]:
    """Simulate the missing blocks, then shuffle the jets of all blocks.

    Parameters
    ----------
    blocks : mapping of (str, int) to FlatJets
        Existing blocks, to which the new ones are added.
    wanted : mapping of str to int
        Number of jets of each process.
    settings : Settings
        Settings that determine the jets.
    workers : int
        Number of processes.
    progress : bool, default False
        If True, a progress bar is shown.

    Yields
    ------
    FlatJets
        Chunk of up to 20 000 shuffled jets.
    """
    size = settings.block_size
    tasks = [
        (process, index)
        for process, number in wanted.items()
        for index in range(-(-number // size))
    ]
    missing = [task for task in tasks if task not in blocks]
    done = len(tasks) - len(missing)
    with _bar(progress) as bar:
        begin = time.monotonic()
        shown = bar.add_task("", total=len(tasks) * size, rate=0.0)
        bar.update(shown, completed=done * size)
        for number, (task, jets) in enumerate(make_blocks(missing, settings, workers), start=1):
            blocks[task] = jets
            rate = number * size / (time.monotonic() - begin)
            bar.update(shown, completed=(done + number) * size, rate=rate)
    yield from _shuffled_chunks(blocks, wanted, settings)


def _bar(progress: bool) -> Progress:
    return Progress(
        TextColumn("simulating jets"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} jets/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Terminal(stderr=True),
        disable=not progress,
    )


def _shuffled_chunks(
    blocks: Blocks, wanted: Mapping[str, int], settings: Settings
) -> Iterator[FlatJets]:
    """Jets of all processes, shuffled within each chunk of blocks."""
    size = BLOCKS_PER_CHUNK * settings.block_size
    for chunk in range(-(-max(wanted.values()) // size)):
        parts = []
        for process, number in wanted.items():
            num_jets = min(number - chunk * size, size)
            for start in range(0, num_jets, settings.block_size):
                block = chunk * BLOCKS_PER_CHUNK + start // settings.block_size
                parts.append(
                    blocks[process, block].slice(0, min(settings.block_size, num_jets - start))
                )
        jets = FlatJets.concatenate(parts)
        key = np.random.SeedSequence(settings.seed, spawn_key=(len(CLASSES), chunk))
        order = np.random.default_rng(key).permutation(len(jets))
        yield FlatJets.from_awkward(jets.to_awkward()[order])


def _settings(seed: int, detector: Detector | None, mpi: bool, tune: int) -> Settings:
    from pcloud.simulate import engines  # noqa: F401  raises an error if the extra is missing

    if seed < 0:
        raise InputError(f"the seed must not be negative, got {seed}")
    if not 0 <= tune <= 36:
        raise InputError(f"the pp tunes of Pythia have numbers from 0 to 36, got {tune}")
    return Settings(seed, detector or Detector(), mpi, tune)


def _wanted(num_jets: int, process: str) -> dict[str, int]:
    """Number of jets of each process."""
    known = (*MIXTURES, *PROCESSES)
    if process not in known:
        raise UnknownNameError("process", process, known)
    if num_jets < 1:
        raise InputError(f"the number of jets must be positive, got {num_jets}")
    if process not in MIXTURES:
        return {process: num_jets}
    signal, background = MIXTURES[process]
    share = {signal: num_jets // 2, background: num_jets - num_jets // 2}
    return {name: number for name, number in share.items() if number}


def _check_workers(workers: int | None) -> int:
    if workers is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if workers < 1:
        raise InputError(f"the number of workers must be positive, got {workers}")
    return workers


def _check_out(out: Path, overwrite: bool) -> Path:
    if out.suffix not in SUFFIXES:
        raise InputError(f"{out}: jets are written to {', '.join(SUFFIXES)}, not {out.suffix!r}")
    check_new_file(out, overwrite)
    return out
