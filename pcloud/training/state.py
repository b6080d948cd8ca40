"""State of a run: its progress and the random numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Interval, Len
from torch import Tensor
from typing_extensions import TypedDict

from pcloud.errors import InputError
from pcloud.stored_values import KEEP_UNKNOWN, Count, tensor
from pcloud.validation import Converted

__all__ = [
    "COLUMNS",
    "RandomState",
    "RunState",
    "check_random_state",
    "lower_is_better",
    "metric_columns",
    "random_state",
    "restore_random_state",
]

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


_REQUIRED_COLUMNS = {"epoch", "val_loss"}
_OF_CLASSES = {"val_acc", "val_auc"}
_OF_OBJECTIVES = (
    "train_loss_",
    "val_loss_",
    "val_resolution_",
    "val_acc_",
    "val_auc_",
    "val_efficiency_",
    "val_purity_",
    "val_gain_",
    "weight_",
)
"""Beginnings of the names of columns of one of several objectives, or of a target."""


def metric_columns(names: Iterable[str]) -> list[str]:
    """Columns of ``metrics.csv`` in their order: those of every run first, the machine's last.

    Parameters
    ----------
    names : iterable of str
        Names of all columns.
    """
    given = list(names)
    usual = [name for name in COLUMNS[:-3] if name in given]
    return [*usual, *(n for n in given if n not in COLUMNS), *COLUMNS[-3:]]


def lower_is_better(metric: str) -> bool:
    """Return whether a metric is best where it is lowest: a loss or a resolution."""
    return not metric.startswith(("val_acc", "val_auc", "val_efficiency", "val_purity", "val_gain"))


def _row(row: dict[str, float]) -> dict[str, float]:
    others = [name for name in row if name.startswith(_OF_OBJECTIVES)]
    is_of_classes = not others and any(name in row for name in _OF_CLASSES)  # not of an anomaly
    required = _REQUIRED_COLUMNS | (_OF_CLASSES if is_of_classes else set())
    if not required <= row.keys() <= {*COLUMNS, *others}:
        raise InputError(f"not the columns {', '.join(COLUMNS)}")
    return row


Epoch = Annotated[int, Interval(ge=0, le=10**6)]
HistoryRow = Annotated[dict[str, int | float], Converted(_row, after=True)]


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
        Best value of the monitored metric; its negative where lower values are better.
    best_epoch : int
        Epoch of the best value, counted from 1; 0 before the first.
    finished : bool
        Whether the run is finished.
    learned : bool
        Whether the network was better than a constant score after any epoch.
    """

    epoch: Epoch = 0
    next_batch: Count = 0
    step: Count = 0
    seconds: Annotated[float, Interval(ge=0, le=1e12)] = 0.0
    history: list[HistoryRow] = field(default_factory=list)
    merit: float | None = None
    best_epoch: Epoch = 0
    finished: bool = False
    learned: bool = False

    def __post_init__(self) -> None:
        if len(self.history) != self.epoch or self.best_epoch > self.epoch:
            raise InputError(
                f"epoch {self.epoch} with metrics of {len(self.history)} epochs, best {self.best_epoch}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def end_epoch(self, row: dict[str, float], monitor: str) -> bool:
        """Add the metrics of the epoch; return whether it is the best so far."""
        self.history.append(row)
        self.epoch, self.next_batch, self.seconds = self.epoch + 1, 0, 0.0
        merit = -row[monitor] if lower_is_better(monitor) else row[monitor]
        better = self.merit is None or merit > self.merit or math.isnan(self.merit)
        if better:
            self.merit, self.best_epoch = merit, self.epoch
        return better


_Word = Annotated[int, Interval(ge=0, le=2**32 - 1)]
_NUM_WORDS = 624  # of the state of a Mersenne Twister


def _are_words(keys: Tensor) -> None:
    if keys.dtype != torch.int64 or keys.shape != (_NUM_WORDS,):
        raise InputError(f"not {_NUM_WORDS} integers")
    if keys.min() < 0 or keys.max() >= 2**32:
        raise InputError("not integers of 32 bits")


class RandomState(TypedDict):
    """State of the random numbers in a checkpoint."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    torch: Annotated[Tensor, tensor()]
    cuda: Annotated[list[Annotated[Tensor, tensor()]], Len(0, 10_000)]
    numpy: tuple[
        Literal["MT19937"],
        Annotated[Tensor, tensor(_are_words)],
        Annotated[int, Interval(ge=0, le=_NUM_WORDS)],
        Annotated[int, Interval(ge=0, le=1)],
        float,
    ]
    python: tuple[
        Literal[3],
        Annotated[tuple[_Word, ...], Len(_NUM_WORDS + 1, _NUM_WORDS + 1)],
        float | None,
    ]


def check_random_state(state: dict[str, Any]) -> None:
    """Check that a state of the random numbers can be restored; the present one stays.

    Raises
    ------
    InputError
        If it cannot.
    """
    before = random_state()
    try:
        restore_random_state(state)
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"run.random: {' '.join(str(error).split())}") from None
    finally:
        restore_random_state(before)


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
