"""Detection of bad jets: unphysical momenta, no particles, invalid labels; wrong units."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from pcloud.errors import InputError
from pcloud.io.jets import JET_MOMENTUM, MOMENTUM, TARGETS, FlatJets
from pcloud.io.labels import SEVERAL_CLASSES

__all__ = [
    "SPACELIKE_TOLERANCE",
    "BadJetWarning",
    "DoubtfulValuesWarning",
    "check_units",
    "describe",
    "find_bad_jets",
    "find_doubts",
]

#: Largest allowed relative excess of p^2 over E^2. The public samples (float32) are below 5e-7. The
#: limit excludes wrong columns and units.
SPACELIKE_TOLERANCE = 1e-3

#: The excess from momenta of half precision, whose 11 bits are rounded: (1 + 2^-11)^2 / (1 - 2^-11)^2.
_HALF_PRECISION_BITS = 11
_HALF_PRECISION_TOLERANCE = 2.1e-3

#: Median jet pt in GeV above which the unit is probably wrong: half the energy of the LHC.
SUSPICIOUS_PT = 7e3

_CHUNK_PARTICLES = 1 << 15  # seven float32 columns fit into the second-level cache


class BadJetWarning(UserWarning):
    """Warning that bad jets were omitted because of ``on_bad_jet="drop"``."""


class DoubtfulValuesWarning(UserWarning):
    """Warning of values that probably mean something else than what the schema says."""


def find_bad_jets(
    jets: FlatJets,
    columns: Mapping[str, str],
    num_classes: int = 0,
    stored: Mapping[str, np.ndarray] | None = None,
    checked: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Find bad jets and the reasons.

    Parameters
    ----------
    jets : FlatJets
        Jets to check. ``label`` can have any numeric type; it is -1 if a one-hot row does not have
        exactly one class.
    columns : mapping of str to str
        Name in the file of each column of `jets`, for the messages.
    num_classes : int
        Number of classes, 0 if it is not known.
    stored : mapping of str to array, shape (N,), optional
        Quantities of the momenta as they are stored: a negative pt is an error, and quantities of
        half precision allow a larger momentum.
    checked : collection of str
        Extra columns in which NaN and infinity are errors. They always are in momenta and weights.
        In targets infinity is an error, and NaN stands for a missing one.

    Returns
    -------
    dict of str to array
        Sorted indices of the bad jets for each reason; empty if all jets are good.
    """
    reasons: dict[str, np.ndarray] = {}
    counts = jets.counts
    if not counts.all():
        reasons["no particles"] = np.flatnonzero(counts == 0)

    def add(reason: str, entries: np.ndarray, offsets: np.ndarray = jets.offsets) -> None:
        index = np.flatnonzero(entries)
        if len(index):
            reasons[reason] = np.unique(np.searchsorted(offsets, index, side="right") - 1)

    stored = stored or {}
    if not _all_physical(jets.p4):
        tolerance = SPACELIKE_TOLERANCE
        if stored and all(map(_is_half_precision, stored.values())):
            tolerance = _HALF_PRECISION_TOLERANCE
        for reason, particles in _unphysical(jets.p4, columns, tolerance):
            add(reason, particles)
    if "pt" in stored and (negative := stored["pt"] < 0).any():
        add(f"negative pt in {columns['pt']}", negative)
    for name, values in jets.particle.items():
        if name in checked and _has_nan(values):
            add(f"NaN or infinity in {columns.get(name, name)}", ~np.isfinite(values))
    for name, values in jets.jet.items():
        if name.startswith(TARGETS):  # NaN stands for a missing one
            if (infinite := np.isinf(values)).any():
                reasons[f"infinity in {columns.get(name, name)}"] = np.flatnonzero(infinite)
            continue
        always = name in JET_MOMENTUM or name == "weight"
        if (always or name in checked) and _has_nan(values):
            reasons[f"NaN or infinity in {columns.get(name, name)}"] = np.flatnonzero(
                ~np.isfinite(values)
            )
    for name, entries in jets.collections.items():
        if entries.p4 is not None and not _all_physical(entries.p4):
            for reason, rows in _unphysical(entries.p4, {}, SPACELIKE_TOLERANCE):
                add(f"{reason} of {name}", rows, entries.offsets)
        for column, values in entries.columns.items():
            if not {name, f"{name}.{column}"}.isdisjoint(checked) and _has_nan(values):
                add(f"NaN or infinity in {name}.{column}", ~np.isfinite(values), entries.offsets)
    if "label" in jets.jet:
        reasons |= _bad_labels(jets.jet["label"], columns.get("label", "label"), num_classes)
    return reasons


def _has_nan(values: np.ndarray) -> bool:
    return values.dtype.kind == "f" and not np.isfinite(values).all()


def _is_half_precision(values: np.ndarray) -> bool:
    """Return True if all numbers fit into the 11 bits of half precision."""
    mantissa, _ = np.frexp(values[np.isfinite(values)])
    scaled = np.ldexp(mantissa, _HALF_PRECISION_BITS)
    return bool((scaled == np.rint(scaled)).all())


def _unphysical(
    p4: tuple[np.ndarray, ...], columns: Mapping[str, str], tolerance: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Reasons why particles cannot exist, each with the mask (N,) of these particles."""
    finite = np.ones(len(p4[0]), dtype=bool)
    for name, component in zip(MOMENTUM, p4, strict=True):
        yield f"NaN or infinity in {columns.get(name, name)}", ~np.isfinite(component)
        finite &= np.isfinite(component)
    energy, *momentum = (component.astype(np.float64) for component in p4)
    with np.errstate(invalid="ignore", over="ignore"):
        spacelike = sum(p**2 for p in momentum) > (1 + tolerance) * energy**2
    where = columns.get("E", "the energy")
    yield f"negative energy in {where}", finite & (energy < 0)
    yield f"zero energy in {where}", finite & (energy == 0)
    yield f"momentum above the energy in {where}", finite & (energy > 0) & spacelike


def _all_physical(p4: tuple[np.ndarray, ...]) -> bool:
    """Return True if all particles are finite with 0 < E and p <= E; fast, in chunks."""
    size = min(_CHUNK_PARTICLES, len(p4[0]))
    limit, square, scratch = (np.empty(size, dtype=p4[0].dtype) for _ in range(3))
    with np.errstate(all="ignore"):
        for start in range(0, len(p4[0]), _CHUNK_PARTICLES):
            energy, px, py, pz = (component[start : start + _CHUNK_PARTICLES] for component in p4)
            n = len(energy)
            a, b, c = limit[:n], square[:n], scratch[:n]
            np.multiply(px, px, out=b)
            for component in (py, pz):
                np.multiply(component, component, out=c)
                np.add(b, c, out=b)
            np.multiply(energy, energy, out=a)
            np.multiply(a, 1 + SPACELIKE_TOLERANCE, out=a)
            # Comparisons with NaN are false. Infinite squares are excluded: inf <= inf is true.
            if not (energy.min() > 0 and a.max() < np.inf and np.less_equal(b, a).all()):
                return False
    return True


def _bad_labels(label: np.ndarray, column: str, num_classes: int) -> dict[str, np.ndarray]:
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(label) & (label == np.floor(label)) & (np.abs(label) < 2.0**31)
        several = whole & (label == SEVERAL_CLASSES)
        negative = whole & (label < 0) & ~several
        high = whole & (label >= num_classes) if num_classes else np.zeros(len(label), dtype=bool)
    reasons = {
        f"{column} not a whole number": ~whole,
        f"{column} negative or no class": negative,
        f"{column} in more than one class": several,
        f"{column} above {num_classes - 1}, the last class": high,
    }
    return {reason: np.flatnonzero(bad) for reason, bad in reasons.items() if bad.any()}


def describe(reasons: Mapping[str, np.ndarray]) -> str:
    """Text of one line with the reasons and the first jets of each."""
    parts = []
    for reason, index in reasons.items():
        shown = ", ".join(str(i) for i in index[:5])
        more = f" and {len(index) - 5} more" if len(index) > 5 else ""
        parts.append(f"{reason} (jet{'s' if len(index) > 1 else ''} {shown}{more})")
    return "; ".join(parts)


def check_units(jets: FlatJets, where: str, unit: str) -> None:
    """Check that the momenta of the jets are plausible for the unit of the schema.

    Parameters
    ----------
    jets : FlatJets
        Jets; the first 1000 are used.
    where : str
        File name for the message.
    unit : str
        Unit of the schema.

    Raises
    ------
    InputError
        If the median pt of the jets is above 7 TeV.
    """
    jets = jets.slice(0, min(len(jets), 1000))
    starts = jets.offsets[:-1][jets.counts > 0]
    if not len(starts):
        return
    px, py = (np.add.reduceat(component.astype(np.float64), starts) for component in jets.p4[1:3])
    median = float(np.median(np.hypot(px, py)))
    if median > SUSPICIOUS_PT:
        smaller = {"TeV": "GeV", "GeV": "MeV", "MeV": "keV", "keV": "eV"}.get(unit, "eV")
        raise InputError(
            f"{where}: the median jet pt is {median:.3g} GeV if the unit is {unit}; is it "
            f"{smaller}? Then say unit={smaller!r} in the schema, else check_units=False "
            "(--check-units false)"
        )


_SENTINELS = (-9.0, -99.0, -999.0, -9999.0, -99999.0)
_DOUBTFUL_DISTANCE = 3  # of a sentinel from all other values, relative to the largest of these
_NUM_INSPECTED_JETS = 1000
_MIN_VALUES = 50  # fewer say little about a distribution


def find_doubts(
    jets: FlatJets, stored: Mapping[str, np.ndarray], columns: Mapping[str, str]
) -> list[str]:
    """Sentences about values that probably mean something else: degrees, and codes like -999.

    Parameters
    ----------
    jets : FlatJets
        Jets, of which the first 1000 are used.
    stored : mapping of str to array, shape (N,)
        Quantities of the momenta as they are stored.
    columns : mapping of str to str
        Name in the file of each column, for the messages.
    """
    doubts = []
    jets = jets.slice(0, _NUM_INSPECTED_JETS)
    phi = stored.get("phi", np.empty(0))[: jets.offsets[-1]]
    phi = phi[np.isfinite(phi)]
    if len(phi) and (largest := float(np.abs(phi).max())) > 2 * np.pi + 1e-3:
        unit = "degrees, not rad? Then write" if largest <= 360 else "not rad? Of degrees, write"
        doubts.append(
            f"phi ({columns.get('phi', 'phi')}) reaches {largest:.4g}: is it in {unit} "
            f'"{columns.get("phi", "phi")} * pi / 180"'
        )
    for name, values in (*jets.particle.items(), *jets.jet.items()):
        code = _find_code(values) if name != "label" else None
        if code is not None:
            number = int(np.count_nonzero(values == code))
            reference = columns.get(name, name)
            doubts.append(
                f"{name} ({reference}) is {code:g} for {number:,} of the first {len(values):,} "
                f"{'particles' if name in jets.particle else 'jets'}: if this means that it is "
                f'missing, write "where({reference} == {code:g}, 0, {reference})"'
            )
    return doubts


def _find_code(values: np.ndarray) -> float | None:
    """Smallest value of a column if it looks like a code for a missing value, as -999 does."""
    if values.dtype.kind not in "if":
        return None
    values = values[np.isfinite(values)]
    if len(values) < _MIN_VALUES or float(code := values.min()) not in _SENTINELS:
        return None
    others = values[values != code]
    largest = float(np.abs(others).max(initial=0))
    return float(code) if abs(float(code)) > _DOUBTFUL_DISTANCE * largest else None
