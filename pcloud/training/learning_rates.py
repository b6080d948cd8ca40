"""Learning-rate range test: the loss while the learning rate rises from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, ClassVar

import lightning as L
import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d
from torch_geometric.data import Batch

from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure
from pcloud.run_files import LEARNING_RATES_FILE, StoredResult
from pcloud.training.module import JetData, RestOfEpoch
from pcloud.typing import Floats

__all__ = ["RaisedLearningRate", "RangeTest", "range_test_figure"]

_LOWEST, _HIGHEST = 1e-6, 10.0  # learning rates of the first and of the last step
_NUM_STEPS = 140  # 20 for each factor of ten
_WIDTH = 4.0  # steps, standard deviation of the smoothing
_MEMORY = 0.9  # of the running mean that detects divergence
_SIGNIFICANCE = 3  # errors by which the loss must fall


@dataclass(frozen=True)
class RangeTest(StoredResult):
    """Loss of a network against the learning rate.

    Attributes
    ----------
    rates : tuple of float
        Learning rate of each step.
    losses : tuple of float
        Loss of the batch of each step, before the step.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    file: ClassVar[str] = LEARNING_RATES_FILE
    what: ClassVar[str] = "learning-rate range test"
    command: ClassVar[str] = "pcloud train --find-lr"

    @property
    def smoothed(self) -> Floats:
        """Loss (S,) averaged over neighbouring steps, losses of divergence counted as twice the first."""
        losses = np.asarray(self.losses, dtype=np.float64)
        largest = losses[:1] + np.abs(losses[:1])
        return gaussian_filter1d(np.minimum(losses, largest), _WIDTH, mode="nearest")

    @property
    def fastest(self) -> float:
        """Learning rate with the smallest loss; NaN if the loss does not fall."""
        return self.rates[int(self.smoothed.argmin())] if self._falls() else math.nan

    @property
    def proposal(self) -> float:
        """Learning rate at which the loss falls fastest, to two digits; NaN if it does not fall."""
        if not self._falls():
            return math.nan
        smoothed = self.smoothed
        slope = np.gradient(smoothed, np.log(self.rates))[: smoothed.argmin() + 1]
        return float(f"{self.rates[int(slope.argmin())]:.1e}")

    def _falls(self) -> bool:
        """True if the smallest loss is significantly below that of the first steps."""
        smoothed = self.smoothed
        if len(smoothed) < 2 or not smoothed.argmin():
            return False
        noise = np.std((np.asarray(self.losses) - smoothed)[: smoothed.argmin() + 1])
        error = noise / math.sqrt(2 * math.sqrt(math.pi) * _WIDTH)  # of the mean by the kernel
        return bool(smoothed[0] - smoothed.min() > _SIGNIFICANCE * math.sqrt(2) * error)

    def summary(self) -> str:
        """Proposal in one line."""
        if math.isnan(self.proposal):
            return (
                "the loss falls at no learning rate: check that inputs differ between classes and "
                "labels belong to them (--overfit), or take larger batches"
            )
        return (
            f"proposed --lr {self.proposal:g}, where the loss falls fastest; it is smallest at "
            f"{self.fastest:.2g}, and the test ended at {self.rates[-1]:.2g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"rates": list(self.rates), "losses": list(self.losses), "proposal": self.proposal}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RangeTest:
        """Inverse of `to_dict`."""
        rates, losses = (tuple(map(float, values[name])) for name in ("rates", "losses"))
        return cls(rates, losses)

    def rows(self) -> list[list[str]]:
        """Table of the smoothed loss, five rows for each factor of ten."""
        pairs = list(zip(self.rates, self.smoothed, strict=True))[::4]
        return [["lr", "loss"], *([f"{rate:.2g}", f"{loss:.4g}"] for rate, loss in pairs)]


class RaisedLearningRate(L.Callback):
    """Callback that raises the learning rate at each step until the loss diverges.

    Attributes
    ----------
    losses : list of float
        Finite loss of each step.
    """

    def __init__(self) -> None:
        self.rates: Floats = np.geomspace(_LOWEST, _HIGHEST, _NUM_STEPS)
        self.losses: list[float] = []
        self._mean = 0.0
        self._best = math.inf

    @property
    def found(self) -> RangeTest:
        """Result so far."""
        return RangeTest(tuple(self.rates[: len(self.losses)].tolist()), tuple(self.losses))

    def batches(self, data: JetData) -> _Batches:
        """Training batches for all steps, over as many epochs as this takes."""
        return _Batches(data)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the learning rate of all parameters; those of the head keep their factor."""
        peak = pl_module.recipe.lr  # type: ignore[union-attr]
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = float(self.rates[batch_idx]) * group["initial_lr"] / peak

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Store the loss; stop if it diverges."""
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            trainer.should_stop = True
            return
        self.losses.append(loss)
        self._mean = _MEMORY * self._mean + (1 - _MEMORY) * loss
        mean = self._mean / (1 - _MEMORY ** len(self.losses))
        self._best = min(self._best, mean)
        first = self.losses[0]
        trainer.should_stop = mean > first + max(abs(first), first - self._best)


class _Batches:
    """Batches of the epochs of a training, one after the other."""

    def __init__(self, data: JetData) -> None:
        self.data = data

    def __len__(self) -> int:
        return _NUM_STEPS

    def __iter__(self) -> Iterator[Batch]:
        loader, steps = self.data.train_loader, self.data.steps_per_epoch
        every = (batch for epoch in count() for batch in RestOfEpoch(loader, epoch, 0, steps))
        return islice(every, _NUM_STEPS)


@figure_style()
def range_test_figure(found: RangeTest, lr: float | None = None) -> Figure:
    """Draw the loss against the learning rate, with the proposal.

    Parameters
    ----------
    found : RangeTest
        Result.
    lr : float, optional
        Learning rate of the configuration, to compare with.
    """
    figure, (axes,) = new_figure(4.0)
    axes.plot(found.rates, found.losses, ".", ms=4, color=MUTED, label="loss of a batch")
    axes.plot(found.rates, found.smoothed, color=COLORS[0], label="smoothed")
    if math.isfinite(found.proposal):
        axes.axvline(found.proposal, color=COLORS[1], label=f"proposal {found.proposal:g}")
    if lr is not None:
        axes.axvline(lr, color=MUTED, lw=1, ls=(0, (4, 3)), label=f"configuration {lr:g}")
    low = min(found.losses)
    first = found.losses[0]
    axes.set_ylim(low - 0.1 * abs(first), max(first + 1.2 * abs(first), low + 0.2 * abs(first)))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
