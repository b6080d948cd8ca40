"""Files to jets: whole or in chunks of bounded memory."""

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
from pcloud.io.files import Paths, expand_paths, sniff
from pcloud.io.jets import FlatJets
from pcloud.io.load import JetReader, detect_schema
from pcloud.io.schema import SCHEMAS, JetSchema, as_schema
from pcloud.io.table import Table

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

    Zero-padding is left behind: a jet has as many entries as particles.

    Parameters
    ----------
    path : str, Path, or sequence of these
        A file, a glob pattern, a directory (all its files of jets, sorted by name), or several,
        one after the other.
    schema : JetSchema, str, or dict, optional
        Which column is which quantity: a `JetSchema`, its ``to_dict``, or a name in
        ``pcloud.io.SCHEMAS``. Without it, files of the Landscape, JetClass and EnergyFlow samples
        and our own are recognised by their columns.
    start, stop : int
        Range of jets, counted over all files.
    on_bad_jet : str
        What to do with jets that have no particles, NaN, infinite or unphysical momenta, or a
        label out of range: ``"error"``, or ``"drop"`` them with a warning that counts them.
    check_units : bool
        Refuse files with a median jet pt above 50 TeV, which are likely in MeV.

    Returns
    -------
    awkward.Array
        Records with ``p4`` (``var * Momentum4D[E, px, py, pz]``, GeV), the extra columns, and
        ``label`` (int64) where the file has it. ``attrs["classes"]`` names the classes, where
        they are known. Momenta are float64 if they are stored so, else float32.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    InputError
        If a file is damaged, of unknown columns, or has bad jets.
    UnknownNameError
        If a column is absent; the message has the nearest name.
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
) -> Iterator[ak.Array]:
    """Read jets in chunks; the memory is that of a chunk, whatever the size of the files.

    Parameters
    ----------
    path, schema, start, stop, on_bad_jet, check_units
        As for `read_jets`.
    chunk_size : int
        Number of jets in each chunk but the last.

    Returns
    -------
    iterator of awkward.Array
        As from `read_jets`. The path and the schema are checked before it is returned.

    Raises
    ------
    FileNotFoundError, InputError, UnknownNameError
        As from `read_jets`; what is wrong further on in a file is found when it is reached.
    """
    stream = JetStream(path, schema, start, stop, on_bad_jet, check_units)
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
        Number of jets, bad ones included.

    Raises
    ------
    FileNotFoundError, InputError, UnknownNameError
        As from `read_jets`.
    """
    return JetStream(path, schema).count()


class JetStream:
    """Jets of several files as one sequence; what `read_jets` and `convert` share.

    Parameters
    ----------
    path, schema, start, stop, on_bad_jet, check_units
        As for `read_jets`.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes, empty where they are not known.
    empty : FlatJets
        No jets, with the columns of the first file.
    expected : int
        About how many jets there are, if the files are as long as the first.
    """

    def __init__(
        self,
        path: Paths,
        schema: SchemaLike = None,
        start: int = 0,
        stop: int | None = None,
        on_bad_jet: str = "error",
        check_units: bool = True,
    ) -> None:
        if on_bad_jet not in ("error", "drop"):
            raise UnknownNameError("value of on_bad_jet", str(on_bad_jet), ("error", "drop"))
        if start < 0 or (stop is not None and stop < start):
            raise InputError(f"start={start} and stop={stop} are not a range of jets")
        self._files = expand_paths(path)
        self._schema = as_schema(schema)
        self._start, self._stop = start, stop
        self._on_bad_jet, self._check_units = on_bad_jet, check_units
        with closing(self._open(self._files[0])) as binding:
            self._names, self.classes = binding.names, binding.classes
            self.empty = binding.empty()
            last = binding.num_jets * len(self._files)
        self.expected = max(0, (last if stop is None else min(stop, last)) - start)

    def count(self) -> int:
        """Number of jets in all files, bad ones included."""
        total = 0
        for file in self._files:
            with closing(self._open(file)) as binding:
                total += binding.num_jets
        return total

    def pieces(self) -> Iterator[FlatJets]:
        """Jets in pieces of whatever size the files are best read in."""
        done = 0
        for file in self._files:
            if self._stop is not None and done >= self._stop:
                return
            with closing(self._open(file)) as binding:
                self._check_agreement(binding)
                first = max(0, self._start - done)
                last = binding.num_jets if self._stop is None else self._stop - done
                yield from self._good(binding, first, min(last, binding.num_jets))
                done += binding.num_jets
        if done == 0:
            raise InputError(f"{self._files[0]}: holds no jets")
        if self._start > done:
            raise InputError(f"start={self._start} is beyond the {done} jets of {self._files[0]}")

    def chunks(self, size: int) -> Iterator[FlatJets]:
        """Jets in chunks of `size`; the last may be smaller.

        Raises
        ------
        InputError
            If `size` is not positive.
        """
        if size < 1:
            raise InputError(f"chunk_size must be at least 1, got {size}")
        return _rechunk(self.pieces(), size)

    def _open(self, file: Path) -> JetReader:
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

    def _check_agreement(self, binding: JetReader) -> None:
        """All files must have the columns and classes of the first."""
        for ours, theirs in zip(binding.names, self._names, strict=True):
            if ours != theirs:
                name = sorted(ours ^ theirs)[0]
                has, lacks = binding.table.path, self._files[0]
                if name in theirs:
                    has, lacks = lacks, has
                raise InputError(f"{has} has {name!r}, but {lacks} does not: read them separately")
        if binding.classes != self.classes:
            raise InputError(
                f"{binding.table.path} has the classes {', '.join(binding.classes) or 'none'}, but "
                f"{self._files[0]} {', '.join(self.classes) or 'none'}"
            )

    def _good(self, binding: JetReader, start: int, stop: int) -> Iterator[FlatJets]:
        """Good jets of one file; warns once, at its end, of those that were dropped."""
        dropped: dict[str, int] = {}
        is_first, good = self._check_units, 0
        for jets, bad in binding.pieces(start, stop, self._on_bad_jet):
            if is_first and len(jets):
                check_units(jets, str(binding.table.path), binding.schema.unit)
                is_first = False
            for reason, index in bad.items():
                dropped[reason] = dropped.get(reason, 0) + len(index)
            good += len(jets)
            yield jets
        if dropped:
            reasons = "; ".join(f"{reason} ({n} jets)" for reason, n in dropped.items())
            warnings.warn(
                f"{binding.table.path}: dropped {stop - start - good} of {stop - start} jets: "
                f"{reasons}",
                BadJetWarning,
                stacklevel=2,
            )


def open_table(file: Path, tree: str | None) -> Table:
    """Open a file by its format; libraries are imported when first needed.

    Raises
    ------
    InputError
        If the file is damaged or of unknown format.
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
