"""Jets with hidden particles, from which a network can learn without labels."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Batch

from pcloud import kinematics
from pcloud.batch.rows import JET_TENSORS, ROW_INPUTS
from pcloud.errors import InputError
from pcloud.nn.graph.coordinates import eta_phi, jet_momenta
from pcloud.nn.layout import RaggedLayout

__all__ = ["NUM_COORDINATES", "NUM_QUERIES", "HiddenParticles", "hide_particles"]

NUM_QUERIES = 3
"""Numbers by which a hidden particle is asked for: its rank, relative rank and those of its jet."""

NUM_COORDINATES = 3
"""Numbers of its momentum: ln(pT / pT of the jet), eta and phi relative to the axis."""


@dataclass(frozen=True)
class HiddenParticles:
    """Particles that are hidden from a network.

    Attributes
    ----------
    jet : Tensor, shape (H,)
        Jet of each, sorted.
    queries : Tensor, shape (H, NUM_QUERIES)
        ln(1 + rank in pT), rank over the number of particles, and ln of this number.
    momenta : Tensor, shape (H, NUM_COORDINATES)
        ln(pT / pT of the jet), and the differences in eta, times the sign of the eta of the jet, and
        in phi (rad) to the axis of the jet.
    x : Tensor, shape (H, F)
        Features.
    """

    jet: Tensor
    queries: Tensor
    momenta: Tensor
    x: Tensor


def hide_particles(
    batch: Batch, fraction: float, generator: torch.Generator | None = None
) -> tuple[Batch, HiddenParticles]:
    """Remove a fraction of the particles of each jet of a batch, drawn at random.

    The momenta of the jets stay: axis and sums are those of all particles. Entries of further
    collections are never hidden.

    Parameters
    ----------
    batch : torch_geometric.data.Batch
        Batch on the CPU, see :func:`pcloud.batch.collate`. It is not changed.
    fraction : float
        Fraction of the particles, rounded down for each jet; at least one particle stays.
    generator : torch.Generator, optional
        Random numbers; by default the global generator.

    Returns
    -------
    batch : torch_geometric.data.Batch
        The remaining rows.
    hidden : HiddenParticles
        The others.

    Raises
    ------
    InputError
        If the fraction is not between 0 and 1.

    Examples
    --------
    >>> jets = pcloud.load_dataset("simulated", "test")[:4]
    >>> batch = next(iter(pcloud.JetLoader(pcloud.JetDataset(jets), batch_size=4)))
    >>> visible, hidden = hide_particles(batch, 1 / 3)
    >>> len(visible.x) + len(hidden.x) == len(batch.x)
    True
    """
    if not 0 < fraction < 1:
        raise InputError(f"the hidden fraction must be between 0 and 1, got {fraction:g}")
    num_jets = len(batch.ptr) - 1
    rows = torch.arange(len(batch.batch))
    collection = getattr(batch, "collection", None)
    is_particle = torch.ones(len(rows), dtype=torch.bool) if collection is None else collection == 0
    counts = torch.bincount(batch.batch[is_particle], minlength=num_jets)
    noise = torch.rand(len(rows), generator=generator, dtype=torch.float64)
    # particles of a jet in random order, and then its further entries
    order = (2.0 * batch.batch + noise + (~is_particle).double()).argsort()
    place = torch.empty_like(rows).scatter_(0, order, rows) - batch.ptr[batch.batch]
    num_hidden = (counts * fraction + 1e-9).long()  # a third of three is one
    is_hidden = place < num_hidden.minimum((counts - 1).clamp(min=0))[batch.batch]
    axis = _jet_p4(batch, is_particle)
    hidden = _hidden(batch, is_hidden.nonzero().flatten(), counts, axis)
    return _visible(batch, (~is_hidden).nonzero().flatten(), axis), hidden


def _jet_p4(batch: Batch, is_particle: Tensor) -> Tensor:
    """Momenta (B, 4) of the jets: the stored ones, or the sums of all particles."""
    if "jet_p4" in batch:
        return batch.jet_p4
    rows = is_particle.nonzero().flatten()
    layout = RaggedLayout.from_batch(batch.batch[rows], len(batch.ptr) - 1)
    return jet_momenta(batch.p4[rows], layout)


def _hidden(batch: Batch, rows: Tensor, counts: Tensor, axis: Tensor) -> HiddenParticles:
    """Hidden particles from their rows, of which the first of a jet has the largest pT."""
    jet = batch.batch[rows]
    number = counts[jet].double()
    rank = (rows - batch.ptr[jet]).double()
    queries = torch.stack([rank.log1p(), rank / number, number.log()], dim=-1)
    p4 = batch.p4[rows].double()
    layout = RaggedLayout.from_batch(jet, len(batch.ptr) - 1).with_jet_p4(axis)
    angles = eta_phi(p4, layout)
    sign = torch.where(axis[:, 3] < 0, -1.0, 1.0).double()[jet]
    log_pt = kinematics.safe_log(kinematics.pt(p4)) - kinematics.safe_log(
        kinematics.pt(axis.double())[jet]
    )
    momenta = torch.stack([log_pt, sign * angles[:, 0], angles[:, 1]], dim=-1)
    return HiddenParticles(jet, queries.float(), momenta.float(), batch.x[rows])


_EMPTY_BATCH = Batch()


def _visible(batch: Batch, rows: Tensor, axis: Tensor) -> Batch:
    """Batch of some of the rows, with the momenta (B, 4) of the jets."""
    visible = copy.copy(_EMPTY_BATCH)
    for name in ("x", "p4", "batch", *(name for name in ROW_INPUTS if name in batch)):
        visible[name] = batch[name].index_select(0, rows)
    for name in JET_TENSORS:
        if name in batch:
            visible[name] = batch[name]
    counts = torch.bincount(visible.batch, minlength=len(batch.ptr) - 1)
    visible.ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    visible.jet_p4 = axis
    visible._num_graphs = len(counts)
    return visible
