"""State of a run: its progress and the random numbers."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

__all__ = ["COLUMNS", "RunState", "random_state", "restore_random_state"]

COLUMNS = (
    "epoch",
    "train_loss",
    "val_loss",
    "train_acc",
    "val_acc",
    "val_auc",
    "lr",
    "jets_per_s",
    "seconds",
)
"""Columns of ``metrics.csv``, one row per epoch; the last two depend on the machine."""


@dataclass
class RunState:
    """Progress of a run, without weights, optimizer and random numbers.

    Attributes
    ----------
    epoch, next_batch : int
        Next batch.
    step : int
        Number of optimizer steps done.
    seconds : float
        Time in seconds spent in the current epoch, including that before interruptions.
    history : list of dict
        Metrics of each finished epoch.
    merit : float or None
        Best value of the monitored metric; the negative loss where that is monitored.
    best_epoch : int
        Epoch of the best value, counted from 1; 0 before the first.
    finished : bool
        Whether the run is finished.
    learned : bool
        Whether the network was better than a constant score after any epoch.
    """

    epoch: int = 0
    next_batch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    merit: float | None = None
    best_epoch: int = 0
    finished: bool = False
    learned: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def end_epoch(self, row: dict[str, float], monitor: str) -> bool:
        """Add the metrics of the epoch; return whether it is the best so far."""
        self.history.append(row)
        self.epoch, self.next_batch, self.seconds = self.epoch + 1, 0, 0.0
        merit = -row[monitor] if monitor == "val_loss" else row[monitor]
        better = self.merit is None or merit > self.merit or math.isnan(self.merit)
        if better:
            self.merit, self.best_epoch = merit, self.epoch
        return better


def random_state() -> dict[str, Any]:
    """State of the random numbers of torch, NumPy and Python, as plain values and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (
            name,
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            position,
            has_gauss,
            gauss,
        ),
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore the random state.

    A run continued on a machine with another number of GPUs keeps their current random states: the
    result is then statistically equivalent, but not the same bit for bit.
    """
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(  # noqa: NPY002
        (name, keys.numpy().astype(np.uint32), position, has_gauss, gauss)
    )
    random.setstate(state["python"])
