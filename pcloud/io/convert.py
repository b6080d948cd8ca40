"""Conversion of files of jets: to one file, to several, or each by itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pcloud.errors import InputError
from pcloud.io.files import Paths, check_new_file, expand_paths, file_identity, mirrored_paths
from pcloud.io.jets import FlatJets
from pcloud.io.read import JetFiles, SchemaLike
from pcloud.io.write import holds_columns, write_chunks
from pcloud.run_files import make_folder
from pcloud.terminal import Terminal

__all__ = ["Conversion", "FileConversion", "convert", "convert_files"]

_SHUFFLED_CHUNKS = 10
"""Chunks of jets that are permuted in memory."""


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
    row_group: int | None = None,
    shuffle: bool = False,
    files: int | None = None,
    seed: int = 0,
) -> int:
    """Convert files of jets to one file in chunks; it is created only if everything succeeds.

    Parameters
    ----------
    source, schema, on_bad_jet, check_units
        As for `read_jets`.
    target : str or Path
        File to write, as for `write_jets`; with `files` a folder.
    chunk_size : int
        Number of jets in memory; with `shuffle` ten times as many.
    overwrite : bool
        If True, an existing `target` is replaced.
    progress : bool
        If True, a progress bar is shown on stderr.
    row_group : int, optional
        Number of jets of a row group of a Parquet file; by default some 20 000.
    shuffle : bool
        If True, the jets are written in random order.
    files : int, optional
        Number of Parquet files of equal numbers of jets in the folder `target`.
    seed : int
        Seed of the random order.

    Returns
    -------
    int
        Number of jets written.

    Raises
    ------
    FileExistsError
        If `target` exists and `overwrite` is False.
    FileNotFoundError, InputError, UnknownNameError
        As from `read_jets` and `write_jets`, or if `target` is one of the sources.
    """
    target = Path(target)
    targets = [target] if files is None else _parts(make_folder(target), files)
    keys = True if holds_columns(targets[0]) else None
    sources = expand_paths(source)
    for path in targets:
        if path.exists() and any(file.samefile(path) for file in sources):
            raise InputError(f"{path}: cannot be converted into itself")
    for path in targets:
        check_new_file(path, overwrite)
    stream = JetFiles(source, schema, on_bad_jet=on_bad_jet, check_units=check_units, keys=keys)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not progress,
        console=Terminal(stderr=True),
    )
    number = stream.count()
    with bar:
        task = bar.add_task(f"{target.name}", total=number)

        def advance(num_jets: int) -> None:
            bar.advance(task, num_jets)

        chunks = stream.chunks(chunk_size)
        if shuffle:
            from pcloud.io.shuffle import shuffled_chunks

            size = _SHUFFLED_CHUNKS * chunk_size
            chunks = shuffled_chunks(
                chunks, targets[0].absolute().parent, number, classes=stream.classes, size=size,
                seed=seed,
            )  # fmt: skip
        options: dict[str, Any] = {"row_group": row_group, "advance": advance}
        if files is None:
            return write_chunks(chunks, target, stream.classes, overwrite, **options)
        return _write_parts(chunks, targets, number, stream.classes, overwrite, options)


def _parts(folder: Path, number: int) -> list[Path]:
    digits = max(3, len(str(number)))
    return [folder / f"part-{i:0{digits}d}.parquet" for i in range(1, number + 1)]


def _write_parts(
    chunks: Iterator[FlatJets],
    targets: Sequence[Path],
    num_jets: int,
    classes: tuple[str, ...],
    overwrite: bool,
    options: dict[str, Any],
) -> int:
    """Write jets to several files, each with its part of the number expected."""
    left = _Rest(chunks)
    total = 0
    for i, path in enumerate(targets):
        number = num_jets * (i + 1) // len(targets) - num_jets * i // len(targets)
        jets = left.take(number)
        first = next(jets, None)
        if first is None:
            break
        total += write_chunks(_with_first(first, jets), path, classes, overwrite, **options)
    return total


def _with_first(first: FlatJets, others: Iterable[FlatJets]) -> Iterator[FlatJets]:
    yield first
    yield from others


class _Rest:
    """Jets of chunks that have not been taken yet."""

    def __init__(self, chunks: Iterator[FlatJets]) -> None:
        self._chunks = chunks
        self._jets: FlatJets | None = None

    def take(self, number: int) -> Iterator[FlatJets]:
        """The next `number` jets, or fewer at the end."""
        while number:
            jets = self._jets if self._jets is not None else next(self._chunks, None)
            if jets is None:
                return
            taken = jets.slice(0, min(number, len(jets)))
            number -= len(taken)
            self._jets = jets.slice(len(taken), len(jets)) if len(taken) < len(jets) else None
            if len(taken):
                yield taken


@dataclass(frozen=True)
class Conversion:
    """Result of the conversion of a file.

    Parameters
    ----------
    path : Path
        File that was written.
    jets : int
        Number of its jets.
    is_old : bool
        True if it was there already.
    """

    path: Path
    jets: int
    is_old: bool = False


@dataclass(frozen=True)
class FileConversion:
    """Conversion of one file, which a process of its own can do.

    Parameters
    ----------
    source, target : Path
        File to read, and file to write.
    origin : dict
        Plain values that identify the file and the options.
    options : dict
        Options of :func:`convert`.
    """

    source: Path
    target: Path
    origin: dict[str, Any]
    options: dict[str, Any]

    def is_done(self) -> bool:
        """Return True if the file was written from the same one with the same options."""
        from pcloud.io.parquet import read_origin

        return self.target.exists() and read_origin(self.target) == self.origin

    def __call__(self) -> Conversion:
        """Convert the file."""
        make_folder(self.target.parent)
        options = dict(self.options)
        row_group = options.pop("row_group", None)
        chunk_size = options.pop("chunk_size", 20_000)
        stream = JetFiles(self.source, **options, keys=True)
        number = write_chunks(
            stream.chunks(chunk_size),
            self.target,
            stream.classes,
            True,
            row_group=row_group,
            origin=self.origin,
        )
        return Conversion(self.target, number)


def convert_files(
    source: Paths,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    run: Callable[[Sequence[FileConversion]], Iterable[Conversion]] | None = None,
    **options: Any,
) -> list[Conversion]:
    """Convert each of many files to a Parquet file of its own.

    A file that exists already and was converted from the same file with the same options stays: an
    interrupted command continues when it is repeated.

    Parameters
    ----------
    source : str, Path or sequence of these
        Files, glob patterns or folders.
    folder : str or Path
        Folder of the files, which have the names of those that they are made from, below the deepest
        folder that contains all of these.
    overwrite : bool
        If True, other files of these names are replaced.
    run : callable, optional
        Function that does some conversions, in any order and place; by default one after the other.
    **options
        `schema`, `on_bad_jet`, `check_units`, `chunk_size` and `row_group` of :func:`convert`.

    Returns
    -------
    list of Conversion
        One for each file, in their order.

    Raises
    ------
    FileExistsError
        If there is another file and `overwrite` is False; before any is converted.
    FileNotFoundError, InputError, UnknownNameError
        As from :func:`convert`.
    """
    files = expand_paths(source)
    targets = mirrored_paths(files, Path(folder))
    about = {name: str(options[name]) for name in sorted(options) if name != "chunk_size"}
    work = [
        FileConversion(file, target, about | file_identity(file), options)
        for file, target in zip(files, targets, strict=True)
    ]
    make_folder(Path(folder))
    done = [part.is_done() for part in work]
    for part, is_done in zip(work, done, strict=True):
        if part.target.exists() and part.source.samefile(part.target):
            raise InputError(f"{part.target}: cannot be converted into itself")
        if part.target.exists() and not (is_done or overwrite):
            raise FileExistsError(
                f"{part.target}: exists already, from another file or with other options; "
                "overwrite=True (--overwrite) replaces it"
            )
    missing = [part for part, is_done in zip(work, done, strict=True) if not is_done]
    made = run(missing) if run is not None else (part() for part in missing)
    found = {conversion.path: conversion for conversion in made}
    return [
        Conversion(part.target, _num_rows(part.target), is_old=True)
        if is_done
        else found[part.target]
        for part, is_done in zip(work, done, strict=True)
    ]


def _num_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows
