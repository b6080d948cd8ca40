"""Reader of jets from an open file by a schema, and detection of the schema."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from pcloud.errors import InputError
from pcloud.io.check import describe, find_bad_jets
from pcloud.io.jets import JET_MOMENTUM, FlatJets
from pcloud.io.layouts import (
    FlatLayout,
    Layout,
    PaddedLayout,
    RaggedStorage,
    by_counts,
    by_mask,
    by_nonzero,
)
from pcloud.io.momentum import four_momenta
from pcloud.io.schema import GEV_EXTRAS, SCHEMAS, UNITS, JetSchema
from pcloud.io.source_columns import SourceColumn, describe_shape, find, locate
from pcloud.io.table import Table
from pcloud.keys import SPLIT_KEY
from pcloud.particle_types import decode_remapped

__all__ = ["JetReader", "detect_schema"]

_T = TypeVar("_T")

_NUM_DETECTION_JETS = 1000  # jets whose values are looked at to detect a schema
_PHI_ROUNDING = 1e-3  # rad


class JetReader:
    """Reader of the jets of one open file.

    Parameters
    ----------
    table : Table
        File.
    schema : JetSchema
        Schema of the file, which can lack only the optional columns.
    columns : collection of str, optional
        Names of the extra columns to read; by default all. The others are not looked at.

    Attributes
    ----------
    available : list of str
        Names of all columns in the file, read or not: ``p4``, extra columns, ``jet_p4``, ``label``.
    classes : tuple of str
        Names of the classes from the schema, else from the file.
    names : tuple of two sets of str
        Names of the columns per particle and per jet.
    has_keys : bool
        True if the file has the keys of the jets, ``split_key``, which is not among the names.
    num_jets : int
        Number of jets, including bad ones.

    Raises
    ------
    UnknownNameError
        If a column is missing; the message suggests the most similar name.
    InputError
        If the shapes of the columns do not agree.
    """

    def __init__(
        self, table: Table, schema: JetSchema, columns: Collection[str] | None = None
    ) -> None:
        self.table = table
        self.schema = schema
        self._p4 = {name: locate(table, column) for name, column in schema.p4.items()}
        self._particle = self._present(schema.particle, columns)
        self._jet = self._present(schema.jet, columns)
        if SPLIT_KEY not in self._jet and (stored := find(table, SPLIT_KEY)):
            self._jet[SPLIT_KEY] = stored
        self._jet_p4 = self._locate_jet_momentum()
        self._label = self._locate_label()
        optional = ["jet_p4"] * bool(self._jet_p4) + ["label"] * bool(self._label)
        present = [n for n, c in (schema.particle | schema.jet).items() if find(table, c)]
        if set(JET_MOMENTUM) <= set(present):  # as `write_jets` stores the momentum of the jet
            present = [*(name for name in present if name not in JET_MOMENTUM), "jet_p4"]
        self.available = ["p4", *present, *optional]
        self._layout = self._make_layout()
        self.classes = schema.classes or table.classes
        self.num_jets = self._layout.num_jets
        self.names = (set(self._particle), {*self._jet, *optional} - {SPLIT_KEY})
        self.has_keys = SPLIT_KEY in self._jet
        self._references = {
            name: place.reference for name, place in {**self._p4, **self._particle}.items()
        }
        self._references["label"] = "/".join(place.reference for place in self._label)
        jet_columns = [place.reference for place in self._jet_p4.values()]
        self._references |= dict.fromkeys(JET_MOMENTUM, "/".join(jet_columns) or "jet_p4")

    def close(self) -> None:
        """Close the file."""
        self.table.close()

    def pieces(
        self, start: int, stop: int, on_bad_jet: str
    ) -> Iterator[tuple[FlatJets, dict[str, np.ndarray]]]:
        """Read the jets `start` to `stop` in pieces.

        Parameters
        ----------
        start, stop : int
            Range of jets.
        on_bad_jet : str
            Treatment of bad jets, ``"error"`` or ``"drop"``.

        Yields
        ------
        jets : FlatJets
            Good jets.
        bad : dict of str to array
            Indices in the file of the bad jets for each reason.

        Raises
        ------
        InputError
            If there are bad jets and `on_bad_jet` is ``"error"``, or the file is damaged.
        """
        ranges = self._layout.ranges(start, stop)
        for jets, bad in _in_order(self.table.threads, self._load_good, ranges):
            if bad and on_bad_jet == "error":
                raise InputError(
                    f"{self.table.path}: bad jets: {describe(bad)}; on_bad_jet='drop' "
                    "(--on-bad-jet drop) omits such jets"
                )
            yield jets, bad
            del jets  # before the next piece is decoded

    def empty(self) -> FlatJets:
        """Zero jets with the columns of the file."""
        return self._load_good(0, 0)[0]

    def _load_good(self, start: int, stop: int) -> tuple[FlatJets, dict[str, np.ndarray]]:
        jets, negative_pt = self._load(start, stop)
        bad = find_bad_jets(jets, self._references, len(self.classes), negative_pt)
        if bad:
            keep = np.ones(len(jets), dtype=bool)
            keep[np.concatenate(list(bad.values()))] = False
            jets = jets.select(keep)
        for columns, name, dtype in (
            (jets.jet, "label", np.int64),
            (jets.particle, "pid", np.int32),
        ):
            if name in columns:
                values = decode_remapped(columns[name]) if name == "pid" else columns[name]
                columns[name] = values.astype(dtype, copy=False)
        if SPLIT_KEY in jets.jet:
            jets.jet[SPLIT_KEY] = self._keys(jets.jet.pop(SPLIT_KEY))  # the last
        return jets, {reason: start + index for reason, index in bad.items()}

    def _load(self, start: int, stop: int) -> tuple[FlatJets, np.ndarray | None]:
        """Jets of the file, and a mask (N,) of particles with negative pt, None if there are none."""
        offsets, columns = self._layout.read(start, stop)
        momentum, particle, jet = (
            {name: columns[place] for name, place in places.items()}
            for places in (self._p4, self._particle, self._jet)
        )
        unit = UNITS[self.schema.unit]
        if unit != 1.0:
            jet |= {name: _scale(jet[name], unit) for name in GEV_EXTRAS & jet.keys()}
        if self._jet_p4:
            stored = {name: columns[place] for name, place in self._jet_p4.items()}
            jet |= dict(zip(JET_MOMENTUM, four_momenta(stored, unit), strict=True))
        if self._label:
            label = [columns[place] for place in self._label]
            jet["label"] = _class_of_one_hot(label) if self.schema.one_hot else label[0]
        is_negative = momentum["pt"] < 0 if "pt" in momentum else None
        if is_negative is not None and not is_negative.any():
            is_negative = None
        return FlatJets(offsets, four_momenta(momentum, unit), particle, jet), is_negative

    def _keys(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind not in "iu":
            place = self._jet[SPLIT_KEY]
            raise InputError(
                f"{self.table.path}: {self.table.noun} {place.reference!r} holds keys of jets and "
                f"must be whole numbers, got {values.dtype}"
            )
        return values.astype(np.uint64, copy=False)

    def _present(
        self, columns: dict[str, str], wanted: Collection[str] | None
    ) -> dict[str, SourceColumn]:
        return {
            name: locate(self.table, column)
            for name, column in columns.items()
            if (wanted is None or name in {*wanted, *JET_MOMENTUM, SPLIT_KEY})
            and (name not in self.schema.optional or find(self.table, column))
        }

    def _locate_jet_momentum(self) -> dict[str, SourceColumn]:
        columns = self.schema.jet_p4
        is_complete = all(find(self.table, column) for column in columns.values())
        if "jet_p4" in self.schema.optional and not is_complete:
            return {}
        return {name: locate(self.table, column) for name, column in columns.items()}

    def _locate_label(self) -> list[SourceColumn]:
        label = self.schema.label
        columns = (label,) if isinstance(label, str) else (label or ())
        is_absent = not any(find(self.table, column) for column in columns)
        if is_absent and "label" in self.schema.optional:
            return []
        return [locate(self.table, column) for column in columns]

    def _make_layout(self) -> Layout:
        """Storage of the jets: from the schema, from lists in the file, or from zeros as padding."""
        schema = self.schema
        table = self.table
        particle = [*self._p4.values(), *self._particle.values()]
        jet = [*self._jet.values(), *self._jet_p4.values(), *self._label]
        first = particle[0]
        name = schema.mask or schema.offsets or schema.counts
        structure = locate(table, name) if name else None
        if None in first.shape:
            if structure:
                raise InputError(
                    f"{table.path}: {first.reference!r} is ragged and needs no {name!r}"
                )
            return RaggedStorage(table, particle, jet)
        if structure and (schema.offsets or (schema.counts and len(first.shape) == 1)):
            return FlatLayout(table, particle, jet, structure, is_counts=bool(schema.counts))
        if structure:
            rule = by_counts if schema.counts else by_mask
            return PaddedLayout(table, particle, jet, [structure], rule)
        if len(first.shape) == 1:
            raise InputError(
                f"{table.path}: {table.noun} {first.reference!r} has shape "
                f"{describe_shape(first.shape)}: the schema must define where jets start, with "
                "offsets or counts"
            )
        energy = self._p4.get("E") or self._p4.get("pt")
        zeros = [energy] if energy else [self._p4[name] for name in ("px", "py", "pz")]
        return PaddedLayout(table, particle, jet, zeros, by_nonzero)


def detect_schema(table: Table) -> JetSchema:
    """Detect the schema of a file of pcloud or of a public sample from its columns.

    Raises
    ------
    UnknownNameError
        If the columns are those of a public sample except for one; the message has its name.
    InputError
        If the columns do not belong to a known sample.
    """
    native = table.native_schema()
    if native:
        return native
    matches = {name: _count_matches(table, schema) for name, schema in SCHEMAS.items()}
    best = max(matches, key=lambda name: matches[name])
    if matches[best][1]:
        JetReader(table, SCHEMAS[best])  # raises an error if a column is missing
        if SCHEMAS[best] is SCHEMAS["energyflow"]:
            _check_energyflow(table)
        return SCHEMAS[best]
    names = list(table.columns)
    more = f", ... ({len(names)} in all)" if len(names) > 8 else ""
    raise InputError(
        f"{table.path}: the columns are of no known sample ({', '.join(SCHEMAS)}); define them "
        f"with a schema; there are: {', '.join(names[:8]) or 'none'}{more}; a schema is proposed "
        f"by: pcloud inspect {shlex.quote(str(table.path))}"
    )


def _check_energyflow(table: Table) -> None:
    """Check that an array X contains pT, rapidity, phi and particle types, not other quantities.

    Arrays of the same name and shape often contain four-momenta.

    Raises
    ------
    InputError
        If they are not the quantities of EnergyFlow.
    """
    rows = min(table.columns["X"][0] or 0, _NUM_DETECTION_JETS)
    values = np.asarray(table.read_columns(["X"], 0, rows)["X"], dtype=np.float64)
    particles = values[(values[..., 0] != 0) & np.isfinite(values).all(axis=-1)]
    phi = particles[:, 2]
    wrong = []
    if (particles[:, 0] < 0).any():
        wrong.append(f"X[0] is negative ({particles[:, 0].min():g}), which pt cannot be")
    if (np.abs(phi) > 2 * np.pi + _PHI_ROUNDING).any():
        wrong.append(f"X[2] is {phi[np.abs(phi).argmax()]:g}, which phi cannot be")
    if particles.shape[1] > 3:
        pid = particles[:, 3]
        is_type = decode_remapped(pid) == np.round(decode_remapped(pid))
        if not is_type.all():
            wrong.append(f"X[3] is {pid[~is_type][0]:g}, which is no particle type (pid)")
    if wrong:
        raise InputError(
            f"{table.path}: an array X of this shape is taken for the pt, rapidity, phi and pid of "
            f"EnergyFlow, but {wrong[0]}; define the columns with a schema, for four-momenta "
            "p4={'E': 'X[0]', 'px': 'X[1]', 'py': 'X[2]', 'pz': 'X[3]'}"
        )


def _count_matches(table: Table, schema: JetSchema) -> tuple[bool, int, int]:
    """Compare the columns of a file with those of a schema.

    Returns
    -------
    bool
        True if the file has all columns of the momenta.
    int
        Number of columns of the momenta in the file.
    int
        Number of other columns of the schema in the file.
    """
    label = (schema.label,) if isinstance(schema.label, str) else (schema.label or ())
    others = (*schema.particle.values(), *schema.jet.values(), *label)
    p4 = sum(find(table, column) is not None for column in schema.p4.values())
    return (
        p4 == len(schema.p4),
        p4,
        sum(find(table, column) is not None for column in others),
    )


def _in_order(
    threads: int, load: Callable[[int, int], _T], ranges: Iterable[tuple[int, int]]
) -> Iterator[_T]:
    """Results of `load` for all ranges in order; threads load some ranges in advance."""
    if not threads:
        yield from (load(*piece) for piece in ranges)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[_T]] = []
        try:
            for piece in ranges:
                waiting.append(pool.submit(load, *piece))
                if len(waiting) > threads:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _scale(values: np.ndarray, unit: float) -> np.ndarray:
    dtype = np.float64 if values.dtype == np.float64 else np.float32
    return (values.astype(np.float64) * unit).astype(dtype)


def _class_of_one_hot(columns: list[np.ndarray]) -> np.ndarray:
    """Class index (B,); -1 unless exactly one column is 1 and the others are 0."""
    one_hot = np.stack([column.astype(np.float64) for column in columns], axis=1)
    is_one = one_hot == 1
    valid = (is_one.sum(axis=1) == 1) & (is_one | (one_hot == 0)).all(axis=1)
    return np.where(valid, is_one.argmax(axis=1), -1).astype(np.int64)
