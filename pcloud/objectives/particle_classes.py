"""Classes of particles, such as the origin of each track, learned by the cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.evaluation.ranking import Ranking
from pcloud.modality import Dataset
from pcloud.nn.dense import dense_layers
from pcloud.objectives.of_particles import Held, OfParticles
from pcloud.objectives.particle_predictions import ParticleCategorical
from pcloud.objectives.rows import ParticleRows, sum_per_jet

__all__ = ["ParticleClasses"]

_TINY = 1e-12


class ParticleClasses(OfParticles):
    """Classes of particles: softmax of the outputs of an MLP on the representation of each.

    Parameters
    ----------
    name : str
        Name of the label.
    classes : sequence of str
        Names of the classes. Negative labels do not count.
    index, collection : int
        As for :class:`~pcloud.objectives.of_particles.OfParticles`.
    widths : sequence of int
        Widths of the hidden layers.
    """

    kind = "classes"

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        index: int = 0,
        collection: int = 0,
        widths: Sequence[int] = (64,),
    ) -> None:
        super().__init__(name, index, collection)
        self.classes = list(classes)
        self.widths = list(widths)
        self.register_buffer("log_fractions", torch.zeros(len(self.classes)), persistent=False)

    def make_layers(self, width: int) -> nn.Module:
        """Hidden layers and the last map to the classes."""
        hidden = [width, *self.widths]
        return nn.Sequential(dense_layers(hidden), nn.Linear(hidden[-1], len(self.classes)))

    def forward(self, rows: ParticleRows) -> ParticleCategorical:
        """Probabilities of the classes of each particle of the collection."""
        assert self.layers is not None
        rows = self.own(rows)
        return ParticleCategorical(self.layers(rows.features), rows.counts)

    def is_known(self, labels: Tensor) -> Tensor:
        """Mask (N,) of the labels that are a class."""
        return labels >= 0

    def losses(self, rows: ParticleRows) -> tuple[Tensor, Tensor]:
        """Cross-entropy (I,) of each particle with a label, and its jet (I,)."""
        known = self.known(rows)
        assert self.layers is not None
        logits = self.layers(known.features).float()
        return F.cross_entropy(logits, self.truth(known), reduction="none"), known.jet

    def constant_losses(self, rows: ParticleRows) -> Tensor:
        """Cross-entropy (I,) of the fractions of the classes."""
        fractions = self.get_buffer("log_fractions")
        return -fractions.to(rows.features.device)[self.truth(self.known(rows))]

    def held_for_metrics(self, rows: ParticleRows) -> dict[str, Tensor]:
        """Number of correctly classified particles of each jet, and logits of all of them."""
        assert self.layers is not None
        known = self.known(rows)
        logits, labels = self.layers(known.features).float(), self.truth(known)
        correct = (logits.argmax(dim=-1) == labels).double()
        return {
            "correct": sum_per_jet(correct, known.jet, rows.num_jets).cpu(),
            "logits": logits.cpu(),
            "labels": labels.cpu(),
        }

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Accuracy and area under the ROC curve."""
        return f"val_acc_{self.name}", f"val_auc_{self.name}"

    def metrics(self, held: Held, weights: Tensor | None = None) -> dict[str, float]:
        """Accuracy, and mean area under the ROC curve of each class against the rest."""
        items = held["items"]
        w = torch.ones_like(items) if weights is None else weights.double()
        of_items = torch.repeat_interleave(w, items.long()).numpy()
        accuracy = float((w * held["correct"]).sum() / (w * items).sum())
        scores = held["logits"].double().softmax(dim=-1).numpy()
        labels = held["labels"].numpy()
        areas = []
        for c in range(len(self.classes)):
            is_class = labels == c
            if is_class.any() and not is_class.all():
                ranking = Ranking(scores[:, c], is_class, ~is_class, of_items)
                areas.append(ranking.counts.auc())
        auc = sum(areas) / len(areas) if areas else float("nan")
        return {f"val_acc_{self.name}": accuracy, f"val_auc_{self.name}": auc}

    def num_items(self, rows: ParticleRows) -> Tensor:
        """Number (B,) of particles with a label."""
        return rows.counts

    def fit_constant(self, rows: ParticleRows, weights: Tensor) -> None:
        """Take the fractions of the classes."""
        counts = torch.bincount(
            self.truth(rows), weights[rows.jet].double(), minlength=len(self.classes)
        )
        fractions = (counts / counts.sum()).clamp(min=_TINY)
        self.log_fractions = fractions.log().float()

    def check(self, data: Dataset, whose: str) -> None:
        """Check that some particles have labels, and training particles different ones."""
        labels = self.truth(self.labelled(data))
        if len(labels) == 0:
            raise InputError(f"particle label {self.name!r} is missing for all of the {whose}")
        if whose.startswith("training") and bool((labels == labels[0]).all()):
            raise InputError(
                f"particle label {self.name!r} is {self.classes[int(labels[0])]!r} in all particles of "
                f"the {whose}: there is nothing to learn"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, and the weights of the layers."""
        return {**super().to_dict(), "classes": self.classes, "widths": self.widths}
