"""Detection of bad jets: unphysical momenta, no particles, invalid labels; wrong units."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pcloud.errors import InputError
from pcloud.io.jets import JET_MOMENTUM, MOMENTUM, FlatJets

__all__ = ["SPACELIKE_TOLERANCE", "BadJetWarning", "check_units", "describe", "find_bad_jets"]

#: Largest allowed relative excess of p^2 over E^2. The public samples (float32) are below 5e-7. The
#: limit allows momenta with an 11-bit mantissa, and excludes wrong columns and units.
SPACELIKE_TOLERANCE = 1e-3

#: Median jet pt in GeV above which the unit is probably wrong: half the energy of the LHC.
SUSPICIOUS_PT = 7e3

_CHUNK_PARTICLES = 1 << 15  # seven float32 columns fit into the second-level cache


class BadJetWarning(UserWarning):
    """Warning that bad jets were omitted because of ``on_bad_jet="drop"``."""


def find_bad_jets(
    jets: FlatJets,
    columns: Mapping[str, str],
    num_classes: int = 0,
    negative_pt: np.ndarray | None = None,
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
    negative_pt : array of bool, shape (N,), optional
        True for particles whose stored pt is negative.

    Returns
    -------
    dict of str to array
        Sorted indices of the bad jets for each reason; empty if all jets are good.
    """
    reasons: dict[str, np.ndarray] = {}
    counts = jets.counts
    if not counts.all():
        reasons["no particles"] = np.flatnonzero(counts == 0)

    def add(reason: str, particles: np.ndarray) -> None:
        index = np.flatnonzero(particles)
        if len(index):
            reasons[reason] = np.unique(np.searchsorted(jets.offsets, index, side="right") - 1)

    if not _all_physical(jets.p4):
        finite = np.ones(len(jets.p4[0]), dtype=bool)
        for name, component in zip(MOMENTUM, jets.p4, strict=True):
            add(f"NaN or infinity in {columns.get(name, name)}", ~np.isfinite(component))
            finite &= np.isfinite(component)
        energy, *momentum = (component.astype(np.float64) for component in jets.p4)
        with np.errstate(invalid="ignore", over="ignore"):
            spacelike = sum(p**2 for p in momentum) > (1 + SPACELIKE_TOLERANCE) * energy**2
        where = columns.get("E", "the energy")
        add(f"negative energy in {where}", finite & (energy < 0))
        add(f"zero energy in {where}", finite & (energy == 0))
        add(f"momentum above the energy in {where}", finite & (energy > 0) & spacelike)
    if negative_pt is not None:
        add(f"negative pt in {columns['pt']}", negative_pt)
    for name, values in jets.particle.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            add(f"NaN or infinity in {columns.get(name, name)}", ~np.isfinite(values))
    for name in JET_MOMENTUM:
        if name in jets.jet and not np.isfinite(jets.jet[name]).all():
            reasons[f"NaN or infinity in {columns.get(name, name)}"] = np.flatnonzero(
                ~np.isfinite(jets.jet[name])
            )
    if "label" in jets.jet:
        reasons |= _bad_labels(jets.jet["label"], columns.get("label", "label"), num_classes)
    return reasons


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
        negative = whole & (label < 0)
        high = whole & (label >= num_classes) if num_classes else np.zeros(len(label), dtype=bool)
    reasons = {
        f"{column} not a whole number": ~whole,
        f"{column} negative or no class": negative,
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
