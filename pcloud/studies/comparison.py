"""Study of several runs on the same test jets: ROC curves and paired differences."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pcloud.errors import InputError
from pcloud.evaluation.figures import roc_figure, save_figure
from pcloud.evaluation.robustness import Effect, compare_scores
from pcloud.evaluation.scores import Scores
from pcloud.run_files import COMPARISON_FILE, COMPARISON_TABLE, StoredResult, write_text
from pcloud.stored_values import Fraction, Text
from pcloud.validation import checked

__all__ = ["RunComparison", "compare_taggers", "run_names"]

_COLUMNS = ("auc", "auc_change", "rejection", "rejection_ratio")


@dataclass(frozen=True)
class RunComparison(StoredResult):
    """AUC and rejections of several taggers, with their paired differences to the first.

    Parameters
    ----------
    names : list of str
        Names of the taggers.
    efficiencies : list of float
        Signal efficiencies of the rejections.
    effects : list of list of Effect
        For each tagger and efficiency, the comparison with the first tagger.
    """

    file = COMPARISON_FILE
    what = "comparison"
    command = "pcloud evaluate RUN RUN"

    names: list[Text]
    efficiencies: list[Fraction]
    effects: list[list[Effect]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        effects = [[effect.to_dict() for effect in row] for row in self.effects]
        return {"names": self.names, "efficiencies": self.efficiencies, "effects": effects}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunComparison:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Table of the taggers, a row for each."""
        rows = [["tagger", "AUC", "1000 x difference"]]
        for efficiency in self.efficiencies:
            rows[0] += [f"1/εB at εS = {efficiency:g}", "ratio"]
        for i, (name, effects) in enumerate(zip(self.names, self.effects, strict=True)):
            change = "" if i == 0 else str(effects[0].auc_change.scaled(1000))
            row = [name, str(effects[0].auc), change]
            for effect in effects:
                ratio = effect.rejection_ratio
                row += [str(effect.rejection), "" if ratio is None or i == 0 else str(ratio)]
            rows.append(row)
        return rows

    def write(self, folder: str | Path) -> Path:
        """Write the result as JSON, and its numbers as ``comparison.csv``; return the first file."""
        rows = [
            "tagger",
            "efficiency",
            *(f"{n}{kind}" for n in _COLUMNS for kind in ("", "_error")),
        ]
        lines = [rows]
        for name, effects in zip(self.names, self.effects, strict=True):
            for efficiency, effect in zip(self.efficiencies, effects, strict=True):
                values = [getattr(effect, column) for column in _COLUMNS]
                pairs = [
                    ("", "") if v is None else (f"{v.value:.9g}", f"{v.error:.3g}") for v in values
                ]
                lines.append([name, f"{efficiency:g}", *itertools.chain(*pairs)])
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        write_text(Path(folder) / COMPARISON_TABLE, text.getvalue())
        return super().write(folder)


def compare_taggers(
    taggers: Mapping[str, Scores],
    *,
    efficiencies: Sequence[float] = (0.3, 0.5),
    signal: str | int | None = None,
    background: str | int | None = None,
    figure: str | Path | None = None,
    **options: Any,
) -> tuple[RunComparison, list[Path]]:
    """Compare taggers that have scored the same jets, with paired errors.

    Parameters
    ----------
    taggers : mapping of str to Scores
        Labels and scores of at least two taggers by name.
    efficiencies : sequence of float
        Signal efficiencies of the rejections.
    signal, background : str or int, optional
        As for :func:`pcloud.evaluate`; with more than two classes the signal must be named.
    figure : path, optional
        Path without suffix of a figure of the ROC curves with the ratios of the rejections.
    **options
        Options `num_bootstrap` and `seed` of the figure.

    Returns
    -------
    RunComparison, list of Path
        The comparison, and the files of the figure.

    Raises
    ------
    InputError
        If the taggers have other classes, or did not score the same jets.
    """
    names = list(taggers)
    first = taggers[names[0]]
    for name, sample in taggers.items():
        if sample.classes != first.classes:
            raise InputError(
                f"{names[0]} has the classes {', '.join(first.classes)}, {name} "
                f"{', '.join(sample.classes)}: only taggers of the same classes are compared"
            )
        if not np.array_equal(sample.labels, first.labels) or not _same_weights(sample, first):
            raise InputError(
                f"{names[0]} and {name} were evaluated on other jets, or in another order: a "
                "comparison with paired errors needs the same test jets"
            )
    chosen: dict[str, Any] = {"classes": first.classes, "weights": first.weights}
    chosen |= {"signal": signal, "background": background}
    effects = [
        [
            compare_scores(first.labels, first.values, sample.values, efficiency=e, **chosen)
            for e in efficiencies
        ]
        for sample in taggers.values()
    ]
    files: list[Path] = []
    if figure is not None:
        drawn = roc_figure(dict(taggers), signal=signal, background=background, **options)
        files = save_figure(drawn, figure)
    return RunComparison(names, list(efficiencies), effects), files


def _same_weights(one: Scores, other: Scores) -> bool:
    if one.weights is None or other.weights is None:
        return one.weights is other.weights
    return np.array_equal(one.weights, other.weights)


def run_names(paths: Sequence[str]) -> list[str]:
    """Short different names of folders: the last part, or as many parts as it takes."""
    parts = [Path(path).resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise InputError(f"a run is named twice: {', '.join(paths)}")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(parts):
            return names
    return list(paths)
