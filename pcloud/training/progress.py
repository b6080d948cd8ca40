"""Progress of a training on the terminal: a bar over the steps, a line for each epoch."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pcloud.training.callbacks import RunCheckpoint

__all__ = ["ProgressBar"]

_INTERVAL = 0.5  # seconds between readings of the loss, each of which waits for the GPU


def can_move(console: Console) -> bool:
    """Return True if a bar can move on a console: on a terminal, and in a notebook with ipywidgets."""
    in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal or in_notebook


class ProgressBar(L.Callback):
    """Callback that shows loss, validation AUC, rate and remaining time of the whole run.

    On a terminal, and in a notebook with ipywidgets, a bar moves over the steps of all epochs. A line
    is printed at the end of each epoch in any case.

    Parameters
    ----------
    console : rich.console.Console
        Console to print on.
    keeper : RunCheckpoint
        Callback that holds the state of the run.
    total_steps, total_epochs : int
        Length of the run.
    batch_size : int
        Number of jets per step.
    noun : str
        Plural noun of what is trained on.
    """

    def __init__(
        self,
        console: Console,
        keeper: RunCheckpoint,
        total_steps: int,
        total_epochs: int,
        batch_size: int,
        noun: str = "jets",
    ) -> None:
        self.keeper = keeper
        self.total_epochs = total_epochs
        self.batch_size = batch_size
        self.noun = noun
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[metric]}"),
            TextColumn(f"{{task.fields[rate]}} {noun}/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not can_move(console),
            transient=True,
        )
        self._console = console
        self._task = self._bar.add_task(
            "", total=total_steps, epoch="", loss="-", metric="", rate="-"
        )

    def on_train_start(self, *args: Any) -> None:
        """Show the bar; that of a continued run starts at its last step."""
        self._seen, self._tick = self.keeper.state.step, time.monotonic()
        history = self.keeper.state.history
        self._update(metric=_metrics(history[-1])[-1] if history else "")
        self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
        """Update the bar, at most twice a second."""
        passed = time.monotonic() - self._tick
        if self._bar.disable or passed < _INTERVAL:
            return
        rate = (self.keeper.state.step - self._seen) * self.batch_size / passed
        self._seen, self._tick = self.keeper.state.step, time.monotonic()
        loss, _ = module.train_metrics.compute()
        self._update(loss=f"{loss:.4f}", rate=f"{rate:,.0f}")

    def on_train_epoch_end(self, *args: Any) -> None:
        """Print the metrics of the epoch."""
        row = self.keeper.state.history[-1]
        width = len(str(self.total_epochs))
        best = " *" if self.keeper.state.best_epoch == row["epoch"] else ""
        self._console.print(
            f"epoch {row['epoch']:{width}}/{self.total_epochs}  "
            f"loss {row['train_loss']:.4f}  val loss {row['val_loss']:.4f}  "
            f"{''.join(f'{text}  ' for text in _metrics(row))}"
            f"{row['jets_per_s']:,.0f} {self.noun}/s  {row['seconds']:.0f} s{best}",
            soft_wrap=True,
        )
        self._update(metric=(_metrics(row) or [""])[-1])

    def on_train_end(self, *args: Any) -> None:
        """Remove the bar."""
        self._bar.stop()

    def on_exception(self, *args: Any) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _update(self, **fields: Any) -> None:
        state = self.keeper.state
        epoch = f"{min(state.epoch + 1, self.total_epochs)}/{self.total_epochs}"
        self._bar.update(self._task, completed=state.step, epoch=epoch, **fields)


_TITLES = {"val_acc": "acc", "val_auc": "AUC"}
_OF_TARGETS = {
    "val_resolution_": "resolution of ",
    "val_acc_": "acc of ",
    "val_auc_": "AUC of ",
    "val_efficiency_": "efficiency of ",
    "val_purity_": "purity of ",
    "val_gain_": "gain of ",
}


def _metrics(row: Mapping[str, float]) -> list[str]:
    """Validation metrics of an epoch as text: those of the classes, or else those of the targets."""
    found = [f"{title} {row[name]:.4f}" for name, title in _TITLES.items() if name in row]
    for start, title in _OF_TARGETS.items():
        names = [name for name in row if name.startswith(start)]
        found += [f"{title}{name.removeprefix(start)} {row[name]:.4g}" for name in names]
    losses = [name for name in row if name.startswith("val_loss_")]  # those of a generator
    return found or [f"{name.removeprefix('val_loss_')} {row[name]:.4f}" for name in losses]
