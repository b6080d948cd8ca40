"""Predictive samples of a jet: from members, dropout, or samples of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pcloud.errors import InputError, UnknownNameError
from pcloud.modality import Sample
from pcloud.studies.budget import jets_within_budget
from pcloud.training.run_sample import load_run_sample
from pcloud.uncertainty.dropout import dropout_switched_on
from pcloud.uncertainty.laplace import LaplaceHead, softmax_hessian
from pcloud.uncertainty.last_layer import HeadSplit
from pcloud.uncertainty.measures import Uncertainty
from pcloud.uncertainty.variational import MeanFieldHead

if TYPE_CHECKING:
    from pcloud.training.run_folder import RunFolder

__all__ = ["METHODS", "PredictiveSamples", "default_method", "predictive_samples"]

METHODS = ("ensemble", "dropout", "laplace", "variational")

_CHUNK_JETS = 10_000  # whose predictive samples are in memory at a time


@dataclass(frozen=True)
class PredictiveSamples:
    """Source of predictive samples of any jets.

    Parameters
    ----------
    method : str
        Name of the method.
    logits : callable
        ``logits(jets) -> (M, B, C)``, the M predictive samples.
    facts : dict
        Fitted parameters, such as the precision of a prior.
    """

    method: str
    logits: Callable[[Sample], NDArray[np.floating]]
    facts: dict[str, Any]

    def uncertainty(self, jets: Sample) -> Uncertainty:
        """Mean scores and uncertainties of jets."""
        starts = range(0, max(len(jets), 1), _CHUNK_JETS)
        return Uncertainty.join(
            [Uncertainty.of(self.logits(jets[s : s + _CHUNK_JETS])) for s in starts]
        )


def default_method(run: RunFolder) -> str:
    """Name of the default method: ``"ensemble"``, or ``"laplace"`` for a single network."""
    return "ensemble" if run.config.ensemble > 1 else "laplace"


def predictive_samples(
    run: RunFolder,
    method: str | None = None,
    *,
    samples: int = 50,
    checkpoint: str = "best",
    batch_size: int = 512,
    seed: int = 0,
) -> PredictiveSamples:
    """Predictive samples of a run.

    Parameters
    ----------
    run : RunFolder
        The trained tagger, or an ensemble.
    method : str, optional
        ``"ensemble"``: its members. ``"dropout"``: passes with active dropout. ``"laplace"``:
        last-layer weights drawn from the Laplace approximation of their posterior, fitted in one
        pass over the training jets, or over as many as the network passes in some minutes.
        ``"variational"``: drawn from Gaussians trained on them. By default the members of an
        ensemble, else ``"laplace"``.
    samples : int
        Number of predictive samples, where they are drawn.
    checkpoint : str
        ``"best"`` or ``"last"``.
    batch_size : int
        Jets per batch.
    seed : int
        Seed of the random draws; every call gives the same samples.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    InputError
        If the run does not fit the method: no ensemble, no dropout, no linear last layer.
    """
    method = method or default_method(run)
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if samples < 2:
        raise InputError(f"samples must be at least 2, got {samples}")
    if method == "ensemble":
        return _of_members(run, checkpoint, batch_size)
    if run.config.ensemble > 1:
        raise InputError(f"{run.path} is an ensemble: {method} is for one of its members/")
    batches = _Batches(run, checkpoint, batch_size)
    if method == "dropout":
        return _of_dropout(batches, samples, seed)
    return _of_head(batches, method, samples, seed)


def _of_members(run: RunFolder, checkpoint: str, batch_size: int) -> PredictiveSamples:
    if run.config.ensemble < 2:
        raise InputError(
            f"{run.path} is no ensemble: pcloud train --ensemble 5 trains one, and the method "
            "laplace needs none"
        )

    def logits(jets: Sample) -> NDArray[np.floating]:
        options: Any = {"checkpoint": checkpoint, "batch_size": batch_size}
        return np.stack([member.logits(jets, **options) for member in run.members])

    return PredictiveSamples("ensemble", logits, {"members": len(run.members)})


class _Batches:
    """The network of a run, and batches of any jets for it."""

    def __init__(self, run: RunFolder, checkpoint: str, batch_size: int) -> None:
        self.run, self.checkpoint = run, checkpoint
        self.model = run.network(checkpoint).cpu()
        self.batch_size = batch_size

    def __call__(self, jets: Sample) -> Iterator[tuple[tuple[Any, ...], Tensor | None]]:
        """Inputs of the network and labels, batch by batch."""
        modality = self.run.modality
        data = modality.dataset(jets, self.run.feature_set)
        for batch in modality.loader(data, self.batch_size):
            yield modality.arguments(batch), batch.y

    def training_jets(self) -> Sample:
        """The jets that the run was trained on."""
        return load_run_sample(self.run, "train")


def _of_dropout(batches: _Batches, samples: int, seed: int) -> PredictiveSamples:
    with dropout_switched_on(batches.model):
        pass  # raises where there is none, before any work is done

    @torch.no_grad()
    def logits(jets: Sample) -> NDArray[np.floating]:
        found = []
        with torch.random.fork_rng(devices=[]), dropout_switched_on(batches.model):
            torch.manual_seed(seed)
            for inputs, _ in batches(jets):
                passes = [batches.model(*inputs).double() for _ in range(samples)]
                found.append(torch.stack(passes))
        return torch.cat(found, dim=1).numpy()

    return PredictiveSamples("dropout", logits, {"passes": samples})


def _of_head(batches: _Batches, method: str, samples: int, seed: int) -> PredictiveSamples:
    jets = batches.training_jets()
    first, _ = next(batches(jets[: batches.batch_size]))
    split = HeadSplit(batches.model, *first)
    fit = _fit_laplace if method == "laplace" else _fit_mean_field
    head, facts = fit(batches, split, jets)

    def logits(jets: Sample) -> NDArray[np.floating]:
        found = []
        for inputs, _ in batches(jets):
            generator = torch.Generator().manual_seed(seed)  # the same weights for every batch
            found.append(head.sample(split.features(*inputs), samples, generator))
        return torch.cat(found, dim=1).numpy()

    return PredictiveSamples(method, logits, {"samples": samples, **facts})


def _fit_laplace(
    batches: _Batches, split: HeadSplit, jets: Sample
) -> tuple[LaplaceHead, dict[str, Any]]:
    weight = split.weight
    hessian, loss = weight.new_zeros(weight.numel(), weight.numel()), 0.0
    seen = jets_within_budget(
        batches.run, jets, passes=2, most=len(jets), checkpoint=batches.checkpoint
    )
    chosen = jets[np.linspace(0, len(jets) - 1, seen).astype(int)] if seen < len(jets) else jets
    for inputs, labels in batches(chosen):
        features = split.features(*inputs)
        logits = features @ weight.T
        loss += float(F.cross_entropy(logits, _labels(labels), reduction="sum"))
        hessian += softmax_hessian(features, logits.softmax(-1))
    share = seen / len(jets)
    head = LaplaceHead(weight, hessian / share, loss / share)
    return head, {
        "training_jets": len(jets),
        "seen_jets": seen,
        "prior_precision": head.prior_precision,
    }


def _fit_mean_field(
    batches: _Batches, split: HeadSplit, jets: Sample
) -> tuple[MeanFieldHead, dict[str, Any]]:
    found = [(split.features(*inputs), _labels(labels)) for inputs, labels in batches(jets)]
    features, labels = (torch.cat(part) for part in zip(*found, strict=True))
    head = MeanFieldHead.fit(split.weight, features, labels)
    return head, {"training_jets": len(jets)}


def _labels(labels: Tensor | None) -> Tensor:
    assert labels is not None  # a run has labelled training jets
    return labels
