"""Deep ensembles: the same training with several seeds, each a run in its own folder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcloud.storage import remove_mapped_files
from pcloud.terminal import Terminal
from pcloud.training.config import TrainConfig
from pcloud.training.environment import update_environment
from pcloud.training.folder import clear, open_folder, write_config
from pcloud.training.history import History, Row
from pcloud.training.run_folder import is_finished, member_path

__all__ = ["member_config", "train_ensemble"]


def member_config(config: TrainConfig, member: int) -> TrainConfig:
    """Configuration of a member, counted from 1, with its seed and folder."""
    out = str(member_path(Path(config.out), member))
    seed = config.run.seed + member - 1
    return config.with_options(out=out, seed=seed, ensemble=1, workers=1)


Train = Callable[..., Any]
"""Training of one network, ``train(config, progress=...)``: a function of a module, to be pickled."""

Shared = Callable[[TrainConfig, Path, Terminal], AbstractContextManager[dict[str, Any]]]
"""Context with further arguments of the training, which all members share."""


def train_ensemble(
    config: TrainConfig, train: Train, shared: Shared, *, overwrite: bool, progress: bool
) -> None:
    """Train the members that are not finished by `train`, `config.workers` at a time.

    Each member is a run, which continues after an interruption. Members in worker processes stop,
    with their state saved, when the process that started them ends in any way.

    References
    ----------
    Lakshminarayanan, Pritzel and Blundell, Deep Ensembles, https://arxiv.org/abs/1612.01474.
    """
    console = Terminal(stderr=True, quiet=not progress)
    with open_folder(config, overwrite=overwrite) as folder:
        if overwrite:
            clear(folder)
        write_config(folder, config)
        update_environment(folder, config.seed, finished=False)
        members = [member_config(config, i + 1) for i in range(config.ensemble)]
        remove_mapped_files(folder)  # of a process that was killed
        waiting = [member for member in members if not is_finished(Path(member.out))]
        done = len(members) - len(waiting)
        console.print(
            f"ensemble of {len(members)}, {done} finished, {config.workers} at a time",
        )
        with shared(config, folder, console) if waiting else nullcontext({}) as arguments:
            train = partial(train, **arguments)
            if config.workers == 1 or len(waiting) < 2:
                for member in waiting:
                    console.print(f"member {member.out}", soft_wrap=True)
                    train(member, progress=progress)
            else:
                _side_by_side(train, waiting, min(config.workers, len(waiting)), console)
        _write_mean_metrics(folder, members)
        update_environment(folder, config.seed, finished=True)


def _train_in_worker(train: Train, config: TrainConfig) -> list[Warning]:
    """Train a member; return the warnings of pcloud to the process that started this one."""
    with warnings.catch_warnings(record=True) as found:
        train(config, progress=False)
    messages = [w.message for w in found if w.category.__module__.startswith("pcloud")]
    return [message for message in messages if isinstance(message, Warning)]


def _side_by_side(
    train: Train, members: list[TrainConfig], workers: int, console: Terminal
) -> None:
    threads = max(1, torch.get_num_threads() // workers)
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(threads, os.getpid()),
    )
    with pool:
        results = pool.map(partial(_train_in_worker, train), members)
        for member, found in zip(members, results, strict=True):
            console.print(f"finished {member.out}", soft_wrap=True)
            for warning in found:
                warnings.warn(warning, stacklevel=5)


def _start_worker(threads: int, parent: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_stop_with, args=(parent,), daemon=True).start()


def _stop_with(parent: int) -> None:
    """Stop this process when its parent has ended, even by kill -9."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _write_mean_metrics(folder: Path, members: list[TrainConfig]) -> None:
    """Write ``metrics.csv`` of the ensemble: means over the members that have the epoch."""
    epochs: dict[float, list[Row]] = {}
    for member in members:
        for row in History.read(member.out):
            epochs.setdefault(row["epoch"], []).append(row)
    means = [_mean(rows) | {"epoch": int(epoch)} for epoch, rows in epochs.items()]
    History(means).write(folder)


def _mean(rows: list[Row]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
