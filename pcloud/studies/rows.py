"""Rows of files, as they are read to be scored, and as they are named in a file of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa

from pcloud.io.load import ENTRY, INDEX
from pcloud.io.read import ENTRY_FILE, FILES, KEPT
from pcloud.modality import Sample, Source
from pcloud.training.run_folder import RunFolder

__all__ = ["joined", "row_columns", "schema_for", "with_names_of_files"]

FILE = "file"
"""Column of the file of a jet, where there are several."""


def row_columns(jets: Sample) -> dict[str, Any]:
    """Columns of some jets by which their scores are joined to other data.

    They are ``file`` (where there are several), ``entry``, the row in it, in files of events
    ``index``, the number of the jet in its event, and the columns that the schema keeps.

    Parameters
    ----------
    jets : awkward.Array or other data
        Entries as read from files. Those without rows in files have no such columns.
    """
    if ENTRY not in jets.fields:
        return {}
    kept = jets.attrs.get(KEPT, ())
    names = [n for n in (ENTRY_FILE, ENTRY, INDEX, *kept) if n in jets.fields]
    columns = {name: _values(jets[name]) for name in dict.fromkeys(names)}
    return with_names_of_files(columns, jets.attrs.get(FILES, ()))


def schema_for(run: RunFolder, source: Source) -> Any:
    """Schema of files to score: that of the run if they have its columns, else None, to detect it."""
    own = run.config.schema
    return own if own is not None and run.modality.fits_schema(source, own) else None


def with_names_of_files(columns: Mapping[str, Any], files: Any) -> dict[str, Any]:
    """Columns with the names of files in the place of their numbers."""
    columns = dict(columns)
    if ENTRY_FILE not in columns:
        return columns
    numbers = pa.array(np.asarray(columns.pop(ENTRY_FILE), dtype=np.int32))
    return {FILE: pa.DictionaryArray.from_arrays(numbers, list(files)), **columns}


def joined(parts: Sequence[Any]) -> Any:
    """One column from its parts."""
    if isinstance(parts[0], pa.DictionaryArray):
        return pa.chunked_array(parts).unify_dictionaries()
    return np.concatenate(parts)


def _values(column: Any) -> Any:
    return ak.to_numpy(column) if isinstance(column, ak.Array) else np.asarray(column)
