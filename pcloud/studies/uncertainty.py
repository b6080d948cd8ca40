"""Uncertainties of the test jets of a run: what ``pcloud uncertainty`` leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.evaluation.figures.roc import GRID
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.scores import PREFIX
from pcloud.features import FeatureSet
from pcloud.studies.predictive import PredictiveSamples, default_method, predictive_samples
from pcloud.typing import Floats
from pcloud.uncertainty.measures import Uncertainty
from pcloud.uncertainty.shifts import SHIFTS, shifted

if TYPE_CHECKING:
    from pcloud.training import Run

__all__ = ["UNCERTAINTY_FILE", "StoredUncertainty", "measure_uncertainty", "read_uncertainty"]

UNCERTAINTY_FILE = "uncertainty.json"

_SHIFTED_JETS = 2000
_PARTS = ("total", "aleatoric", "epistemic", "logit_spread")


@dataclass(frozen=True)
class StoredUncertainty:
    """What the opinions on the test jets came to.

    Parameters
    ----------
    facts : dict
        Method and what was fitted.
    classes : list of str
        Names of the classes.
    labels : ndarray, shape (B,)
        True classes.
    jets : Uncertainty
        Of each test jet.
    samples : dict of str to dict of str to Measured
        Mean uncertainties of test jets, and of jets unlike those of the training.
    roc : dict of str to list of float, optional
        For two classes the background efficiencies ``low``, ``middle`` and ``high`` of the band of
        opinions, on the grid of the ROC figure.
    """

    facts: dict[str, Any]
    classes: list[str]
    labels: NDArray[np.integer]
    jets: Uncertainty
    samples: dict[str, dict[str, Measured]]
    roc: dict[str, list[float]] | None

    def rows(self) -> list[list[str]]:
        """Table of the mean uncertainties."""
        titles = [part.replace("_", " ") for part in _PARTS]
        rows = [["jets", *titles]]
        for name, means in self.samples.items():
            rows.append([name, *(means[part].format(digits=1) for part in _PARTS)])
        return rows

    def write(self, folder: Path) -> None:
        """Write ``uncertainty.json`` and, a row per jet, ``uncertainty.parquet``."""
        columns: dict[str, Any] = {"label": self.labels}
        for c, name in enumerate(self.classes):
            columns[PREFIX + name] = self.jets.mean[:, c]
        columns |= {part: getattr(self.jets, part) for part in _PARTS}
        metadata = {b"classes": json.dumps(self.classes)}
        table = pa.table(columns).replace_schema_metadata(metadata)
        pq.write_table(table, folder / "uncertainty.parquet")
        values = {
            "facts": self.facts,
            "classes": self.classes,
            "samples": {
                name: {part: m.to_dict() for part, m in means.items()}
                for name, means in self.samples.items()
            },
            "roc": self.roc,
        }
        text = json.dumps(values, indent=2) + "\n"
        (folder / UNCERTAINTY_FILE).write_text(text, encoding="utf-8")


def measure_uncertainty(
    run: Run,
    method: str | None = None,
    *,
    samples: int = 50,
    jets: int | None = None,
    checkpoint: str = "best",
    batch_size: int = 512,
    seed: int = 0,
    advance: Callable[[float], Any] = lambda part: None,
) -> StoredUncertainty:
    """Ask a run for several opinions on its test jets, and on changed ones, and write them down.

    The changed jets, see :data:`SHIFTS`, are made of the first 2000 test jets, or of what the
    network passes in some minutes, where the features need four-momenta alone.

    Parameters
    ----------
    run : Run
        The trained tagger, or an ensemble.
    method, samples, checkpoint, batch_size, seed
        As for :func:`opinions_of`.
    jets : int, optional
        Test jets to ask about; by default all, or what the network passes in some minutes.
    advance : callable
        Called with the part of the whole work that was done.
    """
    from pcloud.studies.budget import jets_within_budget
    from pcloud.training.data import load_splits

    run.checksum(checkpoint)
    (test,) = load_splits(run.config, "test")
    network = run.members[0] if run.config.ensemble > 1 else run
    passes = {"ensemble": len(run.members), "dropout": samples}.get(
        method or default_method(run), 1
    )
    cost: dict[str, Any] = {"checkpoint": checkpoint}
    if jets is None:
        jets = jets_within_budget(network, test, passes=2 * passes, most=len(test), **cost)
    changed = jets_within_budget(network, test, passes=12 * passes, most=_SHIFTED_JETS, **cost)
    test = test[:jets]
    options: dict[str, Any] = {"checkpoint": checkpoint, "batch_size": batch_size, "seed": seed}
    opinions = predictive_samples(run, method, samples=samples, **options)
    advance(1 / 3)
    labels = np.asarray(test.label).astype(np.int64)
    logits = opinions.logits(test)
    advance(1 / 3)
    found = Uncertainty.of(logits)
    stored = StoredUncertainty(
        {"method": opinions.method, "checkpoint": checkpoint, "seed": seed, **opinions.facts},
        run.classes,
        labels,
        found,
        _samples(run, opinions, test[:changed], labels, found, seed),
        _band(logits, labels) if len(run.classes) == 2 else None,
    )
    advance(1 / 3)
    stored.write(run.path)
    return stored


def read_uncertainty(folder: str | Path) -> StoredUncertainty:
    """Read what :func:`measure_uncertainty` wrote.

    Raises
    ------
    InputError
        If the files are others.
    """
    path = Path(folder) / UNCERTAINTY_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        table = pq.read_table(path.with_suffix(".parquet"))
        classes = values["classes"]
        mean = np.stack([table[PREFIX + name].to_numpy() for name in classes], axis=1)
        parts = [table[part].to_numpy() for part in _PARTS]
        samples = {
            name: {part: _stored_mean(entry) for part, entry in means.items()}
            for name, means in values["samples"].items()
        }
        labels = table["label"].to_numpy()
        jets = Uncertainty(mean, *parts)
        return StoredUncertainty(values["facts"], classes, labels, jets, samples, values["roc"])
    except (
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        pa.ArrowInvalid,
    ) as error:
        raise InputError(
            f"{path} holds no uncertainties ({error}): write it anew with pcloud uncertainty"
        ) from None


def _samples(
    run: Run, opinions: PredictiveSamples, some: Any, labels: Any, found: Uncertainty, seed: int
) -> dict[str, dict[str, Measured]]:
    right = found.mean.argmax(axis=1) == labels
    groups = {"test jets": np.ones(len(labels), bool), "taken right": right, "taken wrong": ~right}
    means = {
        name: {part: Measured.mean(getattr(found, part)[chosen]) for part in _PARTS}
        for name, chosen in groups.items()
        if chosen.sum() > 1
    }
    if isinstance(run.feature_set, FeatureSet) and not run.feature_set.columns:
        for shift in SHIFTS:
            changed = opinions.uncertainty(shifted(some, shift, seed))
            means[shift] = {part: Measured.mean(getattr(changed, part)) for part in _PARTS}
    return means


def _stored_mean(entry: dict[str, Any] | list[float]) -> Measured:
    """A mean as it is written, or value and error as older files have them."""
    if isinstance(entry, list):
        value, error = entry
        return Measured(value, error, "mean over jets")
    return Measured.from_dict(entry)


def _band(logits: Floats, labels: NDArray[np.integer]) -> dict[str, list[float]]:
    """Central 68 % of the ROC curves of the opinions, and the curve of their mean score."""
    odds = logits[:, :, 1] - logits[:, :, 0]
    p = (1 / (1 + np.exp(-odds))).mean(axis=0)
    curves = [
        Ranking(score, labels == 1, labels == 0).counts.background_efficiency(GRID)
        for score in (p, *odds)
    ]
    low, high = np.quantile(curves[1:], [0.1587, 0.8413], axis=0)
    return {"low": low.tolist(), "middle": curves[0].tolist(), "high": high.tolist()}
