"""Targets of jets that a run learns: found by name, and checked against the jets."""

from __future__ import annotations

import re
import warnings

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import InputError, UnknownNameError
from pcloud.io import FlatJets
from pcloud.modality import Sample
from pcloud.nn.graph.coordinates import jet_momenta
from pcloud.objectives.several import Several
from pcloud.observables import momenta_and_layout

__all__ = ["TargetUnitWarning", "check_targets", "targets_of"]

_FIELD = "targets"
_MAX_RATIO = 30  # units differ by 1000, and masses of QCD jets by less than this
_NEAR_ONE = (0.1, 10.0)  # a target of this size is a ratio or a correction
_SHOWN_JETS = 10_000
_QUANTITIES = {"pt": kinematics.pt, "mass": kinematics.mass, "energy": kinematics.energy}


class TargetUnitWarning(UserWarning):
    """Warning of a target that is probably in another unit than the jets."""


def targets_of(jets: Sample, objective: Several) -> Tensor:
    """Targets (B, T) of an objective in its order, float32, NaN where a jet has none."""
    columns = [_values(jets, part.name) for part in objective.targets]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


def check_targets(jets: Sample, objective: Several, whose: str, *, units: bool = True) -> None:
    """Check that jets have the targets of an objective, in the unit of the jets.

    Parameters
    ----------
    jets : sample
        Training or validation jets.
    objective : Several
        Objective whose targets are checked.
    whose : str
        Name of the jets in messages, such as ``"training jets"``.
    units : bool
        If True, units that are probably wrong are warned of.

    Raises
    ------
    InputError
        If a target is absent, no number, infinite or missing for all jets; the message names it.

    Warns
    -----
    TargetUnitWarning
        If a target with the name of a transverse momentum, a mass or an energy is far from that
        of the jets.
    """
    for part in objective.targets:
        values = _values(jets, part.name, whose)
        if units:
            _warn_of_unit(jets, part.name, values, whose)


def _values(jets: Sample, name: str, whose: str = "jets") -> NDArray[np.float64]:
    """Values (B,) of a target, NaN where a jet has none."""
    if _FIELD not in jets.fields:
        raise InputError(
            f"the {whose} have no targets, and the objective is {name!r}: the schema names them, "
            f"such as targets={{{name!r}: COLUMN}}"
        )
    targets = jets[_FIELD]
    if name not in targets.fields:
        raise UnknownNameError("target", name, targets.fields, f"the {whose}")
    try:
        column = ak.fill_none(targets[name], np.nan)
        values = ak.to_numpy(column).astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"target {name!r} of the {whose} is not one number per jet") from None
    if values.shape != (len(jets),):
        raise InputError(f"target {name!r} of the {whose} is not one number per jet")
    return values


def _warn_of_unit(jets: Sample, name: str, values: NDArray[np.float64], whose: str) -> None:
    quantity = _quantity(name)
    known = np.flatnonzero(np.isfinite(values) & (values != 0))
    if quantity is None or len(known) == 0 or "p4" not in jets.fields:
        return
    few = known[:: -(-len(known) // _SHOWN_JETS)]
    size = float(np.median(np.abs(values[few])))
    of_jets = np.median(_of_jets(jets[few], quantity))
    if not of_jets > 0 or _NEAR_ONE[0] < size < _NEAR_ONE[1]:
        return
    ratio = size / of_jets
    if 1 / _MAX_RATIO < ratio < _MAX_RATIO:
        return
    warnings.warn(
        f"target {name!r} of the {whose} is {size:.4g} for a typical jet, whose {quantity} is "
        f"{of_jets:.4g} GeV, a response of {ratio:.3g}: is it in another unit? units in the schema "
        f"converts it, such as units={{{name!r}: 'MeV'}}",
        TargetUnitWarning,
        stacklevel=2,
    )


def _quantity(name: str) -> str | None:
    """Quantity of jets that a target is called after."""
    words = re.split(r"[_.\W]+", name.lower())
    for quantity, names in {
        "pt": ("pt",),
        "mass": ("mass", "m"),
        "energy": ("energy", "e"),
    }.items():
        if set(words) & set(names):
            return quantity
    return None


def _of_jets(jets: Sample, quantity: str) -> NDArray[np.float64]:
    """Values (B,) in GeV of one of `_QUANTITIES`."""
    momenta = jets[[name for name in ("p4", "jet_p4") if name in jets.fields]]
    p4 = jet_momenta(*momenta_and_layout(FlatJets.from_awkward(momenta)))
    return _QUANTITIES[quantity](p4).numpy()
