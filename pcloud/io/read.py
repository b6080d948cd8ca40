"""Reading of jets from files, as a whole or in chunks."""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.check import BadJetWarning, DoubtfulValuesWarning, check_units
from pcloud.io.detect import detect_schema
from pcloud.io.events import jets_of
from pcloud.io.files import Paths, expand_paths, input_errors, sniff
from pcloud.io.jets import FlatJets, GrowingJets
from pcloud.io.known_schemas import SCHEMAS, as_schema
from pcloud.io.labels import ClassOfFile
from pcloud.io.load import ENTRY, JetReader
from pcloud.io.schema import JetSchema
from pcloud.io.selection import Selection
from pcloud.io.table import Table
from pcloud.io.vectors import with_components
from pcloud.keys import SPLIT_KEY, jet_keys
from pcloud.memory import check_memory

__all__ = [
    "COLUMNS",
    "ENTRY_FILE",
    "FILES",
    "KEPT",
    "LEFT_OUT",
    "PARTICLE_CLASSES",
    "TRANSFORMS",
    "JetFiles",
    "column_names",
    "count_jets",
    "iter_jets",
    "read_jets",
    "rechunk",
]

SchemaLike = JetSchema | Mapping[str, Any] | str | None

COLUMNS = "columns"
"""Attribute of jets of which only some columns were read: the names of all columns of the file."""

FILES = "files"
"""Attribute of jets with entries: the paths of their files."""

TRANSFORMS = "transforms"
"""Attribute of jets with the transformations of their targets, by name."""

PARTICLE_CLASSES = "particle_classes"
"""Attribute of jets with the names of the classes of labels of particles, by name."""

KEPT = "kept"
"""Attribute of jets: names of the columns per jet that are copied to the scores."""

ENTRY_FILE = "entry_file"
"""Column of the file of each jet, as index of the attribute ``files``, if there are several."""

LEFT_OUT = "left_out"
"""Attribute of a chunk of jets with entries: rows of jets that were left out, with their reasons."""

_MAX_RESERVED_JETS = 1_000_000  # jets for which the memory of a chunk is reserved at once


def read_jets(
    path: Paths,
    schema: SchemaLike = None,
    *,
    columns: Collection[str] | None = None,
    start: int = 0,
    stop: int | None = None,
    on_bad_jet: str = "error",
    check_units: bool = True,
    entries: bool = False,
) -> ak.Array:
    """Read jets from HDF5, ROOT, Parquet or npz files.

    Zero-padding is removed: a jet has as many entries as particles.

    Parameters
    ----------
    path : str, Path, sequence of these, or dict
        File, glob pattern, directory (all its files of jets, sorted by name), or a sequence of
        these, which are read in order. A dictionary of these by the names of classes gives all jets
        of a file their class, and the files need no label.
    schema : JetSchema, str, or dict, optional
        Schema of the file: a `JetSchema`, its ``to_dict``, or a name in ``pcloud.io.SCHEMAS``.
        Without it, the schema of the Landscape, JetClass and EnergyFlow samples and of files of
        pcloud is detected from the columns. A dictionary without ``p4`` changes fields of the schema
        that is detected.
    columns : collection of str, optional
        Names of the extra columns to read; by default all. ``p4``, and ``label``, ``jet_p4``,
        weights, targets, event numbers and kept columns if the file has them, are always read.
        Collections are read whole (``"sv"``) or by column (``"sv.mass"``). NaN and infinity in the
        columns that are named here are errors; in others they stay.
    start, stop : int
        Range of jets, counted over all files.
    on_bad_jet : str
        Treatment of jets without particles, with NaN, infinite or unphysical momenta, or with an
        invalid label: ``"error"``, or ``"drop"`` to omit them with a warning.
    check_units : bool
        If True, files with a median jet pt above 7 TeV are refused, because the unit is probably
        wrong.
    entries : bool
        If True, jets have the row in their file as ``entry`` (int64), and in files of events their
        number in the event as ``index``. If there are several files, ``entry_file`` is the index of the file in ``attrs["files"]``.

    Returns
    -------
    awkward.Array
        Records with ``p4`` (``var * Momentum4D[E, px, py, pz]``, GeV), the extra columns, and
        ``label`` (int64) and ``split_key`` (uint64, see :mod:`pcloud.keys`) if the file has them.
        ``attrs["classes"]`` contains the names of the classes if they are known, and
        ``attrs["columns"]`` the names of all columns of the file if `columns` is given. Momenta are
        float64 if they are stored in float64, else float32.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    InputError
        If a file is damaged, has unknown columns, or contains bad jets, or if the jets need clearly
        more memory than is free; see :func:`pcloud.memory.check_memory`.
    UnknownNameError
        If a column is missing; the message suggests the most similar name.

    Examples
    --------
    >>> jets = pcloud.read_jets("jets.root", {"p4": "Jet"})  # doctest: +SKIP
    >>> jets.p4.pt  # doctest: +SKIP
    """
    stream = JetFiles(
        path, schema, start, stop, on_bad_jet, check_units, columns=columns, entries=entries
    )
    return stream.to_awkward(stream.read())


def iter_jets(
    path: Paths,
    schema: SchemaLike = None,
    *,
    columns: Collection[str] | None = None,
    chunk_size: int = 100_000,
    start: int = 0,
    stop: int | None = None,
    on_bad_jet: str = "error",
    check_units: bool = True,
    keys: bool | None = None,
    entries: bool = False,
    needs_truth: bool = True,
) -> Iterator[ak.Array]:
    """Read jets in chunks; the memory does not depend on the size of the files.

    In memory are the chunk that is being read, the pieces of the file that are being decoded, and
    the chunks that the caller holds. A loop that ends with ``del jets`` holds no second chunk.

    Parameters
    ----------
    path, schema, columns, start, stop, on_bad_jet, check_units, entries
        As for `read_jets`.
    chunk_size : int
        Number of jets per chunk; the last chunk can be smaller.
    keys : bool, optional
        If True, all jets have the column ``split_key``, which is computed where a file does not
        have it. If False, none have it. By default it depends on the first file.
    needs_truth : bool
        If False, files need not have the label, the weight and the targets of the schema.

    Returns
    -------
    iterator of awkward.Array
        Jets as from `read_jets`. Paths and schema are checked before the function returns.

    Raises
    ------
    FileNotFoundError, InputError, UnknownNameError
        As from `read_jets`; errors in later parts of a file are raised when they are read.

    Examples
    --------
    >>> for jets in pcloud.iter_jets("jets.h5", chunk_size=10_000):  # doctest: +SKIP
    ...     print(len(jets))
    """
    reading = (start, stop, on_bad_jet, check_units, keys, columns, entries, needs_truth)
    stream = JetFiles(path, schema, *reading)
    return stream.awkward_chunks(stream.chunks(chunk_size))


def count_jets(path: Paths, schema: SchemaLike = None) -> int:
    """Count the jets of files without reading them.

    Parameters
    ----------
    path, schema
        As for `read_jets`.

    Returns
    -------
    int
        Number of jets, including bad ones.

    Raises
    ------
    FileNotFoundError, InputError, UnknownNameError
        As from `read_jets`.
    """
    return JetFiles(path, schema, needs_truth=False).count()


def column_names(path: Paths, schema: SchemaLike = None) -> list[str]:
    """Names of the columns of the jets of a file: ``p4``, extra columns, ``jet_p4``, ``label``.

    Parameters
    ----------
    path, schema
        As for `read_jets`. The columns are those of the first file.

    Raises
    ------
    FileNotFoundError, InputError, UnknownNameError
        As from `read_jets`.
    """
    return JetFiles(path, schema, columns=(), needs_truth=False).available


class JetFiles:
    """Jets of several files as one sequence, used by `read_jets` and `convert`.

    Parameters
    ----------
    path, schema, start, stop, on_bad_jet, check_units, columns, entries
        As for `read_jets`.
    keys : bool, optional
        If True, all jets have the column ``split_key``, which is computed where a file does not
        have it. If False, none have it. By default it depends on the first file.
    needs_truth : bool
        If False, files need not have the label, the weight and the targets of the schema.

    Attributes
    ----------
    available : list of str
        Names of the columns of the first file, read or not.
    classes : tuple of str
        Names of the classes, empty if they are not known.
    empty : FlatJets
        Zero jets with the columns of the first file.
    """

    def __init__(
        self,
        path: Paths,
        schema: SchemaLike = None,
        start: int = 0,
        stop: int | None = None,
        on_bad_jet: str = "error",
        check_units: bool = True,
        keys: bool | None = None,
        columns: Collection[str] | None = None,
        entries: bool = False,
        needs_truth: bool = True,
    ) -> None:
        if on_bad_jet not in ("error", "drop"):
            raise UnknownNameError("value of on_bad_jet", str(on_bad_jet), ("error", "drop"))
        if start < 0 or (stop is not None and stop < start):
            raise InputError(f"start={start} and stop={stop} are not a range of jets")
        self._files, self._classes_of_files = _files_and_classes(path)
        self._changes: dict[str, Any] = {}  # of the schema that is detected
        self._schema = None
        if isinstance(schema, Mapping) and schema and "p4" not in schema:
            self._changes |= schema
        else:
            self._schema = as_schema(schema)
        self._start = start
        self._stop = stop
        self._on_bad_jet = on_bad_jet
        self._check_units = check_units
        self._columns = columns
        self._entries = entries
        self._needs_truth = needs_truth
        self._left_out: list[dict[str, np.ndarray]] = []
        self._numbers: dict[int, int] = {}  # of the jets of each file, so that none is opened twice
        reader = self._open(self._files[0])
        try:
            self.available = reader.available
            for name in columns or ():
                if name not in reader.available:
                    where = str(self._files[0])
                    raise UnknownNameError("column", name, reader.available, where)
            self._names = reader.names
            self.classes = reader.classes
            with input_errors(self._files[0], "jets"):
                self._keys = reader.has_keys if keys is None else keys
                self.empty = self._complete(reader.empty(), 0)
            self._transforms = reader.schema.transforms
            self._particle_classes = reader.schema.particle_classes
            self._kept = [name for name in reader.schema.kept if name in self.empty.jet]
        except BaseException:
            reader.close()
            raise
        self._first: JetReader | None = reader  # open until its jets are read
        self._close = weakref.finalize(self, reader.close)

    @cached_property
    def num_jets(self) -> int:
        """Number of jets in the range, including bad ones, from the metadata of the files."""
        total = 0
        for index in range(len(self._files)):
            if self._stop is not None and total >= self._stop:
                break
            total += self._number(index)
        return max(0, (total if self._stop is None else min(self._stop, total)) - self._start)

    def read(self) -> FlatJets:
        """All jets, if there is memory for them.

        Raises
        ------
        InputError
            If there is clearly too little memory.
        """
        parts = itertools.chain([self.empty], self.affordable_pieces())
        return FlatJets.concatenate(parts, self.num_jets)

    def affordable_pieces(
        self, share: float = 1.0, bytes_per_particle: float = 0.0
    ) -> Iterator[FlatJets]:
        """Jets in pieces, of which a share is to be held in memory.

        Parameters
        ----------
        share : float
            Fraction of the jets that will be held.
        bytes_per_particle : float
            Memory that will be needed for each of their particles in addition.

        Raises
        ------
        InputError
            If there is clearly too little memory for them, by the size of the first piece.
        """
        is_checked = False
        for jets in self.pieces():
            if len(jets) and not is_checked:
                per_jet = (jets.nbytes + bytes_per_particle * int(jets.offsets[-1])) / len(jets)
                number = round(share * self.num_jets)
                check_memory(per_jet * number, f"{self._files[0]}: {number:,} jets")
                is_checked = True
            yield jets
            del jets

    def count(self) -> int:
        """Number of jets in all files, including bad ones."""
        return sum(self._number(index) for index in range(len(self._files)))

    def _number(self, index: int) -> int:
        """Number of jets of a file, including bad ones."""
        if index not in self._numbers:
            try:
                self._open(self._files[index], index).close()
            except BaseException:
                self._close()
                raise
        return self._numbers[index]

    def _take(self, index: int) -> JetReader:
        """Reader of a file; that of the first file is open already."""
        reader = self._first
        if index > 0 or reader is None or not self._close.alive:
            return self._open(self._files[index], index)
        self._first = None
        self._close.detach()
        return reader

    def pieces(self) -> Iterator[FlatJets]:
        """Jets in pieces of the size that is efficient to read."""
        done = 0
        selection = Selection()
        doubts: list[str] = []
        for index, file in enumerate(self._files):
            if self._stop is not None and done >= self._stop:
                break
            with closing(self._take(index)) as reader:
                self._check_agreement(reader)
                first = max(0, self._start - done)
                last = reader.num_jets if self._stop is None else self._stop - done
                with input_errors(file, "jets"):
                    yield from self._good(reader, first, min(last, reader.num_jets), index)
                done += reader.num_jets
                selection.add(reader.selection)
                doubts = doubts or [f"{file}: {doubt}" for doubt in reader.doubts]
        if self._stop == 0:
            return
        if done == 0:
            raise InputError(f"{self._files[0]}: contains no jets")
        if self._start > done:
            raise InputError(f"start={self._start} is beyond the {done} jets of {self._files[0]}")
        self._warn(reader, selection, doubts)

    @property
    def columns(self) -> Collection[str] | None:
        """Names of the extra columns that are read; None for all."""
        return self._columns

    @property
    def paths(self) -> list[Path]:
        """Paths of the files."""
        return self._files

    def groups(self) -> list[tuple[int, int, int]]:
        """Index of the file, first and last row of each group of rows that can be read by itself.

        Returns
        -------
        list of tuple
            Empty if a file has none, such as one of another format than Parquet, or one of events.
        """
        found: list[tuple[int, int, int]] = []
        for index in range(len(self._files)):
            with closing(self._take(index)) as reader:
                self._check_agreement(reader)
                groups = reader.table.groups()
                if not groups or groups[-1][1] != reader.num_jets:
                    return []
                found += [(index, start, stop) for start, stop in groups]
        return found

    def reader(self, index: int) -> JetReader:
        """Open a file, which the caller closes."""
        return self._open(self._files[index], index)

    def read_group(
        self, reader: JetReader, index: int, start: int, stop: int
    ) -> tuple[FlatJets, dict[str, int]]:
        """Jets of a range of rows of an open file, and the numbers of bad jets left out by reason."""
        parts, dropped = [], Counter[str]()
        with input_errors(self._files[index], "jets"):
            for jets, bad in reader.pieces(start, stop, self._on_bad_jet):
                parts.append(self._complete(jets, index))
                dropped.update({reason: len(rows) for reason, rows in bad.items()})
            jets = parts[0] if len(parts) == 1 else FlatJets.concatenate([self.empty, *parts])
        return jets, dict(dropped)

    def chunks(self, size: int) -> Iterator[FlatJets]:
        """Jets in chunks of `size`; the last can be smaller.

        Raises
        ------
        InputError
            If `size` is not positive.
        """
        if size < 1:
            raise InputError(f"chunk_size must be at least 1, got {size}")
        return rechunk(self.pieces(), size)

    def to_awkward(self, jets: FlatJets) -> ak.Array:
        """Jets of this stream as records; ``attrs`` has the names of the classes and columns."""
        records = jets.to_awkward(self.classes)
        if self._kept:
            records.attrs[KEPT] = self._kept
        if self._transforms:
            records.attrs[TRANSFORMS] = dict(self._transforms)
        if self._particle_classes:
            named = {name: list(classes) for name, classes in self._particle_classes.items()}
            records.attrs[PARTICLE_CLASSES] = named
        if self._entries:
            records.attrs[FILES] = [str(file) for file in self._files]
        if self._columns is not None:
            records.attrs[COLUMNS] = self.available
        return records

    def awkward_chunks(self, chunks: Iterator[FlatJets]) -> Iterator[ak.Array]:
        """Chunks of jets of this stream as records, of which one is held at a time."""
        for jets in chunks:
            records = self._with_left_out(jets)
            del jets
            yield records
            del records  # before the next chunk is read
        if self._left_out:
            yield self._with_left_out(self.empty)

    def _with_left_out(self, jets: FlatJets) -> ak.Array:
        """Jets as records, whose attributes have the rows of the jets that were left out."""
        records = self.to_awkward(jets)
        if self._left_out:
            records.attrs[LEFT_OUT] = self._left_out
            self._left_out = []
        return records

    def _open(self, file: Path, index: int = 0) -> JetReader:
        class_of_file = self._classes_of_files[index] if self._classes_of_files else None
        with input_errors(file, "jets"):
            schema = self._schema
            tree = schema.tree if schema else self._changes.get("tree")
            table = open_table(file, tree, schema.labels if schema else None)
            try:
                schema = with_components(self._schema_of(table), table)
                schema = schema if self._needs_truth else schema.with_optional_truth()
                jets = jets_of(table, schema)
                reader = JetReader(
                    jets, schema, self._columns, class_of_file, self._entries, self._needs_truth
                )
                self._numbers[index] = reader.num_jets
                return reader
            except BaseException:
                table.close()
                raise

    def _schema_of(self, table: Table) -> JetSchema:
        if self._schema is None:
            found = detect_schema(table)
            return (
                JetSchema.from_dict({**found.to_dict(), **self._changes})
                if self._changes
                else found
            )
        if self._schema == SCHEMAS["pcloud"]:
            return table.native_schema() or self._schema
        return self._schema

    def _check_agreement(self, reader: JetReader) -> None:
        """Check that a file has the columns and classes of the first one."""
        for ours, theirs in zip(reader.names, self._names, strict=True):
            if ours != theirs:
                name = sorted(ours ^ theirs)[0]
                files = [reader.table.path, self._files[0]]
                with_column, without = files[::-1] if name in theirs else files
                raise InputError(
                    f"{with_column} has {name!r}, but {without} does not: read them separately"
                )
        if reader.classes != self.classes:
            raise InputError(
                f"{reader.table.path} has the classes {', '.join(reader.classes) or 'none'}, but "
                f"{self._files[0]} {', '.join(self.classes) or 'none'}"
            )

    def _complete(self, jets: FlatJets, file: int) -> FlatJets:
        """Add the keys and entries of the jets, or remove them, so that they are as in all files."""
        if self._entries and len(self._files) > 1:
            jets.jet |= self._with_file({ENTRY: jets.jet[ENTRY]}, file)
        if not self._keys:
            jets.jet.pop(SPLIT_KEY, None)
        elif SPLIT_KEY not in jets.jet:
            jets.jet[SPLIT_KEY] = jet_keys(jets.offsets, jets.p4)
        return jets

    def _with_file(self, columns: dict[str, np.ndarray], file: int) -> dict[str, np.ndarray]:
        """Columns of jets with the index of their file, if there are several."""
        if len(self._files) == 1:
            return columns
        return {**columns, ENTRY_FILE: np.full(len(columns[ENTRY]), file, dtype=np.int32)}

    def _warn(self, reader: JetReader, selection: Selection, doubts: list[str]) -> None:
        """Warn of what the schema leaves out, and of values that are probably not meant."""
        more = f" and {len(self._files) - 1} more files" if len(self._files) > 1 else ""
        where = f"{self._files[0]}{more}"
        selection.warn(where, reader.schema.select, reader.label_reference, self.classes)
        for doubt in doubts:
            warnings.warn(doubt, DoubtfulValuesWarning, stacklevel=2)

    def _good(self, reader: JetReader, start: int, stop: int, file: int) -> Iterator[FlatJets]:
        """Good jets of one file; a single warning at the end counts the omitted jets."""
        dropped: dict[str, int] = {}
        needs_check = self._check_units
        num_bad = 0
        for jets, bad in reader.pieces(start, stop, self._on_bad_jet):
            if needs_check and len(jets):
                check_units(jets, str(reader.table.path), reader.schema.unit)
                needs_check = False
            for reason, index in bad.items():
                dropped[reason] = dropped.get(reason, 0) + len(index)
            num_bad += len(set().union(*(index.tolist() for index in bad.values())))
            if len(reader.left_out.get(ENTRY, ())):
                self._left_out.append(self._with_file(reader.left_out, file))
            yield self._complete(jets, file)
            del jets  # before the next piece is decoded
        if dropped:
            reasons = "; ".join(f"{reason} ({n} jets)" for reason, n in dropped.items())
            warnings.warn(
                f"{reader.table.path}: dropped {num_bad} of {stop - start} jets: {reasons}",
                BadJetWarning,
                stacklevel=2,
            )


def _files_and_classes(path: Paths) -> tuple[list[Path], list[ClassOfFile]]:
    """Files, and the class of each if the paths are given by class."""
    if not isinstance(path, Mapping):
        return expand_paths(path), []
    if len(path) < 1 or not all(isinstance(name, str) and name for name in path):
        raise InputError(f"files by class must map names of classes to paths, got {path!r}")
    names = tuple(path)
    files: list[Path] = []
    classes: list[ClassOfFile] = []
    for index, name in enumerate(names):
        of_class = expand_paths(path[name])
        files += of_class
        classes += [ClassOfFile(names, index)] * len(of_class)
    owner: dict[Path, int] = {}
    for file, of_file in zip(files, classes, strict=True):
        first = owner.setdefault(file.resolve(), of_file.index)
        if first != of_file.index:
            raise InputError(f"{file}: is of the classes {names[first]} and {names[of_file.index]}")
    return files, classes


def open_table(file: Path, tree: str | None, labels: str | None = None) -> Table:
    """Open a file of any format; the library of the format is imported only then.

    Parameters
    ----------
    file : Path
        File.
    tree : str, optional
        Tree, group or key in the file.
    labels : str, optional
        File with the labels of an array in an npy file.

    Raises
    ------
    InputError
        If the file is damaged or has an unknown format.
    """
    kind = sniff(file)
    if kind == "hdf5":
        from pcloud.io.hdf5 import open_hdf5

        return open_hdf5(file, tree)
    if kind == "root":
        from pcloud.io.root import RootTree

        return RootTree(file, tree)
    if kind == "parquet":
        from pcloud.io.parquet import ParquetTable

        return ParquetTable(file)
    if kind == "npy":
        from pcloud.io.npy import NpyFile

        return NpyFile(file, labels)
    from pcloud.io.npz import NpzFile

    return NpzFile(file)


def rechunk(pieces: Iterable[FlatJets], size: int) -> Iterator[FlatJets]:
    """Chunks of `size` jets, each in memory of its own, from pieces of any size."""
    reserved = min(size, _MAX_RESERVED_JETS)
    chunk = GrowingJets(reserved)
    for piece in pieces:
        start = 0
        while start < len(piece):
            stop = min(len(piece), start + size - len(chunk))
            chunk.append(piece.slice(start, stop))
            start = stop
            if len(chunk) == size:
                full = chunk.finish()
                chunk = GrowingJets(reserved)
                yield full
                del full
        del piece
    if len(chunk):
        yield chunk.finish()
