"""Objectives side by side on slices of the outputs of one network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.modality import Dataset
from pcloud.objectives.anomaly import Anomaly
from pcloud.objectives.classes import Classes
from pcloud.objectives.masked import MaskedParticles
from pcloud.objectives.objective import JetObjective, Objective
from pcloud.objectives.of_particles import OfParticles
from pcloud.objectives.of_target import OfTarget
from pcloud.objectives.particle_predictions import ParticlePrediction
from pcloud.objectives.predictions import Prediction
from pcloud.objectives.rows import ParticleRows
from pcloud.words import number_of

__all__ = ["Several"]

Outputs = TypeVar("Outputs", Tensor, np.ndarray)
Held = Mapping[str, Mapping[str, Tensor]]


class Several(nn.Module):
    """One or more objectives, the loss of which is the weighted sum of their losses.

    Objectives of jets take the outputs of the network, side by side; those of particles take the
    representations of the particles and have layers of their own.

    Parameters
    ----------
    parts : sequence of Objective
        The objectives, in the order of their outputs.
    weights : sequence of float, optional
        Weights of the losses; by default 1.
    learned : bool
        Learn the weights: the loss L of a part becomes ``exp(-s) L + s`` with a parameter s, which
        is the logarithm of the loss where it is smallest. A Gaussian likelihood keeps the weight 1:
        its sigma is such a parameter already.

    References
    ----------
    Kendall, Gal and Cipolla, *Multi-task learning using uncertainty to weigh losses*,
    https://arxiv.org/abs/1705.07115.
    """

    def __init__(
        self,
        parts: Sequence[Objective],
        weights: Sequence[float] | None = None,
        *,
        learned: bool = False,
    ) -> None:
        super().__init__()
        if weights is not None and len(weights) != len(parts):
            raise InputError(
                f"objective_weights has {number_of(len(weights), 'number')} for "
                f"{number_of(len(parts), 'objective')}, {', '.join(p.name for p in parts)}"
            )
        names = [name for part in parts for name in part.output_names]
        for name in names:
            if names.count(name) > 1:
                raise InputError(
                    f"two outputs of {', '.join(p.name for p in parts)} have the name {name}: give a "
                    "target or a class another name in the schema"
                )
        self.parts = nn.ModuleList(parts)
        self.weights = [1.0] * len(parts) if weights is None else list(map(float, weights))
        self.log_scales = nn.Parameter(torch.zeros(len(parts))) if learned else None
        ends = [0, *itertools.accumulate(part.num_outputs for part in self.of_jets)]
        self.slices = [slice(*pair) for pair in itertools.pairwise(ends)]
        self.num_outputs = ends[-1] + sum(part.num_outputs for part in self.of_particles)

    def __iter__(self) -> Iterator[Objective]:
        return iter(self.parts)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def of_jets(self) -> list[JetObjective]:
        """Objectives of jets, in the order of their outputs."""
        return [part for part in self if isinstance(part, JetObjective)]

    @property
    def of_particles(self) -> list[OfParticles]:
        """Objectives of labels of particles, and of hidden particles."""
        return [part for part in self if isinstance(part, OfParticles)]

    @property
    def of_labels(self) -> list[OfParticles]:
        """Objectives of labels of particles that jets must have."""
        return [part for part in self.of_particles if part.needs_labels]

    @property
    def masked(self) -> MaskedParticles | None:
        """Objective of hidden particles, which stands alone."""
        return next((part for part in self if isinstance(part, MaskedParticles)), None)

    def attach(self, width: int | None, network: str) -> None:
        """Make the layers of objectives of particles.

        Parameters
        ----------
        width : int or None
            Number of features of a particle in the network; None if it has no representation.
        network : str
            Name of the network.

        Raises
        ------
        InputError
            If it has no representation, or one of another width than the layers that exist.
        """
        if self.masked is not None:
            self.masked.attach(self.masked.num_outputs)
        for part in self.of_labels:
            if width is None:
                raise InputError(
                    f"objective {part.name}:{part.kind} needs a representation of each particle, and "
                    f"model {network!r} has none (particles, pool, head, particle_width)"
                )
            part.attach(width)

    @property
    def classes(self) -> list[str]:
        """Names of the classes; none without an objective of classes."""
        return [name for part in self if isinstance(part, Classes) for name in part.classes]

    @property
    def detects_anomalies(self) -> bool:
        """True if the only objective is that of an anomaly detector."""
        return len(self) == 1 and isinstance(self.parts[0], Anomaly)

    @property
    def targets(self) -> list[OfTarget]:
        """Objectives of targets."""
        return [part for part in self if isinstance(part, OfTarget)]

    @property
    def only_classes(self) -> bool:
        """True if the only objective is that of the classes."""
        return len(self) == 1 and bool(self.classes) and not self.detects_anomalies

    @property
    def output_names(self) -> list[str]:
        """Name of each output."""
        return [name for part in self for name in part.output_names]

    @property
    def metric_names(self) -> list[str]:
        """Names of the metrics of validation jets, the loss first."""
        of_parts = [f"val_loss_{part.name}" for part in self] if len(self) > 1 else []
        return ["val_loss", *(n for part in self for n in part.metric_names), *of_parts]

    def forward(self, outputs: Tensor) -> dict[str, Prediction]:
        """Prediction of each objective of jets by its name, from ``outputs (B, num_outputs)``."""
        parts = zip(self.of_jets, self.slices, strict=True)
        return {part.name: part(outputs[:, s]) for part, s in parts}

    def predict_particles(self, rows: ParticleRows) -> dict[str, ParticlePrediction]:
        """Prediction of each objective of particles by its name."""
        return {part.name: part(rows) for part in self.of_particles}

    def class_logits(self, outputs: Outputs) -> Outputs:
        """Slice (B, C) of the outputs that are logits of the classes."""
        if self.num_outputs == len(self.classes):
            return outputs
        return next(
            outputs[..., s]
            for part, s in zip(self.of_jets, self.slices, strict=True)
            if isinstance(part, Classes)
        )

    def labels(self, truth: Tensor) -> Tensor:
        """Classes (B,) among the true values of :meth:`truth`."""
        return next(t for part, t in self._columns(truth) if isinstance(part, Classes)).long()

    def truth(self, batch: Any) -> Tensor:
        """True values of a batch, (B,) of one objective of jets or (B, K) of K."""
        found = [part.truth(batch) for part in self.of_jets]
        if not found:
            return torch.zeros(len(batch.ptr) - 1, 0, device=batch.ptr.device)
        return found[0] if len(found) == 1 else torch.stack([t.float() for t in found], dim=-1)

    def fit(self, data: Dataset) -> None:
        """Take the constants of all objectives from the training jets."""
        for part in self:
            part.fit(data)

    def check(self, data: Dataset, whose: str) -> None:
        """Check the true values of jets."""
        for part in self:
            part.check(data, whose)

    def losses(
        self,
        outputs: Tensor,
        truth: Tensor,
        weights: Tensor | None = None,
        rows: ParticleRows | None = None,
    ) -> dict[str, Tensor]:
        """Loss () of each objective for a training batch."""
        found = {p.name: p.loss(o, t, weights) for p, o, t in self._split(outputs, truth)}
        if rows is not None:
            found |= {part.name: part.loss(rows, weights) for part in self.of_particles}
        return found

    def held(self, rows: ParticleRows) -> dict[str, dict[str, Tensor]]:
        """Values of the particles of a validation batch that the metrics need, by objective."""
        return {part.name: part.held(rows) for part in self.of_particles}

    def batch_sizes(self, truth: Tensor, weights: Tensor | None = None) -> Tensor:
        """Numbers (K,) by which the sums of the losses of a batch are divided in :meth:`losses`."""
        return torch.stack([part.batch_size(t, weights) for part, t in self._columns(truth)])

    def mean_losses(
        self, outputs: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Loss () of each objective of jets for a sample."""
        return {p.name: p.mean_loss(o, t, weights) for p, o, t in self._split(outputs, truth)}

    def total(self, losses: Mapping[str, Any]) -> Any:
        """Weighted sum () of the losses of all objectives."""
        if len(self) == 1:
            return losses[self.parts[0].name]  # type: ignore[index]
        total: Any = 0.0
        for i, (part, weight) in enumerate(zip(self, self.weights, strict=True)):
            loss = losses[part.name]
            if self.log_scales is not None and part.has_scale:
                s = self.log_scales[i]
                loss = loss * (-s).exp() + s
            total = total + weight * loss
        return total

    @torch.no_grad()
    def metrics(
        self,
        outputs: Tensor,
        truth: Tensor,
        weights: Tensor | None = None,
        held: Held | None = None,
    ) -> dict[str, float]:
        """Metrics of validation jets; the losses are computed on their device.

        `held` are the values of their particles, see :meth:`held`.
        """
        of_jets = None if weights is None else weights.cpu()
        losses: dict[str, Any] = dict(self.mean_losses(outputs, truth, weights))
        for particles in self.of_particles:
            losses[particles.name] = particles.mean_loss((held or {})[particles.name], of_jets)
        found = {"val_loss": float(self.total(losses))}
        for part, o, t in self._split(outputs.cpu(), truth.cpu()):
            found |= part.metrics(o, t, of_jets)
        for particles in self.of_particles:
            found |= particles.metrics((held or {})[particles.name], of_jets)
        if len(self) > 1:
            found |= {f"val_loss_{name}": float(loss) for name, loss in losses.items()}
        return found

    def gains(
        self,
        outputs: Tensor,
        truth: Tensor,
        weights: Tensor | None = None,
        held: Held | None = None,
    ) -> list[tuple[float, float]]:
        """Excess of the loss of constant outputs, and its error, of each objective."""
        of_jets = [part.gain(o, t, weights) for part, o, t in self._split(outputs, truth)]
        return of_jets + [p.gain((held or {})[p.name], weights) for p in self.of_particles]

    @torch.no_grad()
    def constant_loss(
        self, truth: Tensor, weights: Tensor | None = None, held: Held | None = None
    ) -> float:
        """Loss of the best constant outputs."""
        losses = {part.name: part.constant_loss(t, weights) for part, t in self._columns(truth)}
        for particles in self.of_particles:
            losses[particles.name] = particles.constant_loss((held or {})[particles.name], weights)
        return float(self.total(losses))

    def current_weights(self) -> dict[str, float]:
        """Weight of the loss of each objective now, if the weights are learned."""
        if self.log_scales is None:
            return {}
        scales = self.log_scales.detach().cpu()
        return {
            part.name: weight * (math.exp(-float(s)) if part.has_scale else 1.0)
            for part, weight, s in zip(self, self.weights, scales, strict=True)
        }

    def _columns(self, truth: Tensor) -> Iterator[tuple[JetObjective, Tensor]]:
        parts = self.of_jets
        columns = [truth] if len(parts) == 1 else truth.unbind(-1)
        return zip(parts, columns, strict=True)

    def _split(
        self, outputs: Tensor, truth: Tensor
    ) -> Iterator[tuple[JetObjective, Tensor, Tensor]]:
        """Each objective of jets with its outputs and true values."""
        parts = self.of_jets
        if len(parts) == 1:
            yield parts[0], outputs, truth
            return
        for (part, t), s in zip(self._columns(truth), self.slices, strict=True):
            yield part, outputs[:, s], t

    def describe(self, data: Dataset) -> str:
        """Describe the true values of the training jets in a few words."""
        return "; ".join(part.describe(data) for part in self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values and the learned weights, for a checkpoint."""
        values: dict[str, Any] = {
            "parts": [part.to_dict() for part in self],
            "weights": self.weights,
        }
        if self.log_scales is not None:
            values["log_scales"] = self.log_scales.detach()
        return values

    def load(self, values: Mapping[str, Any]) -> None:
        """Take the learned weights, and those of layers of objectives, of :meth:`to_dict`.

        Raises
        ------
        InputError
            If they do not fit.
        """
        scales = values.get("log_scales")
        if (scales is None) != (self.log_scales is None):
            raise InputError("objective: weights are learned in only one of run and checkpoint")
        if scales is not None and self.log_scales is not None:
            if scales.shape != self.log_scales.shape or not bool(scales.isfinite().all()):
                raise InputError(f"objective.log_scales: not {len(self)} numbers")
            with torch.no_grad():
                self.log_scales.copy_(scales)
        if len(stored := values.get("parts", [])) == len(self):
            for part, own in zip(self, stored, strict=True):
                if isinstance(part, OfParticles) and "weights" in own:
                    part.load_weights(own.get("width", 0), own["weights"])
