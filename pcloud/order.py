"""Canonical order of the particles of a jet, in which every score is computed.

The order of the particles has no physical meaning, but sums of floating-point numbers and ties among
neighbours depend on it. Therefore the particles are sorted once, when jets enter the package: by
decreasing transverse momentum, then by E, px, py, pz, then by the other columns. The order of
particles that are equal in all these quantities has no effect.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcloud import kinematics
from pcloud.typing import Booleans, Integers

__all__ = [
    "canonical_order",
    "canonical_order_of_one_jet",
    "canonical_order_of_padded",
    "stable_order",
]


def canonical_order(p4: Tensor, ptr: Tensor, columns: Sequence[Tensor] = ()) -> Tensor | None:
    """Indices that sort the particles of each jet into the canonical order.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta (E, px, py, pz) in GeV, on a CPU.
    ptr : Tensor, shape (B + 1,)
        Offsets: jet ``i`` consists of the particles ``ptr[i]:ptr[i + 1]``.
    columns : sequence of Tensor, shape (N,)
        Further columns, by which particles of equal momentum are sorted.

    Returns
    -------
    Tensor, shape (N,), or None
        ``p4[order]`` is in canonical order; None if `p4` is already in this order.
    """
    pt2 = kinematics.pt2(p4.detach().double()).numpy()
    key = _sorting_key(pt2, ptr.numpy())
    if (key[1:] > key[:-1]).all():
        return None
    order = np.argsort(key)
    ordered = key[order]
    tied = ordered[1:] == ordered[:-1]
    if tied.any():
        keys = [-pt2, *(key.numpy() for key in (*p4.detach().unbind(-1), *columns))]
        _sort_ties(order, tied, keys)
    if (order[1:] > order[:-1]).all():
        return None
    return torch.from_numpy(order)


def _sorting_key(pt2: NDArray[np.float64], ptr: Integers) -> NDArray[np.uint64]:
    """Keys (N,) that increase with the jet, and in a jet with decreasing `pt2`.

    The first bits are the number of the jet, the others the first bits of `pt2`, inverted: one sort
    of integers, with vector instructions, takes a tenth of the time of ``np.lexsort``. Numbers that
    differ in the last bits only have equal keys.
    """
    num_jets = len(ptr) - 1
    bits = max(1, num_jets - 1).bit_length()  # of the number of a jet
    jet = np.repeat(np.arange(num_jets, dtype=np.uint64) << np.uint64(64 - bits), np.diff(ptr))
    largest = np.uint64(2**63 - 1)  # without the sign, which a NaN can have
    inverted = largest - (pt2.view(np.uint64) & largest)  # positive numbers sort as their bits do
    return jet | inverted >> np.uint64(bits - 1)


def _sort_ties(order: Integers, tied: Booleans, keys: Sequence[NDArray]) -> None:
    """Sort each group of tied entries of `order` by `keys`, then by their place, in place.

    ``tied[i]`` is True if the entries i and i + 1 are equal.
    """
    group = np.concatenate([[0], np.cumsum(~tied)])
    positions = np.flatnonzero(np.append(tied, False) | np.insert(tied, 0, False))
    rows = order[positions]
    sorting = np.lexsort((rows, *(key[rows] for key in reversed(keys)), group[positions]))
    order[positions] = rows[sorting]


def canonical_order_of_one_jet(p4: Tensor, columns: Tensor) -> Tensor:
    """Indices that sort the particles of one jet into the canonical order, by ONNX operations.

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
    before = slot.unsqueeze(1) < slot  # True if particle i is before particle j
    for key in (*columns.flip(-1).unbind(-1), *p4.flip(-1).unbind(-1), -pt2):
        other = key.unsqueeze(1)
        before = (other < key) | ((other == key) & before)
    rank = before.sum(0)
    return torch.zeros_like(slot).scatter(0, rank, slot)


def canonical_order_of_padded(p4: Tensor, mask: Tensor, columns: Sequence[Tensor] = ()) -> Tensor:
    """Indices that sort the particles of padded jets into the canonical order, padding last.

    Parameters
    ----------
    p4 : Tensor, shape (B, P, 4)
        Four-momenta in GeV.
    mask : Tensor, shape (B, P)
        True for particles, False for padding, which can be anywhere.
    columns : sequence of Tensor, shape (B, P)
        Further columns.

    Returns
    -------
    Tensor, shape (B, P)
        Slots of the particles of each jet in canonical order.
    """
    pt2 = torch.where(mask, kinematics.pt2(p4.double()), -1.0)
    return stable_order([-pt2, *p4.unbind(-1), *columns])


def stable_order(keys: Sequence[Tensor]) -> Tensor:
    """Indices that sort each row by several keys, the first of which matters most.

    Entries that are equal in all keys keep their order. In a graph for ONNX, whose sort is not
    stable, the operation TopK is used: of equal values it takes that of the lower index first.

    Parameters
    ----------
    keys : sequence of Tensor, shape (B, P)
        Keys, sorted in increasing order.

    Returns
    -------
    Tensor, shape (B, P)
    """
    order: Tensor | None = None
    for key in reversed(keys):
        values = key if order is None else key.gather(1, order)
        if torch.onnx.is_in_onnx_export():
            places = values.topk(values.shape[1], dim=1, largest=False).indices
        else:
            places = values.sort(dim=1, stable=True).indices
        order = places if order is None else order.gather(1, places)
    if order is None:
        raise ValueError("an order needs at least one key")
    return order
