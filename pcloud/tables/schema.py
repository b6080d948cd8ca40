"""Meaning of the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.validation import hints, validate

__all__ = ["TableSchema", "read_schema_of_table"]

_LABELS = ("label", "class", "y", "target", "is_signal")
_WEIGHTS = ("weight", "weights")
Words = list[str]


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """Columns with a meaning; all other columns of numbers are inputs.

    Parameters
    ----------
    label : str, optional
        Column with the class of an event, as a number or a word; by default one called label,
        class, y, target or is_signal.
    classes : list of str or mapping of str to value, optional
        Names of the classes in their order, or with their values in the label; by default words
        are sorted.
    weight : str, optional
        Column of the weights; by default one called weight or weights.
    missing : list of float
        Numbers that stand for a missing value; ``nan`` is one of them if it is given.
    targets : mapping of str to str
        Columns of the quantities to learn, by their names.
    event : str, optional
        Column with the number of an event, whose rows stay together in the random splits.
    keep : list of str
        Columns that are written beside the scores; they are no inputs.
    leave_out : list of str
        Columns that are no inputs.

    Examples
    --------
    >>> TableSchema(label="Label", missing=[-999.0]).missing
    [-999.0]
    """

    label: str | None = None
    classes: list[str] | dict[str, Any] | None = None
    weight: str | None = None
    missing: list[float] = field(default_factory=lambda: [-999.0])
    targets: dict[str, str] = field(default_factory=dict)
    event: str | None = None
    keep: Words = field(default_factory=list)
    leave_out: Words = field(default_factory=list)

    def named(self) -> dict[str, str]:
        """Columns that the schema names and a file must have, with their meaning."""
        names = dict.fromkeys(self.targets.values(), "target")
        names |= dict.fromkeys(self.keep, "keep")
        names |= {} if self.event is None else {self.event: "event"}
        return names

    def for_columns(self, columns: Sequence[str]) -> TableSchema:
        """Return a copy with the label and the weight of a file with these columns, if found."""
        return replace(
            self,
            label=self.label or _called(_LABELS, columns, [*self.targets.values()]),
            weight=self.weight or _called(_WEIGHTS, columns),
        )

    def check(self, columns: Sequence[str], *, needs_truth: bool) -> None:
        """Check that a file has the columns that are named.

        Raises
        ------
        UnknownNameError
            If it lacks one; label and weight may be absent unless `needs_truth`.
        """
        names = self.named()
        if needs_truth:
            names |= {n: what for n, what in [(self.label, "label"), (self.weight, "weight")] if n}
        for name, what in names.items():
            if name not in columns:
                raise UnknownNameError(f"column of {what}", name, columns)

    def inputs(self, columns: Sequence[str]) -> list[str]:
        """Columns that may be inputs."""
        others = {self.label, self.weight, *self.named(), *self.leave_out}
        return [name for name in columns if name not in others]

    def is_missing(self, values: np.ndarray) -> np.ndarray:
        """Mask of the values that stand for a missing one."""
        numbers = [value for value in self.missing if not np.isnan(value)]
        found = np.isin(values, numbers)
        return found | np.isnan(values) if len(numbers) < len(self.missing) else found


def read_schema_of_table(values: Any) -> TableSchema:
    """Schema from a mapping, as in a YAML file; None for the default.

    Raises
    ------
    InputError
        If it is no mapping, or a value cannot be used; `UnknownNameError` for a field that does not
        exist.
    """
    if values is None:
        return TableSchema()
    if isinstance(values, TableSchema):
        return values
    if not isinstance(values, dict):
        raise InputError(
            f"the schema of a table is a mapping or a YAML file, such as schema.label: Label, not "
            f"{values!r}"
        )
    known = hints(TableSchema)
    for name in values:
        if name not in known:
            raise UnknownNameError("field of the schema of a table", str(name), known)
    given = dict(values)
    if "missing" in given and not isinstance(given["missing"], list):
        given["missing"] = [] if given["missing"] is None else [given["missing"]]
    for name in ("keep", "leave_out"):
        if isinstance(given.get(name), str):
            given[name] = [given[name]]
    try:
        return validate(TableSchema, given)
    except InputError as error:
        raise InputError(f"schema of a table: {error}") from error


def _called(names: Sequence[str], columns: Sequence[str], others: Sequence[str] = ()) -> str | None:
    """First column with one of the names in any case, and not among `others`."""
    lower = {column.lower(): column for column in columns if column not in others}
    return next((lower[name] for name in names if name in lower), None)
