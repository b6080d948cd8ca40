"""Four-momenta from the quantities in a file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pcloud.io.schema import UNITS, JetSchema

__all__ = ["four_momenta", "momenta_in_gev", "scale"]


def momenta_in_gev(
    schema: JetSchema, group: str, columns: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Components E, px, py, pz in GeV from the quantities of some momenta in a file.

    Parameters
    ----------
    schema : JetSchema
        Schema with the units.
    group : str
        Momenta in the schema: ``"p4"``, ``"jet_p4"`` or, for example, ``"sv.p4"``.
    columns : mapping of str to array, shape (N,)
        Quantities in the units of the file.
    """
    unit = UNITS[schema.unit]
    ratios = {name: schema.energy_unit(group, name) / unit for name in columns}
    equal = {n: v if ratios[n] == 1.0 else scale(v, ratios[n]) for n, v in columns.items()}
    return four_momenta(equal, unit)


def scale(values: np.ndarray, factor: float) -> np.ndarray:
    """Values times a factor, as float64 if they are float64, else as float32."""
    dtype = np.float64 if values.dtype == np.float64 else np.float32
    return (values.astype(np.float64) * factor).astype(dtype)


def four_momenta(columns: Mapping[str, np.ndarray], unit: float) -> tuple[np.ndarray, ...]:
    """Components E, px, py, pz in GeV from the quantities of a `JetSchema`.

    Everything is computed in float64 and rounded once. In float32, the mass of a particle of 1 TeV
    from ``E * E - p * p`` has an error of about 0.3 GeV. Stored E, px, py, pz in GeV are not changed.

    Parameters
    ----------
    columns : mapping of str to array, shape (N,)
        One of the sets of quantities that `JetSchema.p4` allows. A negative mass means a
        negative mass squared, as in ROOT and vector.
    unit : float
        Unit of the energies in GeV.

    Returns
    -------
    tuple of arrays, each of shape (N,)
        Components in float64 if any column is float64, else in float32.
    """
    is_double = any(values.dtype == np.float64 for values in columns.values())
    dtype = np.float64 if is_double else np.float32
    if unit == 1.0 and columns.keys() == {"E", "px", "py", "pz"}:
        return tuple(columns[name].astype(dtype, copy=False) for name in ("E", "px", "py", "pz"))
    double = {name: values.astype(np.float64) for name, values in columns.items()}
    with np.errstate(all="ignore"):  # values that are not finite are reported later, as bad jets
        px, py, pz = _three_momenta(double)
        energy = double["E"] if "E" in double else _energy(px, py, pz, double.get("mass"))
        return tuple((unit * component).astype(dtype) for component in (energy, px, py, pz))


def _three_momenta(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if "px" in columns:
        return columns["px"], columns["py"], columns["pz"]
    pt = columns["pt"]
    phi = columns["phi"]
    if "eta" in columns:
        pz = pt * np.sinh(columns["eta"])
    elif "E" in columns:
        pz = columns["E"] * np.tanh(columns["rapidity"])
    else:
        transverse_mass = np.sqrt(pt**2 + _mass_squared(columns.get("mass")))
        pz = transverse_mass * np.sinh(columns["rapidity"])
    return pt * np.cos(phi), pt * np.sin(phi), pz


def _energy(px: np.ndarray, py: np.ndarray, pz: np.ndarray, mass: np.ndarray | None) -> np.ndarray:
    return np.sqrt(px**2 + py**2 + pz**2 + _mass_squared(mass))


def _mass_squared(mass: np.ndarray | None) -> np.ndarray | float:
    return 0.0 if mass is None else mass * np.abs(mass)
