"""Reading of jets from files, as a whole or in chunks."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import awkward as ak

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.check import BadJetWarning, check_units
from pcloud.io.files import Paths, expand_paths, input_errors, sniff
from pcloud.io.jets import FlatJets
from pcloud.io.load import JetReader, detect_schema
from pcloud.io.schema import SCHEMAS, JetSchema, as_schema
from pcloud.io.table import Table
from pcloud.keys import SPLIT_KEY, jet_keys

__all__ = ["JetStream", "count_jets", "iter_jets", "read_jets"]

SchemaLike = JetSchema | Mapping[str, Any] | str | None


def read_jets(
    path: Paths,
    schema: SchemaLike = None,
    *,
    start: int = 0,
    stop: int | None = None,
    on_bad_jet: str = "error",
    check_units: bool = True,
) -> ak.Array:
    """Read jets from HDF5, ROOT, Parquet or npz files.

    Zero-padding is removed: a jet has as many entries as particles.

    Parameters
    ----------
    path : str, Path, or sequence of these
        File, glob pattern, directory (all its files of jets, sorted by name), or a sequence of
        these, which are read in order.
    schema : JetSchema, str, or dict, optional
        Schema of the file: a `JetSchema`, its ``to_dict``, or a name in ``pcloud.io.SCHEMAS``.
        Without it, the schema of the Landscape, JetClass and EnergyFlow samples and of files of
        pcloud is detected from the columns.
    start, stop : int
        Range of jets, counted over all files.
    on_bad_jet : str
        Treatment of jets without particles, with NaN, infinite or unphysical momenta, or with an
        invalid label: ``"error"``, or ``"drop"`` to omit them with a warning.
    check_units : bool
        If True, files with a median jet pt above 7 TeV are refused, because the unit is probably
        wrong.

    Returns
    -------
    awkward.Array
        Records with ``p4`` (``var * Momentum4D[E, px, py, pz]``, GeV), the extra columns, and
        ``label`` (int64) and ``split_key`` (uint64, see :mod:`pcloud.keys`) if the file has them. ``attrs["classes"]`` contains the names of the classes
        if they are known. Momenta are float64 if they are stored in float64, else float32.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    InputError
        If a file is damaged, has unknown columns, or contains bad jets.
    UnknownNameError
        If a column is missing; the message suggests the most similar name.
    """
    stream = JetStream(path, schema, start, stop, on_bad_jet, check_units)
    parts = itertools.chain([stream.empty], stream.pieces())
    jets = FlatJets.concatenate(parts, stream.expected)
    return jets.to_awkward(stream.classes)


def iter_jets(
    path: Paths,
    schema: SchemaLike = None,
    *,
    chunk_size: int = 100_000,
    start: int = 0,
    stop: int | None = None,
    on_bad_jet: str = "error",
    check_units: bool = True,
    keys: bool | None = None,
) -> Iterator[ak.Array]:
    """Read jets in chunks; the memory does not depend on the size of the files.

    Parameters
    ----------
    path, schema, start, stop, on_bad_jet, check_units
        As for `read_jets`.
    chunk_size : int
        Number of jets per chunk; the last chunk can be smaller.
    keys : bool, optional
        If True, all jets have the column ``split_key``, which is computed where a file does not
        have it. If False, none have it. By default it depends on the first file.

    Returns
    -------
    iterator of awkward.Array
        Jets as from `read_jets`. Paths and schema are checked before the function returns.

    Raises
    ------
    FileNotFoundError, InputError, UnknownNameError
        As from `read_jets`; errors in later parts of a file are raised when they are read.
    """
    stream = JetStream(path, schema, start, stop, on_bad_jet, check_units, keys)
    return (jets.to_awkward(stream.classes) for jets in stream.chunks(chunk_size))


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
    return JetStream(path, schema).count()


class JetStream:
    """Jets of several files as one sequence, used by `read_jets` and `convert`.

    Parameters
    ----------
    path, schema, start, stop, on_bad_jet, check_units
        As for `read_jets`.
    keys : bool, optional
        If True, all jets have the column ``split_key``, which is computed where a file does not
        have it. If False, none have it. By default it depends on the first file.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes, empty if they are not known.
    empty : FlatJets
        Zero jets with the columns of the first file.
    expected : int
        Approximate number of jets, if all files are as long as the first.
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
    ) -> None:
        if on_bad_jet not in ("error", "drop"):
            raise UnknownNameError("value of on_bad_jet", str(on_bad_jet), ("error", "drop"))
        if start < 0 or (stop is not None and stop < start):
            raise InputError(f"start={start} and stop={stop} are not a range of jets")
        self._files = expand_paths(path)
        self._schema = as_schema(schema)
        self._start = start
        self._stop = stop
        self._on_bad_jet = on_bad_jet
        self._check_units = check_units
        with closing(self._open(self._files[0])) as reader:
            self._names = reader.names
            self.classes = reader.classes
            with input_errors(self._files[0], "jets"):
                self._keys = reader.has_keys if keys is None else keys
                self.empty = self._with_keys(reader.empty())
            last = reader.num_jets * len(self._files)
        self.expected = max(0, (last if stop is None else min(stop, last)) - start)

    def count(self) -> int:
        """Number of jets in all files, including bad ones."""
        total = 0
        for file in self._files:
            with closing(self._open(file)) as reader:
                total += reader.num_jets
        return total

    def pieces(self) -> Iterator[FlatJets]:
        """Jets in pieces of the size that is efficient to read."""
        done = 0
        for file in self._files:
            if self._stop is not None and done >= self._stop:
                return
            with closing(self._open(file)) as reader:
                self._check_agreement(reader)
                first = max(0, self._start - done)
                last = reader.num_jets if self._stop is None else self._stop - done
                with input_errors(file, "jets"):
                    yield from self._good(reader, first, min(last, reader.num_jets))
                done += reader.num_jets
        if done == 0:
            raise InputError(f"{self._files[0]}: contains no jets")
        if self._start > done:
            raise InputError(f"start={self._start} is beyond the {done} jets of {self._files[0]}")

    def chunks(self, size: int) -> Iterator[FlatJets]:
        """Jets in chunks of `size`; the last can be smaller.

        Raises
        ------
        InputError
            If `size` is not positive.
        """
        if size < 1:
            raise InputError(f"chunk_size must be at least 1, got {size}")
        return _rechunk(self.pieces(), size)

    def _open(self, file: Path) -> JetReader:
        with input_errors(file, "jets"):
            table = open_table(file, self._schema.tree if self._schema else None)
            try:
                return JetReader(table, self._schema_of(table))
            except BaseException:
                table.close()
                raise

    def _schema_of(self, table: Table) -> JetSchema:
        if self._schema is None:
            return detect_schema(table)
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

    def _with_keys(self, jets: FlatJets) -> FlatJets:
        """Add the keys of the jets, or remove them, so that they are as in all other files."""
        if not self._keys:
            jets.jet.pop(SPLIT_KEY, None)
        elif SPLIT_KEY not in jets.jet:
            jets.jet[SPLIT_KEY] = jet_keys(jets.offsets, jets.p4)
        return jets

    def _good(self, reader: JetReader, start: int, stop: int) -> Iterator[FlatJets]:
        """Good jets of one file; a single warning at the end counts the omitted jets."""
        dropped: dict[str, int] = {}
        needs_check = self._check_units
        num_good = 0
        for jets, bad in reader.pieces(start, stop, self._on_bad_jet):
            if needs_check and len(jets):
                check_units(jets, str(reader.table.path), reader.schema.unit)
                needs_check = False
            for reason, index in bad.items():
                dropped[reason] = dropped.get(reason, 0) + len(index)
            num_good += len(jets)
            yield self._with_keys(jets)
        if dropped:
            reasons = "; ".join(f"{reason} ({n} jets)" for reason, n in dropped.items())
            warnings.warn(
                f"{reader.table.path}: dropped {stop - start - num_good} of {stop - start} jets: "
                f"{reasons}",
                BadJetWarning,
                stacklevel=2,
            )


def open_table(file: Path, tree: str | None) -> Table:
    """Open a file of any format; the library of the format is imported only then.

    Parameters
    ----------
    file : Path
        File.
    tree : str, optional
        Tree, group or key in the file.

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
    from pcloud.io.npz import NpzFile

    return NpzFile(file)


def _rechunk(pieces: Iterable[FlatJets], size: int) -> Iterator[FlatJets]:
    """Chunks of `size` jets from pieces of any size."""
    waiting: list[FlatJets] = []
    num_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        num_waiting += len(piece)
        if num_waiting < size:
            continue
        jets = FlatJets.concatenate(waiting)
        whole = num_waiting // size * size
        for start in range(0, whole, size):
            yield jets.slice(start, start + size)
        num_waiting -= whole
        waiting = [jets.slice(whole, len(jets))] if num_waiting else []
    if num_waiting:
        yield FlatJets.concatenate(waiting)
