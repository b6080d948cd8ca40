"""Jets made in Python: momenta in any coordinates, missing jets, lists of jets, bad values.

Readers of files give jets in one form: records with ``p4`` of ``E, px, py, pz``, one for each jet.
Arrays of an analysis (coffea, vector, awkward) are converted to it here.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.check import describe, find_bad_jets
from pcloud.io.jets import (
    JET_MOMENTUM,
    MOMENTUM,
    FlatCollection,
    FlatJets,
    as_offsets,
    collection_names,
)
from pcloud.io.momentum import four_momenta

__all__ = [
    "Nesting",
    "as_jets",
    "components_of",
    "flatten",
    "refuse_bad_jets",
    "with_momenta",
]

_ALIASES = {
    "px": ("px", "x"),
    "py": ("py", "y"),
    "pz": ("pz", "z"),
    "pt": ("pt", "rho"),
    "eta": ("eta",),
    "rapidity": ("rapidity",),
    "phi": ("phi",),
    "E": ("E", "e", "energy", "t"),
    "mass": ("mass", "M", "m", "tau"),
}
_DIRECTIONS = (("px", "py", "pz"), ("pt", "eta", "phi"), ("pt", "rapidity", "phi"))
_WANTED = "E, px, py, pz, or pt, eta, phi with mass or E, in GeV, as of vector or coffea"
_TRUTH = {"label", "weight", "targets", "particle_labels"}
_TYPE_CHARACTERS = 80
_ENERGY_MARGIN = 1.001  # momenta of half precision can exceed the energy by 2^-10
_CHUNK_JETS = 5_000  # checked at a time: seven float32 columns stay in the cache

Scores: TypeAlias = Any
"""Scores (B, C) as a numpy array, or as an awkward array of events."""


def as_jets(jets: Any) -> ak.Array:
    """Jets in the form of the readers, from jets made in Python.

    Parameters
    ----------
    jets : awkward.Array
        Records with the field ``p4``, or the four-momenta of the particles of each jet alone. See
        :func:`with_momenta` for their coordinates.

    Returns
    -------
    awkward.Array
        Records, one for each jet, with ``p4`` of ``E, px, py, pz``; the array itself if it has this
        form.

    Raises
    ------
    InputError
        If the array has no four-momenta, missing jets or particles, or several jets for each entry.
    """
    jets = _records(jets)
    if jets.p4.ndim > 2:
        raise InputError(
            f"these are lists of jets, of type {_type(jets)}: ak.flatten(..., axis=1) makes one "
            "list of them; only run.predict takes lists"
        )
    missing = _is_missing(jets)
    if missing is not None and missing.any():
        raise InputError(
            f"{missing.sum()} of {len(missing)} jets are missing (None), the first is jet "
            f"{missing.argmax()}: select the others; only run.predict takes missing jets"
        )
    if missing is not None:
        jets = _select(jets, ~missing)
    return with_momenta(jets)


@dataclass(frozen=True)
class Nesting:
    """Places of jets in the array of a user: inside events, and between missing ones.

    Attributes
    ----------
    present : array of bool, shape (J,), or None
        True for jets that are not missing; None if none is.
    counts : tuple of arrays
        For each level of lists around the jets, the outermost first, the number of its entries.
    missing : tuple of arrays of bool, or None
        For each level, True for lists that are missing; None if none is.
    """

    present: NDArray[np.bool_] | None = None
    counts: tuple[NDArray[np.int64], ...] = ()
    missing: tuple[NDArray[np.bool_] | None, ...] = ()

    def nest(self, scores: NDArray[np.float64]) -> Scores:
        """Scores in the form of the array of the user, NaN for missing jets.

        Parameters
        ----------
        scores : array, shape (B, C)
            Scores of the jets that are there.

        Returns
        -------
        array of shape (J, C), or awkward.Array of lists of such scores
        """
        if self.present is not None:
            every = np.full((len(self.present), scores.shape[1]), np.nan)
            every[self.present] = scores
            scores = every
        nested: Scores = scores
        for counts, missing in zip(reversed(self.counts), reversed(self.missing), strict=True):
            nested = ak.unflatten(nested, counts)
            if missing is not None:
                nested = ak.mask(nested, ~missing)
        return nested


def flatten(jets: Any) -> tuple[ak.Array, Nesting]:
    """Jets in the form of the readers, without their truth and weights, and their places in the array.

    Parameters
    ----------
    jets : awkward.Array
        Jets as for :func:`as_jets`; also with missing ones (``ak.firsts``, ``ak.mask``), and lists
        of jets (events * var * jet), whose columns with one value per event are repeated.

    Returns
    -------
    tuple of awkward.Array and Nesting

    Raises
    ------
    InputError
        If the array has no four-momenta, or missing particles.
    """
    jets = _records(jets)
    if _TRUTH & set(jets.fields):  # no score depends on it
        jets = jets[[name for name in jets.fields if name not in _TRUTH]]
    counts, gaps = [], []
    while jets.p4.ndim > 2:
        number = ak.num(jets.p4, axis=1)
        absent = ak.to_numpy(ak.is_none(number))
        counts.append(ak.to_numpy(ak.fill_none(number, 0)).astype(np.int64))
        gaps.append(absent if absent.any() else None)
        jets = _without_a_level(jets, counts[-1])
    missing = _is_missing(jets)
    if missing is not None:
        jets = _select(jets, ~missing)
    present = None if missing is None or not missing.any() else ~missing
    return with_momenta(jets), Nesting(present, tuple(counts), tuple(gaps))


def _records(jets: Any) -> ak.Array:
    """Records with ``p4``, of which nothing more is checked."""
    if not isinstance(jets, ak.Array):
        raise InputError(
            f"jets are an awkward array with the field p4, not {type(jets).__name__}: make them by "
            "pcloud.read_jets, or as records with ak.zip({'p4': ...}, depth_limit=1)"
        )
    if "p4" not in jets.fields and _quantities(jets.fields) is not None:
        jets = _zip({"p4": jets}, len(jets), jets.attrs)
    if "p4" not in jets.fields:
        if jets.fields:
            raise UnknownNameError("field", "p4", jets.fields, where="the jets")
        raise InputError(
            f"jets are records with the field p4, not {_type(jets)}, which does not say what its "
            f"numbers are; p4 has the fields {_WANTED}"
        )
    if jets.p4.ndim < 2:
        raise InputError(f"p4 is a list of four-momenta for each jet, not {_type(jets.p4)}")
    return jets


def with_momenta(jets: ak.Array) -> ak.Array:
    """Jets whose ``p4``, ``jet_p4`` and momenta of collections have the components E, px, py, pz.

    Parameters
    ----------
    jets : awkward.Array
        Jets whose momenta have any complete set of coordinates: Cartesian (``px, py, pz`` or ``x, y,
        z``) or ``pt, eta, phi``, with ``E``, ``t`` or ``mass``; or a behaviour from which E, px, py,
        pz follow, such as those of vector and coffea.

    Returns
    -------
    awkward.Array
        The array itself if it has these components. Otherwise they are computed in float64 and
        rounded once.

    Raises
    ------
    InputError
        If the coordinates are incomplete, or particles are missing.
    """
    for name in ("p4", "jet_p4"):
        if name not in jets.fields:
            continue
        if set(MOMENTUM) <= set(jets[name].fields):
            continue
        jets = ak.with_field(jets, _cartesian(jets[name], name), name)
    for name in collection_names(jets):
        if "p4" in jets[name].fields and not set(MOMENTUM) <= set(jets[name].p4.fields):
            momenta = _cartesian(jets[name].p4, f"{name}.p4")
            jets = ak.with_field(jets, momenta, [name, "p4"])
    return jets


def _cartesian(p4: ak.Array, name: str) -> ak.Array:
    """Momenta with the components E, px, py, pz."""
    found = _quantities(p4.fields)
    if found is None:
        columns = {quantity: _behaviour(p4, quantity, name) for quantity in MOMENTUM}
    else:
        columns = {quantity: p4[field] for quantity, field in found.items()}
    counts = None
    if p4.ndim == 2:
        counts = ak.num(p4, axis=1)
        columns = {quantity: ak.flatten(column, axis=1) for quantity, column in columns.items()}
    try:
        flat = {q: ak.to_numpy(column, allow_missing=False) for q, column in columns.items()}
    except (TypeError, ValueError):
        raise InputError(f"{name} has missing particles or no numbers: {_type(p4)}") from None
    components = dict(zip(MOMENTUM, four_momenta(flat, 1.0), strict=True))
    record = ak.zip(components, with_name="Momentum4D")
    return record if counts is None else ak.unflatten(record, counts)


def _quantities(fields: Sequence[str]) -> dict[str, str] | None:
    """Fields that define a four-momentum, by quantity; None if there is no complete set."""
    known = {q: next((a for a in aliases if a in fields), None) for q, aliases in _ALIASES.items()}
    for direction in _DIRECTIONS:
        for energy in ("E", "mass"):
            found = {q: name for q in (*direction, energy) if (name := known[q]) is not None}
            if len(found) == 4:
                return found
    return None


def _behaviour(p4: ak.Array, quantity: str, name: str) -> ak.Array:
    """Component of momenta that their behaviour computes."""
    try:
        values = getattr(p4, quantity)
        if isinstance(values, ak.Array) and values.ndim == p4.ndim and not values.fields:
            return values
    except (AttributeError, TypeError, ValueError):
        pass
    shown = ", ".join(p4.fields) or _type(p4)
    raise InputError(f"{name} needs {_WANTED}; it has {shown}")


def components_of(jets: ak.Array) -> tuple[NDArray[np.floating], ...]:
    """Components E, px, py, pz of the particles of all jets, each of shape (N,).

    They are float64 if one of them is, else float32.
    """
    particles = ak.flatten(jets.p4, axis=1)
    columns = [ak.to_numpy(particles[name]) for name in MOMENTUM]
    dtype = np.result_type(np.float32, *(c.dtype for c in columns if c.dtype == np.float64))
    return tuple(column.astype(dtype, copy=False) for column in columns)


def refuse_bad_jets(
    jets: ak.Array, classes: Sequence[str] | None = None, collections: Sequence[str] = ()
) -> None:
    """Raise an error that names the first bad jets of each kind, as when files are read.

    Only momenta, labels and weights are checked. It takes a few per cent of the time of a data set.

    Parameters
    ----------
    jets : awkward.Array
        Jets in the form of the readers.
    classes : sequence of str, optional
        Names of the classes.
    collections : sequence of str
        Further collections whose momenta are checked, too.

    Raises
    ------
    InputError
        If there are bad jets, see :func:`pcloud.io.check.find_bad_jets`.
    """
    labels = _labels(jets) if "label" in jets.fields else None
    found: dict[str, list[NDArray[np.integer]]] = {}
    for first in range(0, len(jets), _CHUNK_JETS):
        rows = slice(first, first + _CHUNK_JETS)
        part = _flat_jets(jets[rows], None if labels is None else labels[rows])
        part.collections = {name: _momenta_of(jets[rows], name) for name in collections}
        for reason, index in find_bad_jets(part, {}, len(classes or ())).items():
            found.setdefault(reason, []).append(index + first)
    if found:
        reasons = {reason: np.concatenate(index) for reason, index in found.items()}
        number = len(np.unique(np.concatenate(list(reasons.values()))))
        raise InputError(f"{number} of {len(jets)} jets are bad: {describe(reasons)}")


def _labels(jets: ak.Array) -> NDArray[Any]:
    """Labels (B,) of jets, in their own type."""
    return _numbers(jets, "label", "one whole number from 0")


def _numbers(jets: ak.Array, name: str, wanted: str = "one number") -> NDArray[Any]:
    """Column (B,) of jets, in its own type."""
    try:
        values = ak.to_numpy(jets[name], allow_missing=False)
    except (TypeError, ValueError):
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "biuf" or values.shape != (len(jets),):
        raise InputError(f"{name} must be {wanted} for each jet, and is {_type(jets[name])}")
    return values


def _flat_jets(jets: ak.Array, labels: NDArray[Any] | None) -> FlatJets:
    """Momenta and labels of jets, as far as they are checked."""
    columns = {} if labels is None else {"label": labels}
    if "weight" in jets.fields:
        columns["weight"] = _numbers(jets, "weight")
    if "jet_p4" in jets.fields:
        pairs = zip(JET_MOMENTUM, MOMENTUM, strict=True)
        columns |= {column: np.asarray(jets.jet_p4[name]) for column, name in pairs}
    counts = ak.to_numpy(ak.num(jets.p4, axis=1))
    energy, *momentum = components_of(jets)
    return FlatJets(as_offsets(counts), (energy * _ENERGY_MARGIN, *momentum), {}, columns)


def _momenta_of(jets: ak.Array, name: str) -> FlatCollection:
    """Momenta of a further collection, if it has them."""
    bounds = as_offsets(ak.to_numpy(ak.num(jets[name], axis=1)))
    p4 = None
    if "p4" in jets[name].fields:
        energy, *momentum = components_of(jets[name])
        p4 = (energy * _ENERGY_MARGIN, *momentum)
    return FlatCollection(bounds, p4)


def _is_missing(jets: ak.Array) -> NDArray[np.bool_] | None:
    """True for missing jets, shape (B,); None if the type of the array has none."""
    if not (jets.layout.is_option or jets.p4.layout.is_option):
        return None
    return ak.to_numpy(ak.is_none(jets.p4, axis=0))


def _select(jets: ak.Array, rows: NDArray[np.bool_]) -> ak.Array:
    """Some jets, whose columns have no option type where no value is missing."""
    columns = {}
    for name in jets.fields:
        column = jets[name][rows]
        if column.layout.is_option and not ak.any(ak.is_none(column, axis=0)):
            column = ak.drop_none(column, axis=0)
        columns[name] = column
    return _zip(columns, int(rows.sum()), jets.attrs)


def _without_a_level(jets: ak.Array, counts: NDArray[np.int64]) -> ak.Array:
    """Jets of all events in one list."""
    columns = {}
    for name in jets.fields:
        column = jets[name]
        if column.ndim == 1:
            columns[name] = column[np.repeat(np.arange(len(counts)), counts)]
            continue
        if not np.array_equal(ak.to_numpy(ak.fill_none(ak.num(column, axis=1), 0)), counts):
            raise InputError(f"column {name!r} and p4 have different numbers of jets")
        columns[name] = ak.flatten(column, axis=1)
    return _zip(columns, int(counts.sum()), jets.attrs)


def _zip(columns: Mapping[str, ak.Array], length: int, attrs: Mapping[str, Any]) -> ak.Array:
    """Records of columns, which may be empty."""
    contents = [ak.to_layout(column) for column in columns.values()]
    layout = ak.contents.RecordArray(contents, list(columns), length=length)
    behavior = next((column.behavior for column in columns.values() if column.behavior), None)
    return ak.Array(layout, attrs=dict(attrs) or None, behavior=behavior)


def _type(array: ak.Array) -> str:
    """Type of an array in a few characters."""
    short = reprlib.Repr()
    short.maxother = short.maxstring = _TYPE_CHARACTERS
    return short.repr_str(" ".join(str(array.type).split()), 1).strip("'\"")
