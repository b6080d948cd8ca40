"""What a run left in its folder, as far as it is there."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable, Scores, evaluate, read_metrics, read_scores
from pcloud.evaluation.figures.curves import Curve

FILES = ("config.yaml", "metrics.csv", "metrics.json", "scores.parquet", "environment.json")


@dataclass(frozen=True)
class RunFolder:
    """The readable contents of a run folder.

    Parameters
    ----------
    path : Path
        The folder.
    config : dict
        The configuration; empty if there is none.
    config_text : str
        ``config.yaml`` as it is, with its comments.
    history : mapping of str to (epochs, values)
        The columns of ``metrics.csv``.
    scores : Scores, optional
        Labels and scores of the test jets.
    table : EvaluationTable, optional
        Metrics, from ``metrics.json`` or else computed from `scores`.
    environment : dict
        Versions, seed, machine.
    others : mapping of str to EvaluationTable
        Evaluations of the same tagger on other jets.
    missing : mapping of str to str
        Why a file is of no use, by its name.
    """

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    history: Mapping[str, Curve] = field(default_factory=dict)
    scores: Scores | None = None
    table: EvaluationTable | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    others: Mapping[str, EvaluationTable] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Read a folder; files that are absent leave their part empty.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        InputError
            If it has none of these files, or one that cannot be read.
        """
        if not path.is_dir():
            raise FileNotFoundError(f"no folder {path}")
        missing = {name: "was not found" for name in FILES if not (path / name).exists()}
        if len(missing) == len(FILES):
            raise InputError(f"{path} holds no run: none of {', '.join(FILES)} is there")
        scores = None
        if "scores.parquet" not in missing:
            try:
                scores = read_scores(path / "scores.parquet")
            except InputError as error:  # such as unlabelled jets: no reason to have no page
                missing["scores.parquet"] = f"cannot be used: {error}"
        table = None
        if "metrics.json" not in missing:
            table = read_metrics(path)
        elif scores is not None:
            table = evaluate(scores.labels, scores.values, classes=scores.classes)
        text = "" if "config.yaml" in missing else _text(path / "config.yaml")
        return cls(
            path=path,
            config=_parse_config(path, text),
            config_text=text,
            history={} if "metrics.csv" in missing else read_history(path / "metrics.csv"),
            scores=scores,
            table=table,
            environment={} if "environment.json" in missing else _read_environment(path),
            others={
                file.parent.name: read_metrics(file.parent)
                for file in sorted(path.glob("evaluations/*/metrics.json"))
            },
            missing=missing,
        )


def read_history(path: Path) -> dict[str, Curve]:
    """Columns of ``metrics.csv`` against its column ``epoch``; empty cells are left out.

    Of an epoch that appears twice, as after an interruption, the later row counts.
    """
    curves: dict[str, dict[float, float]] = {}
    for number, row in enumerate(csv.DictReader(_text(path).splitlines()), start=2):
        if "epoch" not in row:
            raise InputError(f"{path} has no column epoch, only {', '.join(row)}")
        try:
            epoch = float(row.pop("epoch"))
            values = {name: float(value) for name, value in row.items() if value}
        except (TypeError, ValueError):
            raise InputError(f"{path}, line {number}: not a row of numbers") from None
        for name, value in values.items():
            curves.setdefault(name, {})[epoch] = value
    return {
        name: (np.array(list(curve)), np.array(list(curve.values())))
        for name, curve in curves.items()
    }


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file") from None


def _parse_config(path: Path, text: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path / 'config.yaml'} is not YAML: {error}") from None
    return config if isinstance(config, dict) else {}


def _read_environment(path: Path) -> dict[str, Any]:
    file = path / "environment.json"
    try:
        return dict(json.loads(_text(file)))
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise InputError(f"{file} is not a JSON object: {error}") from None
