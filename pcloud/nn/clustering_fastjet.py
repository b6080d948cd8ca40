"""Axes of exclusive subjets by FastJet, where it is installed: about nine times as fast as ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from pcloud.native_output import hidden_output
from pcloud.nn.clustering import Recombination, e_scheme, winner_take_all
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import kernel_allowed

__all__ = ["can_use_fastjet", "fastjet_axes"]

_SCHEMES: dict[Recombination, str] = {e_scheme: "E_scheme", winner_take_all: "WTA_pt_scheme"}
_ALGORITHMS = {"kt": "kt_algorithm", "cambridge_aachen": "cambridge_algorithm"}
_RADIUS = 1000.0  # no distance to the beam


@cache
def _fastjet() -> ModuleType | None:
    """The package, without its banner; None if it is not installed."""
    try:
        import fastjet
    except ImportError:
        return None
    particle = fastjet.PseudoJet(1.0, 0.0, 0.0, 1.0)
    with hidden_output():  # the banner is printed once
        fastjet.ClusterSequence([particle], fastjet.JetDefinition(fastjet.kt_algorithm, _RADIUS))
    return fastjet


@contextmanager
def _without_warning() -> Iterator[None]:
    """Context without FastJet's warning of algorithms other than kT, which it gives for all."""
    form = warnings.formatwarning  # FastJet replaces it
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="dcut and exclusive jets")
        yield
    warnings.formatwarning = form


def can_use_fastjet(
    p4: Tensor, layout: RaggedLayout, algorithm: str, recombine: Recombination
) -> bool:
    """True where axes without a gradient are wanted and FastJet is installed."""
    return (
        algorithm in _ALGORITHMS
        and kernel_allowed(p4)
        and p4.device.type == "cpu"
        and not (p4.requires_grad and torch.is_grad_enabled())
        and layout.row_length is None
        and recombine in _SCHEMES
        and bool(p4.isfinite().all())
        and _fastjet() is not None
    )


@torch.no_grad()
def fastjet_axes(
    p4: Tensor, layout: RaggedLayout, max_subjets: int, algorithm: str, recombine: Recombination
) -> tuple[Tensor, list[Tensor]]:
    """Momenta of the 1, 2, ..., `max_subjets` exclusive subjets of the jets that have as many particles.

    With :func:`~pcloud.nn.clustering.winner_take_all`, FastJet gives the subjets no mass: rapidity,
    azimuth and pT are those of :func:`~pcloud.nn.clustering.exclusive_axes`, the energy is not.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    layout : RaggedLayout
        Jets of the batch.
    max_subjets : int
        Largest number of subjets.
    algorithm : {"kt", "cambridge_aachen"}
        Name of the algorithm.
    recombine : callable
        Recombination scheme.

    Returns
    -------
    Tensor, shape (b,)
        Jets of at least `max_subjets` particles.
    list of Tensor, shapes (b, 1, 4), (b, 2, 4), ..., float64
        In no order.
    """
    import awkward as ak

    fastjet = _fastjet()
    assert fastjet is not None
    jets = (layout.counts >= max_subjets).nonzero()[:, 0]
    if not len(jets):
        return jets, [p4.new_zeros(0, n, 4).double() for n in range(1, max_subjets + 1)]
    chosen = torch.zeros(layout.num_jets, dtype=torch.bool)
    chosen[jets] = True
    rows = p4.detach().double()[chosen[layout.batch]].numpy()
    names = ("E", "px", "py", "pz")
    columns = {name: np.ascontiguousarray(rows[:, i]) for i, name in enumerate(names)}
    particles = ak.unflatten(ak.zip(columns, with_name="Momentum4D"), layout.counts[jets].numpy())
    definition = fastjet.JetDefinition(
        getattr(fastjet, _ALGORITHMS[algorithm]), _RADIUS, getattr(fastjet, _SCHEMES[recombine])
    )
    sequence = fastjet.ClusterSequence(particles, definition)
    axes = []
    for n in range(1, max_subjets + 1):
        with _without_warning():
            found = ak.flatten(sequence.exclusive_jets(n_jets=n))
        values = np.stack([ak.to_numpy(found[name]) for name in names], axis=-1)
        axes.append(torch.from_numpy(values).view(-1, n, 4))
    return jets, axes
