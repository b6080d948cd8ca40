"""Readable contents of a run folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pcloud.errors import InputError, UnknownNameError, UnreadableFileWarning
from pcloud.evaluation import EvaluationTable, Scores, read_metrics, read_scores
from pcloud.evaluation.metrics import evaluate_scores
from pcloud.evaluation.regression import PredictedTarget
from pcloud.evaluation.scores import has_classes
from pcloud.modality import modality_of_model
from pcloud.objectives.columns import PredictedLabel, read_targets
from pcloud.objectives.particle_columns import PredictedLabels, read_labels
from pcloud.objectives.specification import ANOMALY
from pcloud.run_files import (
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    EVALUATION_FOLDER,
    HISTORY_FILE,
    METRICS_FILE,
    SCORES_FILE,
    StoredResult,
    file_errors,
    read_text,
)
from pcloud.text import for_terminal
from pcloud.training.environment import read_environment
from pcloud.training.history import History
from pcloud.typing import Floats
from pcloud.yaml_files import parse_yaml

__all__ = ["GAIN", "MAIN_FILES", "RunContents"]

GAIN = "val_gain_masked"
"""Column of the history of a pretraining."""

MAIN_FILES = (CONFIG_FILE, HISTORY_FILE, METRICS_FILE, SCORES_FILE, ENVIRONMENT_FILE)
"""Files of which at least one makes a page."""

T = TypeVar("T")
Result = TypeVar("Result", bound=StoredResult)


@dataclass(frozen=True)
class RunContents:
    """Contents of a run folder, as far as they can be read.

    Parameters
    ----------
    path : Path
        The folder.
    out : Path
        Folder of the page, whose results of studies go before those of `path`.
    config : dict
        The configuration; empty if there is none.
    config_text : str
        ``config.yaml`` as it is, with its comments.
    history : History
        Metrics of each epoch.
    scores : Scores, optional
        Labels and scores of the test jets.
    targets : sequence of PredictedTarget or PredictedLabel
        Predictions of the targets of the test jets.
    particles : sequence of PredictedParticles or PredictedVertices
        Predictions of labels of particles of the test jets.
    particle_weights : ndarray, shape (B,), optional
        Weights of these jets.
    table : EvaluationTable, optional
        Metrics, from ``metrics.json`` or else computed from `scores`.
    environment : dict
        Versions, seed, machine.
    others : mapping of str to EvaluationTable
        Evaluations of the same tagger on other jets.
    missing : mapping of str to str
        Reason why a main file is not used, by its name.
    """

    path: Path
    out: Path
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    history: History = field(default_factory=History)
    scores: Scores | None = None
    targets: Sequence[PredictedTarget | PredictedLabel] = ()
    particles: Sequence[PredictedLabels] = ()
    particle_weights: Floats | None = None
    table: EvaluationTable | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    others: Mapping[str, EvaluationTable] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_pretraining(self) -> bool:
        """True if hidden particles were learned, so that there are no scores."""
        return GAIN in self.history.columns

    @classmethod
    def read(cls, path: Path, out: Path | None = None) -> RunContents:
        """Read a folder, and results in `out` in their place. Files that are absent, or cannot be read, leave their part empty.

        Warns of each file that cannot be read.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        InputError
            If it has none of the main files of a run.
        """
        if not path.is_dir():
            raise FileNotFoundError(f"no folder {path}")
        out = path if out is None else out
        places = {name: _place(name, path, out) for name in MAIN_FILES}
        missing = {name: "was not found" for name in MAIN_FILES if not places[name].exists()}
        if len(missing) == len(MAIN_FILES):
            raise InputError(f"{path} holds no run: none of {', '.join(MAIN_FILES)} is there")

        def main_file(name: str, read: Callable[[], T]) -> T | None:
            if name in missing:
                return None
            try:
                return read()
            except InputError as error:
                missing[name] = f"cannot be used: {error}"
                _warn(error)
                return None

        targets = main_file(SCORES_FILE, lambda: read_targets(places[SCORES_FILE])) or ()
        labels = main_file(SCORES_FILE, lambda: read_labels(places[SCORES_FILE])) or ([], None)
        scores = None
        if not (targets or labels[0]) or has_classes(places[SCORES_FILE]):
            scores = main_file(SCORES_FILE, lambda: read_scores(places[SCORES_FILE]))
        table = main_file(METRICS_FILE, lambda: read_metrics(places[METRICS_FILE].parent))
        if table is None and scores is not None:
            table = evaluate_scores(scores)
        text, config = main_file(CONFIG_FILE, lambda: _read_config(path)) or ("", {})
        if scores is not None:
            scores = replace(scores, noun=_noun(config))
        evaluations = _matching(f"{EVALUATION_FOLDER}/*/{METRICS_FILE}", path, out)
        others = {file.parent.name: _readable(read_metrics, file.parent) for file in evaluations}
        return cls(
            path=path,
            out=out,
            config=config,
            config_text=text,
            history=main_file(HISTORY_FILE, lambda: History.read(path)) or History(),
            scores=scores,
            targets=targets,
            particles=labels[0],
            particle_weights=labels[1],
            table=table,
            environment=main_file(ENVIRONMENT_FILE, lambda: read_environment(path)) or {},
            others={name: found for name, found in others.items() if found is not None},
            missing=missing,
        )

    @property
    def detects_anomalies(self) -> bool:
        """True for the run of an anomaly detector, whose scores are no probabilities."""
        return self.config.get("objective") in (ANOMALY, [ANOMALY])

    @property
    def noun(self) -> str:
        """Plural noun of the data of the run: jets, images, events or records.

        For a network in a file of the user, which is not run here, it is jets.
        """
        return _noun(self.config)

    def result(self, kind: type[Result]) -> Result | None:
        """Result of a study; None if it was not done, or cannot be read, of which it warns."""
        place = self.place(kind.file)
        return _readable(kind.read, place.parent) if place.exists() else None

    def place(self, name: str) -> Path:
        """Path of a file, which may not exist."""
        return _place(name, self.path, self.out)

    def files(self, pattern: str, read: Callable[[Path], T]) -> dict[Path, T]:
        """Results in all files that match a pattern; warns of files that cannot be read."""
        files = _matching(pattern, self.path, self.out)
        found = {file: _readable(read, file) for file in files}
        return {file: value for file, value in found.items() if value is not None}


def _noun(config: Mapping[str, Any]) -> str:
    """Plural noun of the data of a configuration."""
    name = config.get("model")
    if not isinstance(name, str) or ":" in name:
        return "jets"
    try:
        return modality_of_model(name).noun
    except UnknownNameError:
        return "jets"


def _place(name: str, path: Path, out: Path) -> Path:
    """Path of a file: in `out` if it is there, else in `path`."""
    return out / name if (out / name).exists() else path / name


def _matching(pattern: str, path: Path, out: Path) -> list[Path]:
    """Files that match a pattern, those in `out` in the place of those in `path`."""
    found = {file.relative_to(path): file for file in path.glob(pattern)}
    found |= {file.relative_to(out): file for file in out.glob(pattern)}
    return [found[name] for name in sorted(found)]


def _readable(read: Callable[[Path], T], path: Path) -> T | None:
    """Content of a file; None and a warning if it cannot be read."""
    try:
        return read(path)
    except InputError as error:
        _warn(error)
        return None


def _warn(error: InputError) -> None:
    message = for_terminal(f"{error}; the report leaves this out")
    warnings.warn(message, UnreadableFileWarning, stacklevel=2)


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    """Text of ``config.yaml`` and its values."""
    file = path / CONFIG_FILE
    with file_errors(file, "configuration", "restore it, or train the run again"):
        text = read_text(file)
        try:
            config = parse_yaml(text)
        except InputError as error:
            raise InputError(f"not YAML: {error}") from None
    return text, config if isinstance(config, dict) else {}
