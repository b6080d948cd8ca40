"""Lightning modules of a training: the steps and the order of the jets."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch_geometric.data import Batch

from pcloud.batch import JetStream
from pcloud.errors import InputError
from pcloud.modality import Loader, Modality
from pcloud.models.parts import outputs_and_particles
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.ranks import gathered, is_spread, sum_over_ranks
from pcloud.objectives.classes import Classes
from pcloud.objectives.rows import ParticleRows
from pcloud.objectives.several import Several
from pcloud.training.data import TrainingData
from pcloud.training.decorrelation import Decorrelation
from pcloud.training.distillation import Distillation
from pcloud.training.metrics import RunningMetrics
from pcloud.training.optimizer_state import matching_state, state_after_a_step
from pcloud.training.optimizers import build_optimizer
from pcloud.training.ranks import ONE, Ranks
from pcloud.training.recipes import Recipe
from pcloud.training.schedules import SCHEDULES
from pcloud.training.stored_optimizers import LBFGS

__all__ = ["JetData", "TaggerModule"]

_SIGNIFICANCE = 3  # errors by which a loss must be below that of a constant score

_HIDDEN = "hidden_"
_HIDDEN_FIELDS = ("jet", "queries", "momenta", "x")

_ARGUMENTS_WITHOUT_LAYOUT = 3  # x, p4, batch


class TaggerModule(L.LightningModule):
    """Training of a tagger by a recipe.

    Parameters
    ----------
    model : torch.nn.Module
        ``model(*arguments) -> outputs (B, num_outputs)``.
    modality : Modality
        Kind of data, which knows the arguments of the model for a batch.
    recipe : Recipe
        Optimizer, schedule and their parameters.
    total_steps : int
        Number of optimizer steps of the whole run, the length of the schedule.
    objective : Several
        Objective of the outputs, fitted to the training jets.
    head : sequence of str
        Names of the parameters with the learning rate of the head.
    frozen : sequence of torch.nn.Module
        Modules that stay in evaluation mode.
    distillation : Distillation, optional
        Loss that replaces that of the objective for batches with the logits of a teacher. Metrics
        use that of the objective.
    decorrelation : Decorrelation, optional
        Penalty that is added to the loss. Metrics contain it with its full weight from the first
        step, so that the best epoch is not one of its warm-up.
    l1 : float
        Factor of the sum of the absolute weights in the loss of a step; metrics are without it.

    Attributes
    ----------
    beats_constant : bool
        Whether the loss of an objective was significantly below that of constant outputs in the
        last validation.
    constant_loss : float
        Loss of constant outputs in the last validation.
    """

    def __init__(
        self,
        model: nn.Module,
        modality: Modality,
        recipe: Recipe,
        total_steps: int,
        objective: Several,
        head: Sequence[str] = (),
        frozen: Sequence[nn.Module] = (),
        distillation: Distillation | None = None,
        decorrelation: Decorrelation | None = None,
        l1: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.l1 = l1
        self.modality = modality
        self.head = head
        self.frozen = tuple(frozen)  # a list of modules beside the model would be a second copy
        self.recipe = recipe
        self.total_steps = total_steps
        self.objective = objective
        self.distillation = distillation
        self.decorrelation = decorrelation
        self.train_metrics = RunningMetrics()
        self.val_outputs: list[tuple[Tensor, ...]] = []
        self.val_particles: list[dict[str, dict[str, Tensor]]] = []
        self._mask_seed = torch.initial_seed()
        self._step = 0  # of the next training batch
        self._val_batch = 0  # number of the next validation batch
        self.beats_constant = False  # in the last validation
        self.constant_loss = math.nan
        self.resume_from: dict[str, Any] | None = None
        self._takes_layout = "layout" in inspect.signature(model.forward).parameters
        self.train()

    def forward(self, batch: Batch) -> Tensor:
        """Outputs (B, num_outputs) of the network."""
        arguments = self.modality.arguments(batch)
        has_layout = len(arguments) > _ARGUMENTS_WITHOUT_LAYOUT
        extra = {"layout": batch.layout} if self._takes_layout and not has_layout else {}
        return self.model(*arguments, **extra).float()

    def outputs_and_rows(self, batch: Batch) -> tuple[Tensor, ParticleRows | None]:
        """Outputs (B, num_outputs) of the network, and its particles if an objective needs them.

        With hidden particles, these are the rows, and the outputs are those of the visible ones.
        """
        if self.objective.masked is not None:
            outputs = self(batch)
            hidden = {name: batch[f"{_HIDDEN}{name}"] for name in _HIDDEN_FIELDS}
            return outputs, self.objective.masked.rows(outputs, hidden)
        if not self.objective.of_particles:
            return self(batch), None
        arguments = self.modality.arguments(batch)
        has_layout = len(arguments) > _ARGUMENTS_WITHOUT_LAYOUT
        extra = {"layout": batch.layout} if self._takes_layout and not has_layout else {}
        outputs, particles = outputs_and_particles(self.model, *arguments, **extra)
        return outputs.float(), ParticleRows.of_batch(particles.float(), batch)

    @torch.no_grad()
    def check_outputs(self, batch: Batch) -> None:
        """Check on a batch that the network has the outputs that the objectives need.

        Raises
        ------
        InputError
            If it has others, such as one whose class does not use `num_outputs`.
        """
        was_training = self.training
        self.eval()
        batch = self.on_before_batch_transfer(batch, 0)
        outputs, rows = self.outputs_and_rows(batch)
        self.train(was_training)
        wanted = max(self.objective.num_outputs, 1)
        if outputs.shape[-1] != wanted:
            raise InputError(
                f"the network has {outputs.shape[-1]} outputs, and the objectives need {wanted}, "
                f"{', '.join(self.objective.output_names)}: its class must use num_outputs"
            )
        for part in self.objective.of_labels:
            expected = (len(batch.batch), part.width)
            if rows is None or rows.features.shape != expected:
                found = None if rows is None else tuple(rows.features.shape)
                raise InputError(
                    f"objective {part.name}:{part.kind} needs {expected[1]} features (particle_width) "
                    f"of each of {expected[0]} particles, and the network gives {found}"
                )

    def train(self, mode: bool = True) -> TaggerModule:
        """Set the mode of all modules except the frozen ones."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Compute the layout while the lengths are on the CPU, so that the GPU does not wait.

        Particles are hidden here, too: in a training others in each step, otherwise the same ones
        each time.
        """
        if self.objective.masked is not None:
            batch = self._hide(batch)
        if self._takes_layout or self.decorrelation is not None:
            batch.layout = RaggedLayout.from_ptr(batch.ptr)
        return batch

    def _hide(self, batch: Batch) -> Batch:
        """Visible part of a batch, with its hidden particles."""
        masked = self.objective.masked
        assert masked is not None
        # not by the global generator: Lightning prepares a batch before the last one is learned
        key = (self._mask_seed, self._step) if self.training else (self._val_batch,)
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
        self._step += self.training
        self._val_batch += not self.training
        generator = torch.Generator().manual_seed(seed)
        visible, hidden = masked.hide(batch, generator)
        if "weight" in batch:
            visible.weight = batch.weight
        for name in _HIDDEN_FIELDS:
            visible[f"{_HIDDEN}{name}"] = getattr(hidden, name)
        return visible

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch, whose metrics are added on the device."""
        outputs, rows = self.outputs_and_rows(batch)
        weights = getattr(batch, "weight", None)
        truth = self.objective.truth(batch)
        losses = self.objective.losses(outputs, truth, weights, rows)
        share, factor = 1.0, 1.0
        if is_spread():
            losses, share, factor = self._of_all_ranks(losses, truth, weights)
        loss = self.objective.total(losses)
        has_labels = bool(self.objective.classes) and not self.objective.detects_anomalies
        logits = self.objective.class_logits(outputs) if has_labels else None
        penalty = None if self.decorrelation is None else self.decorrelation(logits, batch)
        labels = truth if logits is None else batch.y  # one for each jet
        self._count(loss, penalty, logits, labels, weights, losses, factor)
        if self.distillation is not None:
            shares = None if weights is None else weights / self._mean_weight
            if is_spread():
                shares = share * (outputs.new_ones(len(outputs)) if shares is None else shares)
            loss = self.distillation(loss, logits, batch.teacher, shares)
        if self.decorrelation is not None and penalty is not None:
            loss = loss + self.decorrelation.weight_at(self._progress()) * penalty
        return loss + self.l1 * self._sum_of_weights() if self.l1 else loss

    def _sum_of_weights(self) -> Tensor:
        """Sum () of the absolute values of the trained weights, without biases and scales."""
        trained = (p for p in self.model.parameters() if p.requires_grad and p.ndim > 1)
        return torch.stack([p.abs().sum() for p in trained]).sum()

    def _of_all_ranks(
        self, losses: dict[str, Tensor], truth: Tensor, weights: Tensor | None
    ) -> tuple[dict[str, Tensor], Any, Any]:
        """Losses whose mean over ranks is the loss of the whole batch.

        Ranks have different numbers of jets, and DDP takes the mean of their gradients.

        Returns
        -------
        losses : dict of str to Tensor
            Loss () of each objective.
        share : Tensor, shape ()
            Factor of a mean over the jets of this rank.
        factor : Tensor, shape ()
            Number of jets of the batch per rank, over that of this rank, by which losses are
            multiplied before the sums of all ranks are the mean.
        """
        own = self.objective.batch_sizes(truth, weights)
        own = torch.cat([own, own.new_tensor([float(len(truth))])])
        whole = sum_over_ranks(own.detach())
        shares = self.trainer.world_size * own / whole
        scaled = {
            name: loss * share.to(loss)
            for (name, loss), share in zip(losses.items(), shares[:-1], strict=True)
        }
        return scaled, shares[-1], 1 / shares[-1]

    def _count(
        self,
        loss: Tensor,
        penalty: Tensor | None,
        logits: Tensor | None,
        labels: Tensor,
        weights: Tensor | None,
        losses: dict[str, Tensor],
        factor: Any = 1.0,
    ) -> None:
        if self.decorrelation is not None and penalty is not None:
            loss = loss + self.decorrelation.weight * penalty
        logits = None if logits is None else logits.detach()
        parts = losses if len(losses) > 1 else None
        if is_spread():
            loss = loss * factor
            parts = None if parts is None else {n: part * factor for n, part in parts.items()}
        self.train_metrics.update(loss.detach(), logits, labels, weights, parts)

    @property
    def _mean_weight(self) -> float:
        """Mean weight of the training jets in the loss of the classes."""
        return next(p.jet_loss.mean_weight for p in self.objective if isinstance(p, Classes))

    def _progress(self) -> float:
        """Progress of the run between 0 and 1, including steps before an interruption."""
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        return scheduler.last_epoch / max(self.total_steps - 1, 1)

    def on_validation_start(self) -> None:
        """Count the batches from 0."""
        self._val_batch = 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Store outputs, truth and weights of a batch and the variable of the decorrelation."""
        held = [] if self.decorrelation is None else [self.decorrelation.values(batch)]
        weights = getattr(batch, "weight", None)
        held = [*([] if weights is None else [weights]), *held]
        outputs, rows = self.outputs_and_rows(batch)
        if self.objective.masked is not None:
            outputs = outputs[:, :0]  # only the sums of the hidden particles are needed
        self.val_outputs.append((outputs, self.objective.truth(batch), *held))
        if rows is not None:
            self.val_particles.append(self.objective.held(rows))

    def validation_metrics(self) -> dict[str, float]:
        """Metrics of all validation jets since the last call."""
        outputs, truth, *values = (
            gathered(torch.cat(parts)) for parts in zip(*self.val_outputs, strict=True)
        )
        self.val_outputs.clear()
        held = _joined(self.val_particles)
        self.val_particles.clear()
        is_weighted = len(values) > (self.decorrelation is not None)
        weights = values.pop(0) if is_weighted else None
        penalty = self._penalty(outputs, truth, values)
        metrics = self.objective.metrics(outputs, truth, weights, held)
        metrics["val_loss"] += penalty
        of_jets = None if weights is None else weights.cpu()
        gains = self.objective.gains(outputs.cpu(), truth.cpu(), of_jets, held)
        self.beats_constant = any(gain - penalty > _SIGNIFICANCE * error for gain, error in gains)
        self.constant_loss = self.objective.constant_loss(truth.cpu(), of_jets, held)
        return metrics

    def _penalty(self, outputs: Tensor, truth: Tensor, values: list[Tensor]) -> float:
        if self.decorrelation is None:
            return 0.0
        logits, labels = self.objective.class_logits(outputs), self.objective.labels(truth)
        penalty = self.decorrelation.penalty_in_parts(logits, values[0], labels)
        return self.decorrelation.weight * float(penalty)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer and schedule; those of a continued run in their saved state."""
        optimizer, scheduler = self._new_optimizer()
        if self.resume_from is not None:
            optimizer.load_state_dict(self.resume_from["optimizer"])
            scheduler.load_state_dict(self.resume_from["scheduler"])
            self.resume_from = None  # release the memory
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _new_optimizer(
        self,
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        recipe = self.recipe
        lr_of = dict.fromkeys(self.head, recipe.lr * recipe.lr_head_factor)
        optimizer = build_optimizer(
            recipe.optimizer, self.model, recipe.lr, recipe.weight_decay, lr_of, self.objective
        )
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)

    def resume(self, run: dict[str, Any]) -> None:
        """Continue with the optimizer and the schedule of a checkpoint, which are checked first.

        Raises
        ------
        InputError
            If they are not those of this network and recipe.
        """
        optimizer, scheduler = self._new_optimizer()
        expected = scheduler.state_dict()
        matching = matching_state(run["scheduler"], expected, "run.scheduler")
        if isinstance(optimizer, LBFGS):
            state = optimizer.check_state(run["optimizer"], "run.optimizer")
        else:
            expected = state_after_a_step(optimizer)
            state = matching_state(run["optimizer"], expected, "run.optimizer")
        self._step = int(run["state"]["step"])
        self.resume_from = {"scheduler": matching, "optimizer": state}
        self.train_metrics.load_state_dict(run["train_metrics"])

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0, without the factor of the head."""
        return self.recipe.lr * self._lr_factor(step)

    def _lr_factor(self, step: int) -> float:
        progress = min(step / max(self.total_steps - 1, 1), 1.0)
        return SCHEDULES[self.recipe.schedule](progress)


def _joined(parts: Sequence[dict[str, dict[str, Tensor]]]) -> dict[str, dict[str, Tensor]]:
    """Values of the particles of all validation batches, by objective and name."""
    if not parts:
        return {}
    return {
        objective: {name: torch.cat([part[objective][name] for part in parts]) for name in values}
        for objective, values in parts[0].items()
    }


class JetData(L.LightningDataModule):
    """Training batches from any position of the run, and validation batches.

    Lightning asks for the training batches at every epoch and counts them from zero; their position
    in the permutation is stored here. A continued run therefore needs no state of Lightning's loops.

    Parameters
    ----------
    jets : TrainingData
        Training and validation jets.
    recipe : Recipe
        Recipe, which sets the batch size and the length of the run.
    seed : int
        Seed of the order of the jets.
    stream_workers : int
        Number of processes that read a stream.
    ranks : Ranks
        Processes that train together.
    batch_particles : int, optional
        Largest number of particles in a batch, see :class:`pcloud.JetLoader`.

    Raises
    ------
    InputError
        If there are fewer jets in a batch, or for validation, than processes, or batches of a stream
        or of other data than clouds are to be bounded by particles.
    """

    def __init__(
        self,
        jets: TrainingData,
        recipe: Recipe,
        seed: int,
        stream_workers: int = 0,
        ranks: Ranks = ONE,
        batch_particles: int | None = None,
    ) -> None:
        super().__init__()
        size = recipe.events_per_batch(len(jets.train))
        self.batch_size = size
        load = jets.modality.loader
        # a last batch of a few jets would weigh as much in the gradient as a full one
        shard = {} if ranks.world == 1 else {"rank": ranks.rank, "world": ranks.world}
        least = min(size, len(jets.train), len(jets.val))
        if least < ranks.world:
            raise InputError(
                f"{ranks.world} processes need batches and validation jets of at least as many, got "
                f"{least}"
            )
        options = {"shuffle": True, "seed": seed, "drop_last": len(jets.train) >= size, **shard}
        self.shards = 1
        if isinstance(jets.train, JetStream):
            options["workers"] = stream_workers
            self.shards = ranks.world * max(1, stream_workers)
        bound: dict[str, Any] = {}
        if batch_particles is not None:
            if not hasattr(jets.train, "ptr"):  # the numbers of particles of all jets
                raise InputError("batch_particles bounds batches of clouds in memory, no others")
            bound["batch_particles"] = batch_particles
        self.train_loader = load(jets.train, size, **options, **bound)
        self.val_loader = load(jets.val, size, **shard, **bound)
        self.steps_per_epoch = len(self.train_loader)
        self.total_steps = recipe.steps or recipe.epochs * self.steps_per_epoch
        self.total_epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.epoch = 0
        self.next_batch = 0

    def epoch_steps(self, epoch: int) -> int:
        """Number of batches of an epoch; the last epoch may be shorter."""
        return min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch)

    def train_dataloader(self) -> RestOfEpoch:
        """Remaining batches of the current epoch."""
        return RestOfEpoch(
            self.train_loader, self.epoch, self.next_batch, self.epoch_steps(self.epoch)
        )

    def val_dataloader(self) -> Loader:
        """All validation batches."""
        return self.val_loader


class RestOfEpoch:
    """Batches `start` to `stop` of an epoch of a loader."""

    def __init__(self, loader: Loader, epoch: int, start: int, stop: int) -> None:
        self.loader = loader
        self.epoch = epoch
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Batch]:
        self.loader.load_state_dict({"epoch": self.epoch, "next": self.start})
        for _, batch in zip(range(len(self)), self.loader, strict=False):
            yield batch
