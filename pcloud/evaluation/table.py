"""Result of an evaluation: named values with errors, printed as tables and stored as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval, Len
from rich.console import Group
from rich.table import Table
from rich.text import Text
from typing_extensions import TypedDict

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.measured import Measured, round_together
from pcloud.run_files import METRICS_FILE, StoredResult
from pcloud.stored_values import KEEP_UNKNOWN, Count, Float, Integer, Name, Names
from pcloud.stored_values import Text as StoredText
from pcloud.text import for_terminal
from pcloud.text_tables import aligned, html_paragraph, html_table
from pcloud.validation import checked
from pcloud.words import number_of


class _WeightsOfClasses(TypedDict):
    """Sums of weights and effective numbers of jets, one per class."""

    sum: list[Float]
    effective: list[Float]
    negative: Count


class Settings(TypedDict, total=False):
    """Options of an evaluation that the report uses; a file may hold further ones."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    signal: Name | Integer | None
    background: Name | Integer | None
    efficiencies: Annotated[list[Annotated[float, Interval(gt=0, lt=1)]], Len(1, 1000)]
    num_bootstrap: Annotated[int, Interval(ge=0, le=10**6)] | None
    bins: Annotated[int, Interval(ge=1, le=10**6)]
    seed: Integer
    weights: _WeightsOfClasses


class _File(TypedDict, total=False):
    """Contents of ``metrics.json`` but the metrics."""

    classes: Names | Annotated[list[Name], Len(0, 0)]
    counts: list[Count]
    settings: Settings
    notes: list[StoredText]


@dataclass(frozen=True)
class EvaluationTable(Mapping[str, Measured], StoredResult):
    """Mapping of names to values with errors, which prints as a table.

    Names such as ``"accuracy"``, ``"auc"`` and ``"rejection@0.3"`` refer to the whole sample.
    With more than two classes, ``"auc[Hbb]"`` (against the rest) and ``"auc[Hbb vs QCD]"``
    (against one background) refer to one signal class. ``"mass.resolution"`` refers to a target.

    Parameters
    ----------
    entries : dict of str to Measured
        Values by name.
    classes : sequence of str
        Names of the classes.
    counts : sequence of int
        Number of jets of each class.
    settings : dict
        Options of the evaluation: signal, background, efficiencies, bootstrap and seed.
    notes : sequence of str
        Sentences printed below the table.
    """

    file = METRICS_FILE
    what = "table of metrics"
    command = "pcloud evaluate"
    indent = 2

    entries: dict[str, Measured]
    classes: Sequence[str] = ()
    counts: Sequence[int] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __getitem__(self, name: str) -> Measured:
        name = _OLD_NAMES.get(name, name)
        if name not in self.entries:
            raise UnknownNameError("metric", name, self.entries)
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def rows(self) -> list[list[str]]:
        """Rows of the whole sample, as :meth:`overall`."""
        return self.overall()

    def overall(self) -> list[list[str]]:
        """Rows of the whole sample: quantity, value with error, bootstrap error, method."""
        title = "weighted value ± error" if "weights" in self.settings else "value ± error"
        rows = [["", title, "bootstrap", "error from"]]
        for name, entry in self.entries.items():
            if not _part(name):
                again = "" if entry.bootstrap is None else f"± {_error(entry.bootstrap)}"
                rows.append([describe(name), str(entry), again, entry.method])
        return rows

    def target_rows(self) -> list[list[str]]:
        """Rows of the targets, one column for each: those of :meth:`overall` as a matrix."""
        names = [name for name in self.entries if is_of_target(name)]
        targets = list(dict.fromkeys(_split_target(name)[0] for name in names))
        quantities = list(dict.fromkeys(_split_target(name)[1] for name in names))
        rows = [["", *targets]]
        for quantity in quantities:
            found = [self.entries.get(f"{target}.{quantity}") for target in targets]
            title = describe(f"{targets[0]}.{quantity}").removeprefix(f"{targets[0]}: ")
            rows.append([title, *("" if entry is None else str(entry) for entry in found)])
        return rows

    def by_class(self) -> list[list[str]]:
        """Rows of the signal classes, one column for each quantity; empty for two classes."""
        parts = list(dict.fromkeys(_part(name) for name in self.entries if _part(name)))
        quantities = list(dict.fromkeys(_quantity(name) for name in self.entries if _part(name)))
        if not parts:
            return []
        rows = [["class", *map(describe, quantities)]]
        for part in parts:
            found = [self.entries.get(f"{quantity}[{part}]") for quantity in quantities]
            rows.append([part, *("" if entry is None else str(entry) for entry in found)])
        return rows

    def to_markdown(self) -> str:
        """Tables in Markdown, followed by the notes."""
        blocks = [_markdown(rows) for rows in (self.overall(), self.by_class()) if rows]
        return "\n\n".join([*blocks, *map(for_terminal, self.notes)])

    def __str__(self) -> str:
        blocks = [aligned(rows) for rows in (self.overall(), self.by_class()) if rows]
        return "\n\n".join([*blocks, "\n".join(map(for_terminal, self.notes))]).rstrip()

    def __repr__(self) -> str:
        """Number of jets, and the values of the whole sample."""
        jets = f" of {number_of(sum(self.counts), 'jet')}" if self.counts else ""
        overall = [f"{name} {entry}" for name, entry in self.entries.items() if not _part(name)]
        return for_terminal(f"EvaluationTable{jets}: {', '.join(overall)}")

    def _repr_html_(self) -> str:
        tables = [html_table(rows) for rows in (self.overall(), self.by_class()) if rows]
        notes = [html_paragraph(note) for note in self.notes]
        return "".join([*tables, *notes])

    def __rich__(self) -> Group:
        tables = [_rich(rows) for rows in (self.overall(), self.by_class()) if rows]
        return Group(*tables, *(Text(for_terminal(note), style="dim") for note in self.notes))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "metrics": {name: entry.to_dict() for name, entry in self.entries.items()},
            "classes": list(self.classes),
            "counts": list(self.counts),
            "settings": self.settings,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> EvaluationTable:
        """Inverse of `to_dict`."""
        rest = checked(_File, fields)
        metrics = checked(dict[Name, Measured], fields["metrics"], "metrics")
        classes = rest.get("classes", [])
        if len(rest.get("counts", classes)) != len(classes):
            raise InputError(f"counts: not one for each of the classes {', '.join(classes)}")
        return cls(entries={_OLD_NAMES.get(k, k): entry for k, entry in metrics.items()}, **rest)


def write_metrics(run: str | Path, table: EvaluationTable) -> Path:
    """Write ``metrics.json`` into a run folder."""
    return table.write(run)


def read_metrics(run: str | Path) -> EvaluationTable:
    """Read the ``metrics.json`` of a run folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    InputError
        If the file is not what `write_metrics` writes.
    """
    return EvaluationTable.read(run)


def is_of_target(name: str) -> bool:
    """Return whether a metric is that of a target, such as ``"mass.resolution"``."""
    target, quantity = _split_target(name)
    return bool(target) and quantity.partition("@")[0] in _OF_TARGETS


def _split_target(name: str) -> tuple[str, str]:
    """Target and quantity of ``"mass.coverage@0.68"``; the level has a point, too."""
    start, at, level = name.partition("@")
    target, _, quantity = start.rpartition(".")
    return target, f"{quantity}{at}{level}"


def describe(name: str) -> str:
    """Title of a quantity in a table: ``"1/εB at εS = 0.3"`` for ``"rejection@0.3"``."""
    if is_of_target(name):
        target, of_target = _split_target(name)
        quantity, _, level = of_target.partition("@")
        return f"{target}: {_OF_TARGETS[quantity].format(level)}"
    quantity, _, efficiency = _quantity(name).partition("@")
    if quantity == "rejection":
        return f"1/εB at εS = {efficiency}"
    return _TITLES.get(quantity, quantity)


_OLD_NAMES = {"auc_macro": "auc_ovr"}

_TITLES = {
    "auc": "AUC",
    "auc_ovr": "AUC, mean over classes (one-vs-rest)",
    "auc_ovo": "AUC, mean over pairs (one-vs-one)",
    "ece": "ECE",
    "ece_adaptive": "ECE adaptive",
    "ece_perfect": "ECE if perfect",
    "calibration_rms": "RMS calibration error, debiased",
    "brier": "Brier score",
    "log_loss": "log loss",
}


_OF_TARGETS = {
    "bias": "bias",
    "resolution": "resolution, 68 %",
    "resolution_iqr": "resolution, IQR / 1.349",
    "tails": "jets beyond 3 resolutions",
    "response": "response",
    "response_resolution": "resolution of the response",
    "pull_mean": "mean of the pulls",
    "pull_width": "width of the pulls",
    "coverage": "coverage of the interval of {}",
    "below_quantile": "jets below the quantile {}",
    "auc": "AUC",
    "accuracy": "accuracy",
    "class_auc": "AUC of {}",
    "efficiency": "efficiency of vertices",
    "purity": "purity of vertices",
}
"""Titles of quantities of targets, named ``<target>.<quantity>``."""


def _error(error: float) -> str:
    return round_together(0.0, error)[1]


def _quantity(name: str) -> str:
    return name.partition("[")[0]


def _part(name: str) -> str:
    return name.partition("[")[2].removesuffix("]")


def _markdown(rows: list[list[str]]) -> str:
    header, *body = [[for_terminal(cell).replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *body])


def _rich(rows: list[list[str]]) -> Table:
    header, *body = rows
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column, name in enumerate(header):
        table.add_column(
            Text(for_terminal(name)), justify="left" if column == 0 else "right", no_wrap=True
        )
    for row in body:
        table.add_row(*(Text(for_terminal(cell)) for cell in row))
    return table
