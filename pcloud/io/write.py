"""Jets to files, and files to files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import awkward as ak
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pcloud.errors import InputError
from pcloud.io.check import describe, find_bad_jets
from pcloud.io.files import Paths, expand_paths, new_file
from pcloud.io.jets import FlatJets
from pcloud.io.read import JetStream, SchemaLike

__all__ = ["convert", "write_chunks", "write_jets"]


class _Writer(Protocol):
    @property
    def left_out(self) -> Sequence[str]: ...
    def write(self, jets: FlatJets) -> None: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


def write_jets(jets: ak.Array, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write jets to a file, whole or not at all.

    Parameters
    ----------
    jets : awkward.Array
        As from `read_jets`. ``attrs["classes"]``, if there, is kept.
    path : str or Path
        ``.parquet`` (ragged, the format to work with), ``.npz`` (flat arrays and offsets), or
        ``.h5`` (the Landscape layout, as pandas writes it: zero-padded to 200 particles, at most
        two classes, no extra columns but the truth; a warning names what is left out).
    overwrite : bool
        Replace the file if it exists.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    InputError
        If the suffix is unknown or the jets are such as `read_jets` would refuse.
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


def convert(
    source: Paths,
    target: str | os.PathLike[str],
    schema: SchemaLike = None,
    *,
    chunk_size: int = 20_000,
    on_bad_jet: str = "error",
    check_units: bool = True,
    overwrite: bool = False,
    progress: bool = False,
) -> int:
    """Convert files of jets to one file, in chunks, whole or not at all.

    Parameters
    ----------
    source, schema, on_bad_jet, check_units
        As for `read_jets`.
    target : str or Path
        As for `write_jets`.
    chunk_size : int
        Number of jets held in memory.
    overwrite : bool
        Replace `target` if it exists.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    int
        Number of jets written.

    Raises
    ------
    FileExistsError
        If `target` exists and `overwrite` is false.
    FileNotFoundError, InputError, UnknownNameError
        As from `read_jets` and `write_jets`, or if `target` is one of the sources.
    """
    target = Path(target)
    if any(target.exists() and file.samefile(target) for file in expand_paths(source)):
        raise InputError(f"{target}: cannot be converted into itself")
    stream = JetStream(source, schema, on_bad_jet=on_bad_jet, check_units=check_units)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not progress,
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(f"{target.name}", total=stream.count())
        return write_chunks(
            stream.chunks(chunk_size),
            target,
            stream.classes,
            overwrite,
            lambda num_jets: bar.advance(task, num_jets),
        )


def write_chunks(
    chunks: Iterable[FlatJets],
    path: Path,
    classes: tuple[str, ...],
    overwrite: bool,
    advance: Callable[[int], object] = lambda num_jets: None,
) -> int:
    """Write jets that come in chunks of the same columns, whole or not at all.

    Parameters
    ----------
    chunks : iterable of FlatJets
        Taken one after the other, when there is room for them.
    path, overwrite
        As for `write_jets`.
    classes : tuple of str
        Names of the classes.
    advance : callable, optional
        Told the number of jets of each chunk that is written.

    Returns
    -------
    int
        Number of jets written.

    Raises
    ------
    FileExistsError, InputError
        As from `write_jets`, or if the columns change.
    """
    make = _writer_class(path)
    writer: _Writer | None = None
    types: dict[str, np.dtype] = {}
    total = 0
    with new_file(path, overwrite) as part:
        try:
            for jets in chunks:
                if writer is None:
                    writer, types = make(part, jets, classes), _types(jets)
                    _warn_left_out(path, writer.left_out)
                elif types != _types(jets):
                    raise InputError(
                        f"{path}: the columns change their types between the files, from "
                        f"{types} to {_types(jets)}: convert them separately"
                    )
                writer.write(jets)
                total += len(jets)
                advance(len(jets))
            if writer is None:
                raise InputError(f"{path}: there are no jets to write")
            writer.close()
        except BaseException:
            if writer is not None:
                writer.discard()
            raise
    return total


def _types(jets: FlatJets) -> dict[str, np.dtype]:
    columns = {"p4": jets.p4[0], **jets.particle, **jets.jet}
    return {name: values.dtype for name, values in columns.items()}


def _warn_left_out(path: Path, names: Iterable[str]) -> None:
    if names := list(names):
        warnings.warn(
            f"{path}: the Landscape layout has no place for {', '.join(names)}: left out",
            stacklevel=4,
        )


def _writer_class(path: Path) -> Callable[[Path, FlatJets, tuple[str, ...]], _Writer]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from pcloud.io.parquet import ParquetWriter

        return ParquetWriter
    if suffix == ".npz":
        from pcloud.io.npz import NpzWriter

        return NpzWriter
    if suffix in (".h5", ".hdf5"):
        from pcloud.io.pandas_table import LandscapeWriter

        return LandscapeWriter
    raise InputError(f"{path}: jets are written to .parquet, .npz or .h5, not {suffix!r}")
