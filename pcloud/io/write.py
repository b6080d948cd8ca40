"""Writing of jets to files."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import awkward as ak
import numpy as np

from pcloud.errors import InputError
from pcloud.io.check import describe, find_bad_jets
from pcloud.io.files import new_file
from pcloud.io.jets import FlatJets
from pcloud.keys import SPLIT_KEY, jet_keys

__all__ = ["holds_columns", "write_chunks", "write_jets"]


class _Writer(Protocol):
    @property
    def left_out(self) -> Sequence[str]: ...
    def write(self, jets: FlatJets) -> None: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


def write_jets(jets: ak.Array, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write jets to a file; the file is created only if everything succeeds.

    Parameters
    ----------
    jets : awkward.Array
        Jets as from `read_jets`. ``attrs["classes"]`` is stored if it exists.
    path : str or Path
        File with the suffix ``.parquet`` (ragged, preferred), ``.npz`` (flat arrays
        and offsets), or ``.h5``. The first two also get the column ``split_key``, by which jets
        stay in their split (see :mod:`pcloud.keys`), unless the jets have it. The last is the Landscape layout in the format of pandas: padded to
        200 particles, with at most two classes and no extra columns except the true momentum. A
        warning names the columns that are omitted.
    overwrite : bool
        If True, an existing file is replaced.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    InputError
        If the suffix is unknown, or if there are bad jets, which `read_jets` would refuse.

    Examples
    --------
    >>> jets = pcloud.load_dataset("simulated", "test")
    >>> pcloud.write_jets(jets[jets.label == 1], "top.parquet")  # doctest: +SKIP
    """
    path = Path(path)
    flat = FlatJets.from_awkward(jets)
    classes = tuple(jets.attrs.get("classes") or ())
    bad = find_bad_jets(flat, {}, len(classes))
    if bad:
        raise InputError(f"cannot write bad jets: {describe(bad)}")
    if not len(flat):
        raise InputError(f"{path}: there are no jets to write")
    if "label" in flat.jet:
        flat.jet["label"] = flat.jet["label"].astype(np.int64)
    write_chunks([flat], path, classes, overwrite)


def write_chunks(
    chunks: Iterable[FlatJets],
    path: Path,
    classes: tuple[str, ...],
    overwrite: bool,
    advance: Callable[[int], object] = lambda num_jets: None,
    *,
    row_group: int | None = None,
    origin: Mapping[str, Any] | None = None,
) -> int:
    """Write chunks of jets with the same columns; the file is created only if everything succeeds.

    Parameters
    ----------
    chunks : iterable of FlatJets
        Chunks, of which only one at a time is in memory.
    path, overwrite
        As for `write_jets`.
    classes : tuple of str
        Names of the classes.
    advance : callable, optional
        Function that is called with the number of jets of each chunk after it is written.
    row_group : int, optional
        Number of jets of a row group of a Parquet file.
    origin : mapping, optional
        Plain values that are stored in a Parquet file.

    Returns
    -------
    int
        Number of jets written.

    Raises
    ------
    FileExistsError, InputError
        As from `write_jets`, or if the columns differ between chunks.
    """
    make, has_columns = _writer_class(path)
    given: dict[str, Any] = {"row_group": row_group, "origin": origin}
    given = {name: value for name, value in given.items() if value is not None}
    if given and path.suffix.lower() != ".parquet":
        raise InputError(f"{path}: only Parquet files have row groups")
    writer: _Writer | None = None
    types: dict[str, np.dtype] = {}
    total = 0
    with new_file(path, overwrite) as part:
        try:
            for chunk in chunks:
                jets = _with_keys(chunk) if has_columns else _without_own_keys(chunk)
                if writer is None:
                    writer = make(part, jets, classes, **given)
                    types = _types(jets)
                    _warn_left_out(path, writer.left_out)
                elif types != _types(jets):
                    raise InputError(
                        f"{path}: the types of the columns differ between the files, "
                        f"{types} and {_types(jets)}: convert them separately"
                    )
                writer.write(jets)
                total += len(jets)
                advance(len(jets))
            if writer is None:
                raise InputError(f"{path}: there are no jets to write")
            writer.close()
        except BaseException:
            if writer is not None:
                with contextlib.suppress(OSError):  # of bytes that did not fit on the disk
                    writer.discard()
            raise
    return total


def holds_columns(path: Path) -> bool:
    """Return True if the format of a file holds any columns, such as the keys of jets."""
    return _writer_class(path)[1]


def _with_keys(jets: FlatJets) -> FlatJets:
    """Jets with the column ``split_key``, computed unless they have it."""
    if SPLIT_KEY not in jets.jet:
        return replace(jets, jet=jets.jet | {SPLIT_KEY: jet_keys(jets.offsets, jets.p4)})
    keys = jets.jet[SPLIT_KEY]
    if keys.dtype.kind not in "iu":
        raise InputError(f"column {SPLIT_KEY!r} holds keys of jets, not {keys.dtype}")
    return replace(jets, jet=jets.jet | {SPLIT_KEY: keys.astype(np.uint64, copy=False)})


def _without_own_keys(jets: FlatJets) -> FlatJets:
    """Jets without the column ``split_key`` if it is what their momenta give again."""
    keys = jets.jet.get(SPLIT_KEY)
    if keys is None or not np.array_equal(keys, jet_keys(jets.offsets, jets.p4)):
        return jets
    return replace(jets, jet={n: values for n, values in jets.jet.items() if n != SPLIT_KEY})


def _types(jets: FlatJets) -> dict[str, np.dtype]:
    columns = {"p4": jets.p4[0], **jets.particle, **jets.jet}
    for collection, entries in jets.collections.items():
        columns |= {f"{collection}.{kind}.{name}": v for (kind, name), v in entries.values()}
    return {name: values.dtype for name, values in columns.items()}


def _warn_left_out(path: Path, names: Iterable[str]) -> None:
    if names := list(names):
        layout = "the npz format" if path.suffix.lower() == ".npz" else "the Landscape layout"
        warnings.warn(
            f"{path}: {layout} has no column for {', '.join(names)}: omitted",
            stacklevel=4,
        )


def _writer_class(
    path: Path,
) -> tuple[Callable[..., _Writer], bool]:
    """Class of the writer of a format, and True if the format holds any columns."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from pcloud.io.parquet import ParquetWriter

        return ParquetWriter, True
    if suffix == ".npz":
        from pcloud.io.npz import NpzWriter

        return NpzWriter, True
    if suffix in (".h5", ".hdf5"):
        from pcloud.io.pandas_table import LandscapeWriter

        return LandscapeWriter, False
    raise InputError(f"{path}: jets are written to .parquet, .npz or .h5, not {suffix!r}")
