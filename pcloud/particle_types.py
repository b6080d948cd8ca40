"""Charge and type of particles from their PDG codes, with the conventions of JetClass."""

from __future__ import annotations

from collections.abc import Iterable

import awkward as ak
import numpy as np

from pcloud.errors import InputError

__all__ = [
    "PARTICLE_TYPES",
    "available_columns",
    "decode_remapped",
    "particle_types",
    "with_particle_types",
]

PARTICLE_TYPES = (
    "charge",
    "is_charged_hadron",
    "is_neutral_hadron",
    "is_photon",
    "is_electron",
    "is_muon",
)
"""Columns that are computed from a column ``pid``."""

_PHOTON = 22
_ELECTRON = 11
_MUON = 13
_NEUTRINOS = (12, 14, 16)
_NEUTRAL_KAONS = (130, 310)  # K_L and K_S, the hadrons whose spin digit is 0
_MIN_NUCLEUS = 1_000_000_000
_REMAPPED = (22, 211, -211, 321, -321, 130, 2112, -2112, 2212, -2212, 11, -11, 13, -13)
_MAX_SHOWN_CODES = 5  # in an error message


def particle_types(pid: np.ndarray) -> dict[str, np.ndarray]:
    """Charge and type of particles from their PDG codes.

    Hadrons are identified by the quark digits of their code, from which the charge follows. Nuclei
    are treated as hadrons. Neutrinos and code 0, a particle of unknown type, have charge 0 and all
    flags 0.

    Parameters
    ----------
    pid : ndarray, shape (N,)
        PDG codes.

    Returns
    -------
    dict of str to ndarray, shape (N,), int8
        ``charge`` in units of e, and the flags ``is_charged_hadron``, ``is_neutral_hadron``,
        ``is_photon``, ``is_electron``, ``is_muon``, which are 0 or 1.

    Raises
    ------
    InputError
        If a code does not belong to a particle that can be in a jet. This concerns quarks, gluons,
        taus, heavy bosons, numbers that are not PDG codes, and negative codes of particles that are
        their own antiparticles.

    References
    ----------
    Particle Data Group, Monte Carlo particle numbering scheme,
    https://pdg.lbl.gov/2023/reviews/rpp2023-rev-monte-carlo-numbering.pdf.

    Examples
    --------
    >>> import numpy as np
    >>> particle_types(np.array([211, 11, 22]))["charge"]
    array([ 1, -1,  0], dtype=int8)
    """
    codes, position = np.unique(np.asarray(pid), return_inverse=True)
    rows = [_row(code) for code in codes.tolist()]
    unknown = [code for code, row in zip(codes.tolist(), rows, strict=True) if row is None]
    if unknown:
        shown = ", ".join(f"{code:.10g}" for code in unknown[:_MAX_SHOWN_CODES])
        more = ", ..." if len(unknown) > _MAX_SHOWN_CODES else ""
        count = np.isin(pid, unknown).sum()
        raise InputError(
            f"{count} of {len(pid)} particles have a pid that is no PDG code of a particle in a "
            f"jet: {shown}{more}; use 0 for an unknown type"
        )
    table = np.array(rows, dtype=np.int8).reshape(-1, len(PARTICLE_TYPES))
    columns = table[position.reshape(-1)].T
    return dict(zip(PARTICLE_TYPES, columns, strict=True))


def with_particle_types(jets: ak.Array, columns: Iterable[str]) -> ak.Array:
    """Add those of `columns` to `jets` that are missing and can be computed from their ``pid``.

    Raises
    ------
    InputError
        If such a column is missing and a PDG code is invalid, see :func:`particle_types`.
    """
    wanted = [c for c in columns if c in PARTICLE_TYPES and c not in jets.fields]
    if not wanted or "pid" not in jets.fields:
        return jets
    counts = ak.num(jets.pid, axis=1)
    types = particle_types(ak.to_numpy(ak.flatten(jets.pid, axis=1)))
    for name in wanted:
        jets = ak.with_field(jets, ak.unflatten(types[name], counts), name)
    return jets


def available_columns(fields: Iterable[str]) -> list[str]:
    """Names of `fields` of jets and of the columns that can be computed from them."""
    fields = list(fields)
    derived = PARTICLE_TYPES if "pid" in fields else ()
    return [*fields, *(name for name in derived if name not in fields)]


def decode_remapped(pid: np.ndarray) -> np.ndarray:
    """PDG codes from the numbers 0, 0.1, ..., 1.3 of EnergyFlow's ``remap_pids``.

    `pid` is returned without change if it contains another number, or only integers.
    """
    if not np.issubdtype(pid.dtype, np.floating) or not (pid % 1).any():
        return pid
    tenths = np.rint(10 * pid)
    is_remapped = (np.abs(10 * pid - tenths) < 1e-3) & (tenths >= 0) & (tenths < len(_REMAPPED))
    return np.array(_REMAPPED)[tenths.astype(int)] if is_remapped.all() else pid


def _row(code: float) -> tuple[int, ...] | None:
    """Charge and flags of a code; None if the code is invalid."""
    if code != int(code):
        return None
    code = int(code)
    kind = abs(code)
    sign = -1 if code < 0 else 1
    if code == 0 or kind in _NEUTRINOS:
        return 0, 0, 0, 0, 0, 0
    if code == _PHOTON:
        return 0, 0, 0, 1, 0, 0
    if kind == _ELECTRON:
        return -sign, 0, 0, 0, 1, 0
    if kind == _MUON:
        return -sign, 0, 0, 0, 0, 1
    charge = _hadron_charge(code)
    if charge is None:
        return None
    return charge, int(charge != 0), int(charge == 0), 0, 0, 0


def _hadron_charge(code: int) -> int | None:
    """Charge of a hadron or nucleus; None if the code belongs to neither."""
    kind = abs(code)
    sign = -1 if code < 0 else 1
    if kind >= _MIN_NUCLEUS:
        return sign * (kind // 10_000 % 1000)
    if kind in _NEUTRAL_KAONS:
        return 0 if code > 0 else None
    spin, third, second, first = (kind // 10**i % 10 for i in range(4))
    is_excited_hadron = kind < 1_000_000 or kind // 1_000_000 == 9
    quarks = (first, second, third) if first else (second, third)
    if not spin or not is_excited_hadron or not all(1 <= quark <= 5 for quark in quarks):
        return None
    if first:
        return sign * (sum(map(_thirds, quarks)) // 3)
    if second == third and code < 0:
        return None  # the particle is its own antiparticle
    # The first digit is the heavier quark; if it is of down type, it is the antiquark.
    heavier_sign = 1 if second % 2 == 0 else -1
    return sign * heavier_sign * (_thirds(second) - _thirds(third)) // 3


def _thirds(quark: int) -> int:
    """Charge of a quark (1 to 5: d, u, s, c, b) in units of e / 3."""
    return 2 if quark % 2 == 0 else -1
