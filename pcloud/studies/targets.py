"""Targets of jets and labels of particles in the studies: predictions, true values, metrics."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np
import torch

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable, Measured, evaluate
from pcloud.evaluation.particles import evaluate_particles
from pcloud.evaluation.regression import PredictedTarget, evaluate_target
from pcloud.io import FlatJets
from pcloud.modality import Sample
from pcloud.objectives.columns import (
    METADATA,
    PredictedLabel,
    described_targets,
    predicted_columns,
    predicted_sample,
    truth_columns,
)
from pcloud.objectives.particle_columns import METADATA as LABELS_METADATA
from pcloud.objectives.particle_columns import (
    PredictedLabels,
    described_labels,
    joined_labels,
    label_columns,
    predicted_labels,
)
from pcloud.objectives.predictions import Prediction, joined
from pcloud.objectives.several import Several
from pcloud.objectives.specification import CLASS
from pcloud.observables import jet_observables
from pcloud.training.jet_targets import TargetUnitWarning
from pcloud.training.particle_labels import check_labels, flat_labels
from pcloud.training.run_folder import RunFolder

__all__ = [
    "ScoredTargets",
    "check_truth",
    "scored",
    "target_metadata",
    "target_samples",
    "with_particles",
    "with_targets",
]


_MAX_RESPONSE = 30  # units differ by 1000


@dataclass(frozen=True)
class ScoredTargets:
    """Predictions of the targets of jets.

    Attributes
    ----------
    predictions : dict of str to Prediction
        Predictions by the name of the target.
    truth : dict of str to array, shape (B,)
        True values, NaN where a jet has none; targets that the jets do not have are left out.
    observables : dict of str to array, shape (B,)
        Observables of the jets; none if the run learned no targets.
    particles : dict of str to PredictedParticles or PredictedVertices
        Predictions of the labels of particles by name, with the labels where jets have them.
    """

    predictions: Mapping[str, Prediction]
    truth: Mapping[str, np.ndarray]
    observables: Mapping[str, np.ndarray]
    particles: Mapping[str, PredictedLabels]

    @classmethod
    def of(
        cls, jets: Sample, objective: Several, predictions: Mapping[str, Prediction]
    ) -> ScoredTargets:
        """Predictions of jets, with what is known of their targets."""
        names = [part.name for part in objective.targets]
        known = jets.targets.fields if "targets" in jets.fields else ()
        truth = {
            name: ak.to_numpy(ak.fill_none(jets.targets[name], np.nan)).astype(np.float64)
            for name in names
            if name in known
        }
        labels = {
            part.name: flat_labels(jets, part.name)
            for part in objective.of_particles
            if "particle_labels" in jets.fields and part.name in jets.particle_labels.fields
        }
        of_particles: Any = {part.name: predictions[part.name] for part in objective.of_particles}
        return cls(
            {name: predictions[name] for name in names},
            truth,
            _observables(jets) if names else {},
            predicted_labels(objective, of_particles, labels),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[ScoredTargets]) -> ScoredTargets:
        """Predictions of all jets of several parts."""
        first = parts[0]
        return cls(
            {name: joined([p.predictions[name] for p in parts]) for name in first.predictions},
            {name: np.concatenate([p.truth[name] for p in parts]) for name in first.truth},
            {
                name: np.concatenate([p.observables[name] for p in parts])
                for name in first.observables
            },
            {name: joined_labels([p.particles[name] for p in parts]) for name in first.particles},
        )

    def columns(self, objective: Several) -> dict[str, Any]:
        """Columns of the file of scores."""
        columns: dict[str, Any] = predicted_columns(objective, self.predictions)
        columns |= truth_columns(self.truth, self.observables)
        for sample in self.particles.values():
            columns |= label_columns(sample)
        return columns

    def samples(
        self, objective: Several, weights: np.ndarray | None
    ) -> list[PredictedTarget | PredictedLabel]:
        """Predictions of jets whose true values are known; of targets that a jet has."""
        return [
            predicted_sample(
                part.target,
                self.predictions[part.name],
                self.truth[part.name],
                weights,
                self.observables,
            )
            for part in objective.targets
            if part.name in self.truth
        ]


def target_metadata(objective: Several) -> dict[bytes, bytes]:
    """Description of the columns of the targets, for a file of scores."""
    metadata = {}
    if objective.targets:
        predictions = objective(torch.zeros(0, objective.num_outputs))
        metadata[METADATA] = described_targets(objective, predictions)
    if objective.of_particles:
        metadata[LABELS_METADATA] = described_labels(objective)
    return metadata


def scored(run: RunFolder, jets: Sample, **options: Any) -> tuple[np.ndarray, ScoredTargets]:
    """Probabilities (B, C) of the classes, and predictions of the targets.

    Parameters
    ----------
    run : RunFolder
        The trained network.
    jets : sample
        Jets.
    **options
        `batch_size` and `checkpoint` of :meth:`~pcloud.training.RunFolder.predict`, and
        `calibrated` for the probabilities.
    """
    objective = run.objective
    if objective.only_classes:
        return run.predict(jets, **options), ScoredTargets({}, {}, {}, {})
    calibrated = options.pop("calibrated", False)
    predictions = run.predictions(jets, **options)
    scores: np.ndarray = np.empty((len(jets), 0))
    if run.classes:
        scores = predictions[CLASS].mean.numpy()
        if calibrated:
            scores = run.calibration(options.get("checkpoint", "best")).map(scores)
    return scores, ScoredTargets.of(jets, objective, predictions)


def check_truth(jets: Sample, objective: Several, whose: str) -> None:
    """Check that jets to evaluate have the targets that were learned.

    Raises
    ------
    InputError
        If they lack one; the message names it.
    """
    known = jets.targets.fields if "targets" in jets.fields else []
    missing = [part.name for part in objective.targets if part.name not in known]
    if missing:
        raise InputError(
            f"{whose} have no target {', '.join(missing)}, which the run learned: targets in the "
            "schema names the columns; pcloud predict needs none"
        )
    check_labels(jets, objective, whose)


def with_particles(
    table: EvaluationTable,
    samples: Iterable[PredictedLabels],
    weights: np.ndarray | None,
    **options: Any,
) -> EvaluationTable:
    """Table with the metrics of labels of particles, named ``<label>.<quantity>``.

    Parameters
    ----------
    table : EvaluationTable
        Table to extend.
    samples : iterable of PredictedParticles or PredictedVertices
        Predictions of labels that are known.
    weights : array, shape (B,), optional
        Weights of the jets.
    **options
        `num_bootstrap` and `seed` of :func:`~pcloud.evaluation.particles.evaluate_particles`.
    """
    entries = dict(table.entries)
    for sample in samples:
        found = evaluate_particles(sample, weights, **options)
        entries |= {f"{sample.name}.{name}": entry for name, entry in found.items()}
    return replace(table, entries=entries)


def with_targets(
    table: EvaluationTable, samples: Sequence[PredictedTarget | PredictedLabel]
) -> EvaluationTable:
    """Table with the metrics of targets, named ``<target>.<quantity>``.

    A response far from 1 is warned of, and noted below the table.
    """
    entries = dict(table.entries)
    notes = list(table.notes)
    for sample in samples:
        found = _metrics(sample)
        entries |= {f"{sample.name}.{name}": entry for name, entry in found.items()}
        response = found["response"].value if "response" in found else 1.0
        if not 1 / _MAX_RESPONSE < response < _MAX_RESPONSE:
            note = (
                f"the response of {sample.name} is {response:.3g}: is it in the unit of the training "
                "jets, and are these jets like them?"
            )
            warnings.warn(note, TargetUnitWarning, stacklevel=2)
            notes.append(f"{note[0].upper()}{note[1:]}")
    return replace(table, entries=entries, notes=notes)


def _metrics(sample: PredictedTarget | PredictedLabel) -> dict[str, Measured]:
    if isinstance(sample, PredictedTarget):
        return evaluate_target(sample)
    if len(np.unique(sample.labels)) < 2:
        return {}
    found = evaluate(
        sample.labels,
        sample.probabilities,
        classes=(f"not {sample.name}", sample.name),
        weights=sample.weights,
        num_bootstrap=0,
        efficiencies=(),
    )
    return {name: found[name] for name in ("auc", "accuracy")}


def target_samples(
    run: RunFolder, jets: Sample, weights: np.ndarray | None, **options: Any
) -> list[PredictedTarget]:
    """Predictions of the quantities of labelled jets."""
    _, found = scored(run, jets, **options)
    samples = found.samples(run.objective, weights)
    return [sample for sample in samples if isinstance(sample, PredictedTarget)]


def _observables(jets: Sample) -> dict[str, np.ndarray]:
    """Transverse momentum in GeV, |eta| and number of particles of each jet; none of other data."""
    if "p4" not in jets.fields:
        return {}
    momenta = jets[[name for name in ("p4", "jet_p4") if name in jets.fields]]
    found = jet_observables(FlatJets.from_awkward(momenta), ("pt", "eta", "multiplicity"))
    eta = np.nan_to_num(np.abs(found["eta"]), posinf=0.0)
    return {"pt": found["pt"], "abs_eta": eta, "multiplicity": found["multiplicity"]}
