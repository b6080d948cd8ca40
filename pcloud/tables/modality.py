"""Tables as a kind of data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from pcloud.datasets import dataset_info, is_dataset, load_dataset
from pcloud.errors import InputError, UnknownNameError
from pcloud.given_jets import given_sample, is_given
from pcloud.identifiers import is_identifier
from pcloud.io.read import COLUMNS
from pcloud.keys import Keys
from pcloud.modality import DataOptions, Modality, Source, named_source, register_modality
from pcloud.tables.columns import TableColumns
from pcloud.tables.files import column_names, read_table
from pcloud.tables.schema import read_schema_of_table
from pcloud.tables.table import Table
from pcloud.uniform import UniformDataset, UniformLoader

__all__ = ["IdentifierWarning", "Tables"]

_DEFAULT_FEATURES = "kin"  # of jets: for tables all columns


class IdentifierWarning(UserWarning):
    """Warning of a column that numbers the events, and is therefore no input."""


class Tables(Modality[Table, TableColumns, UniformDataset]):
    """Events as rows of CSV, Parquet and npz files, with columns by name."""

    kind = "table"
    noun = "events"
    first_argument = "rows"
    sample_type = Table

    def own_splits(self, source: Source) -> list[str]:
        """Splits of a data set; files have none."""
        if is_given(source) or not is_dataset(source, self.kind):
            return []
        return list(dataset_info(str(source)).splits)

    def load(
        self, source: Source, split: str, options: DataOptions, limit: int | None = None
    ) -> Table:
        """Read the events of a data set by name, or of files."""
        if is_given(source):
            table = given_sample(str(source))
        elif is_dataset(source, self.kind):
            table = load_dataset(str(source), split)
        else:
            table = read_table(
                source,
                options.schema,
                on_bad_event=options.on_bad_jet,
                needs_truth=False,
                used=None if options.features == _DEFAULT_FEATURES else _given_columns(options),
            )
            _refuse_missing_truth(table, source, options.schema)
        return self.subsample(table, limit, options.split_seed)

    def keys(self, sample: Table) -> Keys:
        """Keys from the values of all columns, in the order of their names."""
        return sample.keys()

    def content_keys(self, sample: Table) -> Keys:
        """Keys from the values, whether or not rows of one event share a key."""
        return sample.content_keys()

    def hashes(self, sample: Table, columns: Iterable[str] = ()) -> Keys:
        """Hashes of values, labels, weights and targets."""
        return sample.hashes()

    def fits_schema(self, source: Source, schema: Any) -> bool:
        """Return whether a file has the columns of a schema, apart from label and weight."""
        if is_given(source) or is_dataset(source, self.kind):
            return False
        known = column_names(source)
        return all(name in known for name in read_schema_of_table(schema).named())

    def stream(
        self, source: Source, *, chunk_size: int, inputs: TableColumns, **reading: Any
    ) -> tuple[int, Iterable[Table]]:
        """Number of events of files, and the events in chunks."""
        table = read_table(
            source,
            reading.get("schema"),
            on_bad_event=reading.get("on_bad_jet", "error"),
            needs_truth=False,
            used=inputs.columns,
        )
        starts = range(0, len(table), chunk_size)
        return len(table), (table[start : start + chunk_size] for start in starts)

    def check_network(self, name: str, options: DataOptions) -> None:
        """Refuse options of jets, and a schema that is none of a table."""
        for option in ("jet_features", "collections"):
            if getattr(options, option) not in (None, "none"):
                raise InputError(f"{option} is for jets: an event of a table has only columns")
        if not is_given(options.data) and not is_dataset(options.data, self.kind):
            read_schema_of_table(options.schema)

    def fit_inputs(self, sample: Table, options: DataOptions) -> TableColumns:
        """Columns that the options name, or all that do not number the events."""
        names = self._names(sample, options)
        return TableColumns.fit(sample, names, standardise=options.standardise != "none")

    def _names(self, sample: Table, options: DataOptions) -> list[str]:
        if options.features == _DEFAULT_FEATURES:
            numbers = [n for n, c in sample.columns.items() if is_identifier(n, c)]
            names = [name for name in sample.columns if name not in numbers]
            if numbers and names:
                warnings.warn(
                    f"no inputs, because they number the events: {', '.join(numbers)}; features "
                    "names inputs, leave_out of the schema columns that are none",
                    IdentifierWarning,
                    stacklevel=2,
                )
        else:
            names = _given_columns(options)
        if not names:
            raise InputError("the table has no column of numbers that can be an input")
        for name in names:
            if name not in sample.columns:
                raise UnknownNameError("column of numbers", name, sample.columns)
        if len(set(names)) < len(names):
            raise InputError(f"features repeat: {', '.join(names)}")
        return names

    def check_inputs(self, data: UniformDataset, whose: str, *, is_training: bool = True) -> None:
        """Refuse columns that are constant in the training events."""
        if not is_training:
            return
        inputs = data.feature_set
        constant = (data.x == data.x[:1]).all(0)
        if constant.any():
            names = [n for n, c in zip(inputs.names, constant.tolist(), strict=True) if c]
            raise InputError(
                f"{whose} have a single value of {', '.join(names)}: leave it out (--features, or "
                "leave_out of the schema)"
            )

    def describe_inputs(self, inputs: TableColumns, options: DataOptions) -> list[str]:
        """Line on missing values."""
        found = [
            f"{n} ({100 * m:.2g} %)" for n, m in zip(inputs.names, inputs.missing, strict=True) if m
        ]
        return [f"missing values, replaced by the mean: {', '.join(found)}"] if found else []

    def inputs_from_dict(self, values: dict[str, Any]) -> TableColumns:
        """Inverse of ``columns.to_dict()``."""
        return TableColumns.from_dict(values)

    def flatten(self, sample: Any) -> tuple[Table, Callable[[Any], Any]]:
        """Table of a data frame or of a mapping of columns; a table itself."""
        if isinstance(sample, Mapping) or hasattr(sample, "iloc"):
            numbers = {str(name): np.asarray(sample[name]) for name in sample}
            columns = {n: c for n, c in numbers.items() if c.dtype.kind in "fiub"}
            return Table(columns=columns), lambda scores: scores
        return super().flatten(sample)

    def dataset(self, sample: Table, inputs: TableColumns) -> UniformDataset:
        """Standardised columns."""
        return UniformDataset(inputs(sample), sample, inputs)

    def loader(self, data: UniformDataset, batch_size: int = 512, **options: Any) -> UniformLoader:
        """Loader of batches of rows."""
        return UniformLoader(data, batch_size, **options)  # type: ignore[arg-type]

    def arguments(self, batch: Any) -> tuple[Tensor]:
        """Rows (B, F)."""
        return (batch.x,)

    def rows(self, sample: Table, inputs: TableColumns, missing: float = 0.0) -> Tensor:
        """Standardised columns (B, F)."""
        return inputs(sample, missing)


def _given_columns(options: DataOptions) -> list[str]:
    """Columns that are named as inputs."""
    given = options.features
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"features of a table are names of columns, not {name!r}")
    return names


def _refuse_missing_truth(table: Table, source: Source, schema: Any) -> None:
    """Refuse a label or weight that a schema names and files lack."""
    if isinstance(source, Mapping):
        return
    meaning = read_schema_of_table(schema)
    for name, values in ((meaning.label, table.label), (meaning.weight, table.weight)):
        if name is not None and values is None:
            with named_source(source):
                raise UnknownNameError("column", name, table.attrs[COLUMNS])


register_modality(Tables())
