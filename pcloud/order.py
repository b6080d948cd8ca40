"""The canonical order of the particles of a jet, in which every score is computed.

The order of particles has no meaning, but sums in floating point and ties among neighbours depend
on it. Particles are therefore sorted once, where jets enter: by falling transverse momentum, then
by E, px, py, pz, then by their other columns. Particles that are still equal are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcloud import kinematics

__all__ = ["canonical_order", "canonical_order_of_one_jet"]


def canonical_order(p4: Tensor, ptr: Tensor, columns: Sequence[Tensor] = ()) -> Tensor | None:
    """Rows of the particles in canonical order, jet by jet.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta (E, px, py, pz) in GeV, on a CPU.
    ptr : Tensor, shape (B + 1,)
        Jet ``i`` is particles ``ptr[i]:ptr[i + 1]``.
    columns : sequence of Tensor, shape (N,)
        Further columns, which order particles of equal momentum.

    Returns
    -------
    Tensor, shape (N,), or None
        ``p4[order]`` is in canonical order; None where `p4` is so already.
    """
    pt2 = kinematics.pt2(p4.detach().double()).numpy()
    jet = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr.numpy()))
    same_jet = jet[1:] == jet[:-1]
    if (~same_jet | (pt2[1:] < pt2[:-1])).all():
        return None
    order = np.lexsort((-pt2, jet))
    tied = same_jet & (pt2[order][1:] == pt2[order][:-1])
    if tied.any():
        keys = [*p4.detach().unbind(-1), *columns]
        _sort_ties(order, tied, [key.numpy() for key in keys])
    return torch.from_numpy(order)


def _sort_ties(
    order: NDArray[np.integer], tied: NDArray[np.bool_], keys: Sequence[NDArray]
) -> None:
    """Sort by `keys` each run of places in `order` of which ``tied`` says that they are equal."""
    run = np.concatenate([[0], np.cumsum(~tied)])
    places = np.flatnonzero(np.append(tied, False) | np.insert(tied, 0, False))
    rows = order[places]
    order[places] = rows[np.lexsort((*(key[rows] for key in reversed(keys)), run[places]))]


def canonical_order_of_one_jet(p4: Tensor, columns: Tensor) -> Tensor:
    """Rows of the particles of one jet in canonical order, by operations that can be exported.

    Parameters
    ----------
    p4 : Tensor, shape (P, 4)
        Four-momenta in GeV.
    columns : Tensor, shape (P, F)
        Further columns.

    Returns
    -------
    Tensor, shape (P,)
        ``p4[order]`` is in canonical order.
    """
    slot = torch.arange(p4.shape[0], device=p4.device)
    pt2 = kinematics.pt2(p4.double())
    before = slot.unsqueeze(1) < slot  # whether particle i stands before particle j
    for key in (*columns.flip(-1).unbind(-1), *p4.flip(-1).unbind(-1), -pt2):
        a, b = key.unsqueeze(1), key
        before = (a < b) | ((a == b) & before)
    rank = before.sum(0)
    return torch.zeros_like(slot).scatter(0, rank, slot)
