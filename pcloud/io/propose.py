"""Proposal of a schema from the names and values of the columns of a file.

The names are those of public samples and of the frameworks of experiments. A proposal is a start that a
person reads, not a detection: ambiguous columns are listed as remarks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pcloud.io.check import SUSPICIOUS_PT
from pcloud.io.momentum import four_momenta
from pcloud.io.values import ColumnValues
from pcloud.io.vectors import ENDS
from pcloud.text import for_terminal

__all__ = ["Proposal", "propose_schema"]

_MAX_EXTRAS = 16  # further columns per particle that are proposed
_MAX_NAMES = 30  # names in a remark

_DIRECTIONS = (("px", "py", "pz"), ("pt", "eta", "phi"), ("pt", "rapidity", "phi"))
_PARTS = re.compile(r"(?P<prefix>.*[._/])?(?P<end>[^._/]+)")

_PARTICLES = re.compile(r"part|pf|cand|const|track|tower|hit|clus|calo|hadron", re.I)
_JETS = re.compile(r"^(ak\d+|fat|large|small|reco|sel)*(jet|fj)", re.I)
_VERTICES = re.compile(r"sv|vert|vtx", re.I)
_OTHERS = re.compile(r"gen|truth|^mc|lhe|^iso|trig|^sub|flow", re.I)  # no collection to train on

#: Names of columns per particle, by the end of their names in files.
_PARTICLE_NAMES = {
    "charge": r"charge|q",
    "pid": r"pid|pdg_?id",
    "d0": r"d0|d0val|dxy",
    "d0_err": r"(d0|d0_|dxy|dxy_)(err|error|uncertainty)",
    "dz": r"dz|dzval",
    "dz_err": r"dz_?(err|error|uncertainty)",
    "is_charged_hadron": r"is_?charged_?had(ron)?",
    "is_neutral_hadron": r"is_?neutral_?had(ron)?",
    "is_photon": r"is_?(photon|gamma)",
    "is_electron": r"is_?el(ectron)?",
    "is_muon": r"is_?mu(on)?",
}
_JET_NAMES = {
    "jet_sdmass": r"sd_?mass|(m|mass_?)soft_?drop|m_?sd",
    **{f"jet_tau{i}": rf"tau_?{i}" for i in range(1, 5)},
}
_LABELS = re.compile(
    r"label|y|target|class|truth|.*label|.*flav(ou?r)?|.*truthlabelid|.*flavou?r_?label|"
    r"is_?signal.*|signal",
    re.I,
)
_ONE_HOT = r"label_.+"
_FLAG = r"(.*_)?is_?[A-Z].*"
_WEIGHTS = ("genweight", "mceventweight", "weight", "event_weight", "eventweight", "w")
_IDENTIFIERS = {
    "event": re.compile(r"event|evt|event_?(number|id|no)|evt_?(number|num)", re.I),
    "run": re.compile(r"run|run_?(number|id)", re.I),
    "lumi": re.compile(r"lumi|luminosity_?block|lumi_?(block|section)|ls", re.I),
}
_FLAVOURS = {5: "b", 4: "c", 0: "light", 15: "tau", 21: "gluon", 1: "down", 2: "up", 3: "strange"}
_MASKS = re.compile(r"valid|mask|is_?valid", re.I)
_STRUCTURE = re.compile(r"offsets?|counts?|n_?(part|particles|constituents|cands)", re.I)


@dataclass(frozen=True)
class Proposal:
    """Proposed schema.

    Parameters
    ----------
    schema : dict
        Fields of a `JetSchema`; empty if nothing was found.
    notes : list of str
        Remarks of one line.
    """

    schema: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Collection:
    """Columns with a common beginning, of which some are a momentum."""

    prefix: str
    columns: list[ColumnValues]
    momentum: dict[str, ColumnValues]

    @property
    def first(self) -> ColumnValues:
        return next(iter(self.momentum.values()))

    @property
    def name(self) -> str:
        return self.prefix.rstrip("._/")

    @property
    def is_complete(self) -> bool:
        return {"E", "mass"} & self.momentum.keys() != set()

    def preference(self) -> tuple[Any, ...]:
        """Larger for collections that are more probably the particles of jets."""
        name = self.name
        kind = 1
        if _PARTICLES.search(name):
            kind = 3
        elif _JETS.search(name):
            kind = 2
        elif _VERTICES.search(name):
            kind = 0
        lengths = self.first.lengths
        mean = float(lengths.mean()) if lengths is not None and len(lengths) else 0.0
        return self.first.depth, not _OTHERS.search(name), kind, mean


def propose_schema(columns: Sequence[ColumnValues], tree: str | None = None) -> Proposal:
    """Propose a schema.

    Parameters
    ----------
    columns : sequence of ColumnValues
        Columns of the file.
    tree : str, optional
        Name of their tree, if the file has several.

    Returns
    -------
    Proposal
    """
    columns, notes = _with_slots(columns)
    collections = _collections(columns)
    candidates = [c for c in collections if c.first.depth >= 1]
    if not candidates:
        return _of_array(columns, tree, notes)
    main = max(candidates, key=_Collection.preference)
    schema: dict[str, Any] = {"tree": tree} if tree else {}
    index = _index(columns, main)
    is_event = bool(index) or main.first.depth == 2
    per_jet = [c for c in columns if _is_per_jet(c, main, is_event, index)]
    per_event = [c for c in columns if c.depth == 0] if is_event else []
    if _is_mev(main):
        schema["unit"] = "MeV"
        notes.append("unit: MeV, because the jets would be above 7 TeV in GeV")
    schema["p4"] = {quantity: c.name for quantity, c in main.momentum.items()}
    if not main.is_complete:
        notes.append("The momenta have neither energy nor mass: particles are massless.")
    particle, others = _extras(main)
    if particle:
        schema["particle"] = particle
    jet = _named(per_jet, _JET_NAMES)
    if jet:
        schema["jet"] = jet
    jets = [c for c in collections if c.first in per_jet and _is_jet(c, main, index)]
    complete = [c for c in jets if c.is_complete]
    if complete:
        best = max(complete, key=lambda c: (main.name.lower().startswith(c.name.lower()), c.prefix))
        schema["jet_p4"] = {quantity: c.name for quantity, c in best.momentum.items()}
    if index:
        schema["index"] = index
    schema |= _storage(columns, main)
    schema |= _label(per_jet or per_event, notes)
    schema |= _of_the_event([*per_jet, *per_event])
    if is_event:
        schema["keep"] = ["index"]
    vertices = [c for c in candidates if c is not main and c.preference()[2] == 0]
    if vertices and not is_event:
        schema["collections"] = {c.name: _further(c) for c in vertices}
    if others:
        more = f", ... ({len(others)} in all)" if len(others) > _MAX_NAMES else ""
        notes.append(f"Further columns per particle: {', '.join(others[:_MAX_NAMES])}{more}")
    rivals = [
        c.name
        for c in candidates
        if c is not main
        and c.first.depth == main.first.depth
        and c.first not in per_jet
        and c.name not in schema.get("collections", {})
    ]
    if rivals:
        notes.append(f"Further collections: {', '.join(rivals[:_MAX_NAMES])}")
    return Proposal(schema, [for_terminal(note) for note in notes])


def _with_slots(columns: Sequence[ColumnValues]) -> tuple[list[ColumnValues], list[str]]:
    """Columns ``E_0, E_1, ...`` as one column ``E_{i}``."""
    families: dict[str, list[ColumnValues]] = {}
    for column in columns:
        match = re.fullmatch(r"(.*\D)(\d+)", column.name)
        if match and column.depth == 0:
            families.setdefault(match[1], []).append(column)
    found = list(columns)
    for begin, family in families.items():
        if len(family) < 3 or family[0].name != f"{begin}0":
            continue
        values = np.stack([column.values for column in family], axis=1)
        wide = ColumnValues(f"{begin}{{i}}", (family[0].shape[0], len(family)), values)
        place = found.index(family[0])
        names = {column.name for column in family}
        found = [column for column in found if column.name not in names]
        found.insert(place, wide)
    return found, []


def _split(name: str) -> tuple[str, str]:
    """Beginning and end of a name: ``jets/`` and ``pt`` of ``jets/pt`` and ``jets/pt_btagJes``."""
    name = name.replace("_{i}", "").replace("{i}", "").replace("_btagJes", "")
    for end in ENDS:
        if "." in end and name.lower().endswith(f".{end}"):
            return name[: -len(end)], end
    match = _PARTS.fullmatch(name)
    return (match["prefix"] or "", match["end"]) if match else ("", name)


def _collections(columns: Sequence[ColumnValues]) -> list[_Collection]:
    """Collections with a momentum, in the order of the file."""
    groups: dict[tuple[str, int], list[ColumnValues]] = {}
    for column in columns:
        groups.setdefault((_split(column.name)[0], column.depth), []).append(column)
    found = []
    for (prefix, _), members in groups.items():
        by_quantity: dict[str, ColumnValues] = {}
        for column in members:
            quantity = ENDS.get(_split(column.name)[1].lower())
            if quantity and column.values.dtype.kind == "f":
                by_quantity.setdefault(quantity, column)
        for directions in _DIRECTIONS:
            if all(name in by_quantity for name in directions):
                energy = [name for name in ("E", "mass") if name in by_quantity][:1]
                momentum = {name: by_quantity[name] for name in (*directions, *energy)}
                found.append(_Collection(prefix, members, momentum))
                break
    return found


def _index(columns: Sequence[ColumnValues], main: _Collection) -> dict[str, str]:
    """Pair of columns that say which particle of an event belongs to which jet, as in NanoAOD."""
    names = {column.name for column in columns if column.depth == 1}
    for name in names:
        prefix, end = _split(name)
        if end.lower() != f"{main.name.lower()}idx":
            continue
        jets = [n for n in names - {name} if n.startswith(prefix) and n.lower().endswith("jetidx")]
        if prefix != main.prefix and jets:
            return {"jet": jets[0], "particle": name}
    return {}


def _is_per_jet(
    column: ColumnValues, main: _Collection, is_event: bool, index: dict[str, str]
) -> bool:
    if column in main.columns or column.name in index.values():
        return False
    if not is_event:
        return column.depth == 0 and column.shape[0] == main.first.shape[0]
    if column.depth != 1 or column.shape[1] is not None:
        return False
    return not (index and _split(column.name)[0] == _split(index["jet"])[0])


def _is_jet(collection: _Collection, main: _Collection, index: dict[str, str]) -> bool:
    name = collection.name
    if index:
        return _split(index["jet"])[0].rstrip("._/").startswith(name)
    return bool(_JETS.search(name)) or (bool(name) and main.name.startswith(name))


def _is_mev(main: _Collection) -> bool:
    """True if the median pt of the jets would be above 7 TeV in GeV."""
    first = main.first
    values = {q: np.nan_to_num(c.values.astype(np.float64)) for q, c in main.momentum.items()}
    _, px, py, _ = four_momenta(values, 1.0)
    if first.lengths is None:
        pt = np.hypot(px.sum(-1), py.sum(-1))
    else:
        starts = (np.cumsum(first.lengths) - first.lengths)[first.lengths > 0]
        if not len(starts):
            return False
        pt = np.hypot(np.add.reduceat(px, starts), np.add.reduceat(py, starts))
    return bool(len(pt)) and float(np.median(pt)) > SUSPICIOUS_PT


def _extras(main: _Collection) -> tuple[dict[str, str], list[str]]:
    """Further columns per particle: those to read, and the names of the others."""
    used = {column.name for column in main.momentum.values()}
    rest = [c for c in main.columns if c.name not in used and c.shape == main.first.shape]
    found = _named(rest, _PARTICLE_NAMES)
    others = []
    for column in rest:
        end = _split(column.name)[1]
        is_varied = len(column.finite) > 0 and column.finite.min() < column.finite.max()
        known = column.name in found.values() or ENDS.get(end.lower()) or _MASKS.fullmatch(end)
        if known or not is_varied:
            continue
        name = column.name.removeprefix(main.prefix) if main.prefix else column.name
        # Relative coordinates are computed from the momenta, truth is no input.
        is_input = name not in ("deta", "dphi", "log_pt") and not _OTHERS.search(name)
        is_input = is_input and "truth" not in name.lower() and "label" not in name.lower()
        if is_input and len(found) < _MAX_EXTRAS and name.isidentifier() and name not in found:
            found[name] = column.name
        else:
            others.append(column.name)
    return found, others


def _further(collection: _Collection) -> dict[str, dict[str, str]]:
    """Fields of a further collection of the jets, such as their vertices."""
    p4 = {quantity: column.name for quantity, column in collection.momentum.items()}
    columns = {
        column.name.removeprefix(collection.prefix): column.name
        for column in collection.columns
        if column.name not in p4.values() and column.shape == collection.first.shape
    }
    return {"p4": p4, "columns": columns} if columns else {"p4": p4}


def _named(columns: Sequence[ColumnValues], names: dict[str, str]) -> dict[str, str]:
    """Columns whose names end as a pattern says, by the names of pcloud."""
    found: dict[str, str] = {}
    for column in columns:
        whole = column.name.rsplit("/", 1)[-1].rsplit(".", 1)[-1]
        ends = {_split(column.name)[1], whole, whole.partition("_")[2]}
        for name, pattern in names.items():
            if name not in found and any(re.fullmatch(pattern, end, re.I) for end in ends):
                found[name] = column.name
    return found


def _storage(columns: Sequence[ColumnValues], main: _Collection) -> dict[str, str]:
    """Mask of padded jets, or offsets or counts of flat ones."""
    if main.first.lengths is not None:
        return {}
    for column in main.columns:
        if _MASKS.fullmatch(_split(column.name)[1]) and column.shape == main.first.shape:
            return {"mask": column.name}
    return {}


def _label(columns: Sequence[ColumnValues], notes: list[str]) -> dict[str, Any]:
    """Label: one-hot columns, or a column of few whole numbers."""
    for pattern in (_ONE_HOT, _FLAG):
        flags = [c for c in columns if re.fullmatch(pattern, c.name.rsplit("/", 1)[-1])]
        flags = [c for c in flags if set(c.distinct) <= {0, 1} and c.distinct]
        if len(flags) > 1 and len({len(c.values) for c in flags}) == 1:
            total = np.sum([c.values.astype(np.int64) for c in flags], axis=0)
            if (total == 1).all():
                return {"label": [c.name for c in flags]}
        if len(flags) == 1 and pattern == _FLAG:
            name = re.sub(r"^.*?is_?(?=[A-Z])", "", flags[0].name)
            return {"label": flags[0].name, "classes": ["other", name]}
    named = [c for c in columns if _LABELS.fullmatch(c.name.rsplit("/", 1)[-1])]
    named += [c for c in columns if c not in named and _LABELS.fullmatch(_split(c.name)[1])]
    labels = [c for c in named if 1 <= len(c.distinct) <= 20 or _is_class_index(c)]
    if not labels:
        return {}
    label = labels[0]
    if len(labels) > 1:
        notes.append(f"Also labels, perhaps: {', '.join(c.name for c in labels[1:])}")
    values = label.distinct
    if not values or values == list(range(len(values))):
        return {"label": label.name}
    names = {_FLAVOURS.get(abs(v), f"class{v}".replace("-", "m")): v for v in values}
    if "flav" not in label.name.lower() and "truth" not in label.name.lower():
        names = {f"class{v}".replace("-", "m"): v for v in values}
    return {"label": label.name, "classes": names}


def _is_class_index(column: ColumnValues) -> bool:
    values = column.finite
    return bool(
        values.dtype.kind in "iu" and len(values) and values.min() >= 0 and values.max() < 1000
    )


def _of_the_event(columns: Sequence[ColumnValues]) -> dict[str, Any]:
    """Weight and identifiers."""
    found: dict[str, Any] = {}
    by_end = {column.name.rsplit("/", 1)[-1].lower(): column for column in columns}
    weights = [by_end[name].name for name in _WEIGHTS if name in by_end]
    if weights:
        found["weight"] = weights[0]
    identifiers = {
        name: column.name
        for name, pattern in _IDENTIFIERS.items()
        for end, column in by_end.items()
        if pattern.fullmatch(end) and column.values.dtype.kind in "iu"
    }
    if "event" in identifiers:
        found["event"] = identifiers
    return found


def _of_array(columns: Sequence[ColumnValues], tree: str | None, notes: list[str]) -> Proposal:
    """Proposal for an array (B, P, F), or for flat columns with offsets."""
    flat = [c for c in _collections(columns) if c.first.depth == 0]
    structure = [c for c in columns if _STRUCTURE.fullmatch(c.name.rsplit("/", 1)[-1])]
    if flat and structure:
        schema: dict[str, Any] = {"p4": {q: c.name for q, c in flat[0].momentum.items()}}
        kind = "offsets" if "off" in structure[0].name.lower() else "counts"
        per_jet = [c for c in columns if c.depth == 0 and c.shape != flat[0].first.shape]
        return Proposal({**schema, kind: structure[0].name, **_label(per_jet, notes)}, notes)
    depth = 1 if structure else 2
    arrays = [c for c in columns if c.depth == depth and (c.shape[depth] or 0) >= 3]
    if not arrays:
        return Proposal({}, ["No momenta were recognised: name their columns in a schema."])
    array = max(arrays, key=lambda c: c.values.size)
    momentum = _components(array.values.reshape(-1, array.values.shape[-1]))
    if not momentum:
        return Proposal({}, [for_terminal(f"{array.name} may be the particles; say its columns.")])
    schema = {"tree": tree} if tree else {}
    schema["p4"] = {quantity: f"{array.name}[{i}]" for i, quantity in momentum}
    notes.append("The order of the quantities was guessed from their values: check it.")
    rows = structure[0].shape if structure else array.shape[:1]
    if structure:
        schema["offsets" if "off" in structure[0].name.lower() else "counts"] = structure[0].name
    per_jet = [c for c in columns if c.depth == 0 and c.shape == rows and c not in structure]
    return Proposal(schema | _label(per_jet, notes), [for_terminal(note) for note in notes])


def _components(values: np.ndarray) -> list[tuple[int, str]]:
    """Indices and quantities of an array (N, F): E, px, py, pz or pt, eta, phi."""
    rows = values[np.isfinite(values).all(-1) & (values != 0).any(-1)].astype(np.float64)
    if not len(rows):
        return []
    if rows.shape[1] >= 4:
        for energy, first in ((0, 1), (3, 0)):
            momentum = np.sqrt((rows[:, first : first + 3] ** 2).sum(-1))
            if (rows[:, energy] >= momentum * (1 - 1e-3)).all() and (rows[:, energy] > 0).all():
                names = ["px", "py", "pz"]
                return [(energy, "E"), *((first + i, name) for i, name in enumerate(names))]
    is_angle = np.abs(rows[:, 2]).max() <= 2 * np.pi + 1e-3
    if (rows[:, 0] >= 0).all() and is_angle and np.abs(rows[:, 1]).max() < 12:
        return [(0, "pt"), (1, "eta"), (2, "phi")]
    return []
