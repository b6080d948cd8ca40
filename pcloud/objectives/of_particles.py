"""Base of the objectives of labels of particles, learned from the representation of each particle."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.modality import Dataset
from pcloud.objectives.objective import Objective
from pcloud.objectives.particle_predictions import ParticlePrediction
from pcloud.objectives.rows import ParticleRows, sum_per_jet

__all__ = ["OfParticles"]

Held = Mapping[str, Tensor]
"""Sums of validation jets: ``loss``, ``constant`` and ``items`` (B,), and others."""


class OfParticles(Objective):
    """Objective of a label of particles, with layers of its own on their representations.

    The loss is a mean over *items*, particles or pairs of particles, whose label is known. An item
    has the weight of its jet. Statistical errors are those of jets: items of a jet are not
    independent.

    Parameters
    ----------
    name : str
        Name of the label; ``sv.kind`` is the label ``kind`` of the collection ``sv``.
    index : int
        Position among the labels of a batch.
    collection : int
        Number of the labelled collection, 0 for the particles.

    Attributes
    ----------
    layers : Module or None
        Layers of the objective; None before :meth:`attach`.
    mean_weight : float
        Mean weight of the items of the training jets.
    needs_labels : bool
        True if jets must have a label of their particles.
    """

    num_outputs = 0
    needs_labels: ClassVar[bool] = True
    layers: nn.Module | None

    def __init__(self, name: str, index: int = 0, collection: int = 0) -> None:
        super().__init__()
        self.name = name
        self.index = index
        self.collection = collection
        self.width = 0
        self.layers = None
        self.mean_weight = 1.0

    @property
    def output_names(self) -> list[str]:
        """None: the network has no outputs for this objective."""
        return []

    def attach(self, width: int) -> None:
        """Make the layers for representations of `width` features, at random, if there are none.

        Raises
        ------
        InputError
            If there are layers for representations of another width.
        """
        if self.layers is not None and self.width != width:
            raise InputError(
                f"objective {self.name!r} was trained on {self.width} features of each particle, and "
                f"the network gives {width}"
            )
        if self.layers is None:
            self.width = width
            self.layers = self.make_layers(width)

    @abstractmethod
    def make_layers(self, width: int) -> nn.Module:
        """Layers with random weights."""

    @abstractmethod
    def forward(self, rows: ParticleRows) -> ParticlePrediction:
        """Prediction of all particles of a collection."""

    @abstractmethod
    def losses(self, rows: ParticleRows) -> tuple[Tensor, Tensor]:
        """Loss (I,) of each item with a known label, and its jet (I,)."""

    @abstractmethod
    def constant_losses(self, rows: ParticleRows) -> Tensor:
        """Loss (I,) of the best constant outputs for the same items."""

    def own(self, rows: ParticleRows) -> ParticleRows:
        """Rows of the labelled collection."""
        return rows.of_collection(self.collection)

    def known(self, rows: ParticleRows) -> ParticleRows:
        """Rows whose label is known."""
        return rows.select(self.is_known(self.truth(rows)))

    def truth(self, rows: ParticleRows) -> Tensor:
        """Labels (N,) of the rows."""
        assert rows.labels is not None
        return rows.labels[:, self.index]

    @abstractmethod
    def is_known(self, labels: Tensor) -> Tensor:
        """Mask (N,) of the labels that count."""

    def loss(self, rows: ParticleRows, weights: Tensor | None = None) -> Tensor:
        """Loss () of a training batch, from its rows and the weights (B,) of its jets."""
        losses, jet = self.losses(self.own(rows))
        if weights is not None:
            losses = losses * weights[jet]
        return losses.sum() / max(len(losses), 1) / self.mean_weight

    @torch.no_grad()
    def held(self, rows: ParticleRows) -> dict[str, Tensor]:
        """Sums of a validation batch, by which the loss and the metrics are computed."""
        rows = self.own(rows)
        losses, jet = self.losses(rows)
        constant = self.constant_losses(rows).to(losses)
        return {
            "loss": sum_per_jet(losses.double(), jet, rows.num_jets).cpu(),
            "constant": sum_per_jet(constant.double(), jet, rows.num_jets).cpu(),
            "items": torch.bincount(jet, minlength=rows.num_jets).double().cpu(),
            **self.held_for_metrics(rows),
        }

    @abstractmethod
    def held_for_metrics(self, rows: ParticleRows) -> dict[str, Tensor]:
        """Further values of a validation batch on the CPU, with any number of rows."""

    @abstractmethod
    def metrics(self, held: Held, weights: Tensor | None = None) -> dict[str, float]:
        """Metrics of validation jets, by the names of their columns."""

    @property
    @abstractmethod
    def metric_names(self) -> Sequence[str]:
        """Names of these metrics."""

    def mean_loss(self, held: Held, weights: Tensor | None = None) -> float:
        """Loss of a sample, divided by the sum of the weights of its items."""
        return _ratio(held["loss"], held["items"], weights)

    def constant_loss(self, held: Held, weights: Tensor | None = None) -> float:
        """Loss of the best constant outputs."""
        return _ratio(held["constant"], held["items"], weights)

    def gain(self, held: Held, weights: Tensor | None = None) -> tuple[float, float]:
        """Excess of the loss of constant outputs, and its error, from the jets."""
        w = torch.ones_like(held["items"]) if weights is None else weights.double()
        gains = held["constant"] - held["loss"]
        mean = _ratio(gains, held["items"], weights)
        total = (w * held["items"]).sum()
        error = (w * (gains - mean * held["items"])).square().sum().sqrt() / total
        return mean, float(error)

    def fit(self, data: Dataset) -> None:
        """Take the mean weight and the constant outputs from the training jets."""
        self.check(data, "training jets")
        rows = self.labelled(data)
        items = self.num_items(rows)
        weights = getattr(data, "weight", None)
        w = torch.ones(len(items)) if weights is None else weights
        total = float((w.double() * items).sum())
        self.mean_weight = total / max(float(items.sum()), 1.0)
        if not self.mean_weight > 0:
            raise InputError(
                f"the weights of the training jets with label {self.name!r} have the mean "
                f"{self.mean_weight:.6g}: it must be positive"
            )
        self.fit_constant(rows, w.double())

    def labelled(self, data: Dataset) -> ParticleRows:
        """Rows of a data set whose label is known, without features."""
        ptr = data.ptr  # type: ignore[attr-defined]
        counts = ptr.diff()
        jet = torch.repeat_interleave(torch.arange(len(counts)), counts)
        labels = data.particle_labels  # type: ignore[attr-defined]
        empty = torch.empty(len(jet), 0)
        collection = getattr(data, "collection", None)
        rows = ParticleRows(empty, jet, len(counts), labels, collection)
        return self.known(self.own(rows))

    @abstractmethod
    def num_items(self, rows: ParticleRows) -> Tensor:
        """Number (B,) of items of each jet."""

    @abstractmethod
    def fit_constant(self, rows: ParticleRows, weights: Tensor) -> None:
        """Set the best constant outputs by known rows and the weights (B,) of their jets."""

    def describe(self, data: Dataset) -> str:
        """Number of labelled particles."""
        return f"{self.name} of {len(self.labelled(data).jet):,} particles"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, and the weights of the layers."""
        weights = {} if self.layers is None else self.layers.state_dict()
        return {
            "kind": self.kind,
            "name": self.name,
            "collection": self.collection,
            "width": self.width,
            "weights": weights,
        }

    def load_weights(self, width: int, weights: Mapping[str, Tensor]) -> None:
        """Set the weights of the layers.

        Raises
        ------
        InputError
            If they do not fit.
        """
        self.attach(width)
        assert self.layers is not None
        try:
            self.layers.load_state_dict(dict(weights))
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"objective {self.name!r}: its weights do not fit: {' '.join(str(error).split())}"
            ) from None


def _ratio(sums: Tensor, items: Tensor, weights: Tensor | None) -> float:
    w = torch.ones_like(items) if weights is None else weights.double()
    return float((w * sums).sum() / (w * items).sum())
