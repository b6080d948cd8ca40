"""Lightning callback that saves a run: its progress, its checkpoints, its log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L

from pcloud.errors import InputError
from pcloud.training.checkpoint import (
    PREVIOUS,
    Tagger,
    checkpoint_errors,
    checkpoint_path,
    keep_previous,
    write_checkpoint,
)
from pcloud.training.config import RunConfig
from pcloud.training.fingerprint import JetsOfRun
from pcloud.training.history import History
from pcloud.training.interrupt import Interrupted, StopRequest
from pcloud.training.metrics import RunningMetrics
from pcloud.training.module import JetData, TaggerModule
from pcloud.training.ranks import ONE, Ranks
from pcloud.training.state import (
    COLUMNS,
    RunState,
    check_random_state,
    metric_columns,
    random_state,
    restore_random_state,
)

__all__ = ["EpochListener", "OnEpoch", "RunCheckpoint"]

OnEpoch = Callable[[Mapping[str, float]], object]
"""Function of the metrics of an epoch."""


class RunCheckpoint(L.Callback):
    """Callback that saves a run, so that it can be killed at any moment, and restores it.

    The state is saved between two steps and at the end of each epoch, after validation. After the
    last step of an epoch it is saved only at the end, so that a continued epoch has a batch left.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    config : RunConfig
        Intervals of saving, monitored metric and patience.
    tagger : Tagger
        The network that is trained.
    jets : JetsOfRun
        Fingerprints of the jets.
    stop : StopRequest
        Set when the user asks to stop.
    ranks : Ranks
        Processes that train together, of which the first writes.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        tagger: Tagger,
        jets: JetsOfRun,
        stop: StopRequest,
        ranks: Ranks = ONE,
    ) -> None:
        self.folder = folder
        self.config = config
        self.tagger = tagger
        self.jets = jets
        self.stop = stop
        self.ranks = ranks
        self.state = RunState()
        self._random: dict[str, Any] | None = None

    @property
    def last(self) -> Path:
        """Path of the checkpoint from which the run continues."""
        return checkpoint_path(self.folder, "last")

    def restore(self, checkpoint: dict[str, Any], module: TaggerModule, data: JetData) -> None:
        """Restore a run from its last checkpoint.

        Raises
        ------
        InputError
            If the training jets differ from those of the start of the run, or the checkpoint is
            damaged.
        """
        run = checkpoint["run"]
        self.jets.check(run["fingerprint"], self.folder)
        if run["state"]["next_batch"] and run.get("shards", data.shards) != data.shards:
            raise InputError(
                f"{self.folder} cannot be continued by {data.shards} processes that read its stream: "
                f"it stopped in the middle of an epoch, whose order is that of {run['shards']}"
            )
        with checkpoint_errors(self.last):
            self.state = _continued(RunState(**run["state"]), data)
            self.tagger.load_weights(checkpoint["tagger"]["weights"])
            self.tagger.objective.load(checkpoint["tagger"].get("objective", {}))
            module.resume(run)
            check_random_state(run["random"])
        data.epoch, data.next_batch = self.state.epoch, self.state.next_batch
        of_ranks = [run["random"], *run.get("random_of_ranks", [])]
        if self.ranks.rank < len(of_ranks):
            self._random = of_ranks[self.ranks.rank]
        if not self.ranks.is_first:  # the sums so far are those of the first rank
            module.train_metrics = RunningMetrics()

    # Hooks of Lightning, in the order in which they are called

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start measuring the time."""
        self._saved = self._tick = time.monotonic()
        self._write_metrics()  # removes the row of an epoch after the last checkpoint

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Restore the random state, after Lightning has used random numbers for its setup."""
        if self._random is not None:
            restore_random_state(self._random)
            self._random = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Count the step; save the state if it is due."""
        state, config, data = self.state, self.config, _data(trainer)
        state.step += 1
        state.next_batch += 1
        if state.next_batch >= data.epoch_steps(state.epoch):
            return
        due = config.checkpoint_steps and state.step % config.checkpoint_steps == 0
        late = config.checkpoint_seconds and (
            time.monotonic() - self._saved >= config.checkpoint_seconds
        )
        late, stop = self.ranks.any(late, self.stop)
        if due or late or stop:
            self._save(trainer)
        if stop:
            raise Interrupted

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of the training."""
        self._validation_began = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log and save the epoch; stop if it was the last one."""
        module, data, state = _module(trainer), _data(trainer), self.state
        own = self._row(trainer, module)
        row = self.ranks.on_first(lambda: own)
        if not math.isfinite(row["train_loss"]):
            raise InputError(
                f"the training diverged in epoch {state.epoch + 1}: its loss is "
                f"{row['train_loss']}; lower the learning rate (lr) or clip the gradient "
                "(gradient_clip)"
            )
        state.learned |= module.beats_constant
        better = state.end_epoch(row, self.config.monitor)
        data.epoch, data.next_batch = state.epoch, 0
        module.train_metrics = RunningMetrics()
        stale = state.epoch - state.best_epoch
        early = self.config.patience is not None and stale >= self.config.patience
        state.finished = early or state.epoch >= data.total_epochs
        if better:
            self._save_weights("best")
        if self.config.keep_checkpoints:
            self._save_weights(f"epoch_{state.epoch}")
        self._write_metrics()
        self._save(trainer)
        trainer.should_stop = state.finished
        (stop,) = self.ranks.any(self.stop)
        if stop and not state.finished:
            raise Interrupted

    def _row(self, trainer: L.Trainer, module: TaggerModule) -> dict[str, float]:
        metrics = module.train_metrics.over_ranks()
        train_loss, train_acc = metrics.compute()
        val = module.validation_metrics()
        training = self.state.seconds + self._validation_began - self._tick
        seconds = self._elapsed()
        of_parts = {f"train_loss_{n}": x for n, x in metrics.losses().items()}
        scales = module.objective.current_weights()
        values = {
            "epoch": self.state.epoch + 1,
            "train_loss": train_loss,
            **({"train_acc": train_acc} if "val_acc" in val else {}),
            **of_parts,
            **val,
            **{f"weight_{name}": weight for name, weight in scales.items()},
            "lr": module.lr_at(self.state.step - 1),
            "jets_per_s": round(metrics.jets / training, 1),
            "seconds": round(seconds, 2),
        }
        return {name: values[name] for name in metric_columns(values)}

    def _elapsed(self) -> float:
        """Time in seconds spent in the current epoch."""
        now = time.monotonic()
        self.state.seconds += now - self._tick
        self._tick = now
        return self.state.seconds

    def _save(self, trainer: L.Trainer) -> None:
        module = _module(trainer)
        self._elapsed()
        metrics = module.train_metrics.over_ranks()
        random, *random_of_ranks = self.ranks.gather(random_state())
        self._saved = time.monotonic()
        if not self.ranks.is_first:
            return
        content = {
            "tagger": self.tagger.to_dict(),
            "run": {
                "state": self.state.to_dict(),
                "optimizer": trainer.optimizers[0].state_dict(),
                "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
                "train_metrics": metrics.state_dict(),
                "random": random,
                "shards": _data(trainer).shards,
                **({"random_of_ranks": random_of_ranks} if random_of_ranks else {}),
                "fingerprint": self.jets.to_dict(),
            },
        }
        keep_previous(self.folder)
        write_checkpoint(content, self.last)
        if self.state.finished:
            checkpoint_path(self.folder, PREVIOUS).unlink(missing_ok=True)
        self._saved = time.monotonic()

    def _save_weights(self, name: str) -> None:
        if not self.ranks.is_first:
            return
        content = {"tagger": self.tagger.to_dict(), "metrics": self.state.history[-1]}
        write_checkpoint(content, checkpoint_path(self.folder, name))

    def _write_metrics(self) -> None:
        if not self.ranks.is_first:
            return
        columns = self.state.history[0] if self.state.history else COLUMNS
        History(self.state.history, tuple(columns)).write(self.folder)


class EpochListener(L.Callback):
    """Callback that passes the metrics of each epoch on, after `keeper` has saved it.

    Parameters
    ----------
    keeper : RunCheckpoint
        Callback that saves the run, earlier in the list of callbacks.
    on_epoch : callable
        Function of the metrics; what it raises ends the training.
    """

    def __init__(self, keeper: RunCheckpoint, on_epoch: OnEpoch) -> None:
        self.keeper = keeper
        self.on_epoch = on_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Call the function."""
        self.on_epoch(dict(self.keeper.state.history[-1]))


def _continued(state: RunState, data: JetData) -> RunState:
    """Return the state of a run that is not finished, if its position is one of this training."""
    steps = state.epoch * data.steps_per_epoch + state.next_batch
    inside = state.epoch < data.total_epochs and state.next_batch < data.epoch_steps(state.epoch)
    if state.finished or not inside or state.step != steps:
        raise InputError(
            f"run.state: step {state.step}, epoch {state.epoch} and batch {state.next_batch} are no "
            f"position in {data.total_epochs} epochs of {data.steps_per_epoch} batches"
        )
    return state


def _module(trainer: L.Trainer) -> TaggerModule:
    module = trainer.lightning_module
    assert isinstance(module, TaggerModule)
    return module


def _data(trainer: L.Trainer) -> JetData:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, JetData)
    return data
