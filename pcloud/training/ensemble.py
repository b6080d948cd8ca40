"""Deep ensembles: the same training with several seeds, each a run in its own folder."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from pcloud.training.config import TrainConfig
from pcloud.training.environment import update_environment
from pcloud.training.folder import clear, open_folder, write_config
from pcloud.training.run import is_finished, member_path

__all__ = ["member_config", "train_ensemble"]


def member_config(config: TrainConfig, member: int) -> TrainConfig:
    """Configuration of a member, counted from 1, with its seed and folder."""
    out = str(member_path(Path(config.out), member))
    seed = config.run.seed + member - 1
    return config.with_options(out=out, seed=seed, ensemble=1, workers=1)


def train_ensemble(config: TrainConfig, *, overwrite: bool, progress: bool) -> None:
    """Train the members that are not finished, `config.workers` at a time.

    Each member is a run, which continues after an interruption. Members in worker processes stop,
    with their state saved, when the process that started them ends in any way.

    References
    ----------
    Lakshminarayanan, Pritzel and Blundell, Deep Ensembles, https://arxiv.org/abs/1612.01474.
    """
    console = Console(stderr=True, quiet=not progress)
    with open_folder(config, overwrite=overwrite) as folder:
        if overwrite:
            clear(folder)
        write_config(folder, config)
        update_environment(folder, config.seed, finished=False)
        members = [member_config(config, i + 1) for i in range(config.ensemble)]
        waiting = [member for member in members if not is_finished(Path(member.out))]
        done = len(members) - len(waiting)
        console.print(
            f"ensemble of {len(members)}, {done} finished, {config.workers} at a time",
            highlight=False,
        )
        if config.workers == 1 or len(waiting) < 2:
            for member in waiting:
                console.print(f"member {member.out}", highlight=False, soft_wrap=True)
                _train_member(member, progress)
        else:
            _side_by_side(waiting, min(config.workers, len(waiting)), console)
        _write_mean_metrics(folder, members)
        update_environment(folder, config.seed, finished=True)


def _train_member(config: TrainConfig, progress: bool = False) -> None:
    from pcloud.training.fit import train

    train(config, progress=progress)


def _train_in_worker(config: TrainConfig) -> list[Warning]:
    """Train a member; return the warnings of pcloud to the process that started this one."""
    with warnings.catch_warnings(record=True) as found:
        _train_member(config)
    messages = [w.message for w in found if w.category.__module__.startswith("pcloud")]
    return [message for message in messages if isinstance(message, Warning)]


def _side_by_side(members: list[TrainConfig], workers: int, console: Console) -> None:
    threads = max(1, torch.get_num_threads() // workers)
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(threads, os.getpid()),
    )
    with pool:
        for member, found in zip(members, pool.map(_train_in_worker, members), strict=True):
            console.print(f"finished {member.out}", highlight=False, soft_wrap=True)
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
    rows: dict[str, list[dict[str, float]]] = {}
    for member in members:
        with (Path(member.out) / "metrics.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                values = {name: float(value) for name, value in row.items() if value}
                rows.setdefault(row["epoch"], []).append(values)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for found in rows.values():
            mean = {name: float(np.mean([row[name] for row in found])) for name in found[0]}
            if writer is None:
                writer = csv.DictWriter(file, list(mean), lineterminator="\n")
                writer.writeheader()
            writer.writerow(mean | {"epoch": int(mean["epoch"])})
