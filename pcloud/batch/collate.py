"""Batches of PyTorch Geometric, and the arguments of a network for them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pcloud.batch.dataset import JetDataset
from pcloud.batch.rows import JET_TENSORS, ROW_INPUTS, ROW_TENSORS, particles_and_layout, rows_of
from pcloud.nn.layout import RaggedLayout

__all__ = ["batch_arguments", "collate", "network_arguments", "particles_of"]


def network_arguments(
    x: Tensor,
    p4: Tensor,
    batch: Tensor,
    jet_p4: Tensor | None,
    u: Tensor | None = None,
    layout: RaggedLayout | None = None,
    *,
    pos: Tensor | None = None,
    collection: Tensor | None = None,
) -> tuple:
    """Arguments of a network.

    They include a layout if there are stored momenta ``jet_p4 (B, 4)`` or features of jets ``u (B,
    G)``, which it carries, as positions ``pos (N, 2)`` and the ``collection (N,)`` of each row.
    `layout` is that of the batch, if it is known.
    """
    if jet_p4 is None and u is None:
        return x, p4, batch
    num_jets = len(u if jet_p4 is None else jet_p4)  # type: ignore[arg-type]
    layout = RaggedLayout.from_batch(batch, num_jets) if layout is None else layout
    rows = layout.with_jet_p4(jet_p4).with_rows(u=u, pos=pos, collection=collection)
    return x, p4, batch, rows


def batch_arguments(batch: Batch) -> tuple:
    """Arguments of a network for a batch of :func:`collate`."""
    jet_p4 = batch.jet_p4 if "jet_p4" in batch else None
    u = batch.u if "u" in batch else None
    layout = batch.layout if "layout" in batch else None
    rows = {name: batch[name] for name in ROW_INPUTS if name in batch}
    return network_arguments(batch.x, batch.p4, batch.batch, jet_p4, u, layout, **rows)


def particles_of(batch: Batch) -> tuple[Tensor, RaggedLayout]:
    """Momenta of the particles of a batch, without further collections, and their layout."""
    layout = getattr(batch, "layout", None) or RaggedLayout.from_ptr(batch.ptr)
    return particles_and_layout(batch.p4, layout, getattr(batch, "collection", None))


_EMPTY_BATCH = Batch(_base_cls=Data)  # copied, because creating a Batch takes 0.2 ms


def collate(data: JetDataset, jets: Tensor) -> Batch:
    """PyG ``Batch`` of some jets.

    Parameters
    ----------
    data : JetDataset
        All jets.
    jets : Tensor, shape (B,)
        Indices of the jets, in the order of the batch.

    Returns
    -------
    torch_geometric.data.Batch
        Batch with ``x``, ``p4``, ``batch`` and ``ptr``, and with ``y``, ``jet_p4``, ``weight``,
        ``u``, ``targets``, ``pos``, ``collection``, ``particle_labels`` and ``teacher`` if the data
        set has them.

    Examples
    --------
    >>> jets = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:4], features="kin")
    >>> collate(jets, torch.tensor([0, 2])).num_graphs
    2
    """
    particle, jet, ptr = rows_of(data.ptr, jets)
    batch = copy.copy(_EMPTY_BATCH)
    batch.x = data.x.index_select(0, particle)
    batch.p4 = data.p4.index_select(0, particle)
    batch.batch = jet
    batch.ptr = ptr
    slices = {"x": ptr, "p4": ptr}
    for name in ROW_TENSORS:
        values = getattr(data, name)
        if values is not None:
            batch[name] = values.index_select(0, particle)
            slices[name] = ptr
    for name in (*JET_TENSORS, "teacher"):
        values = getattr(data, name)
        if values is not None:
            batch[name] = values[jets]
            slices[name] = torch.arange(len(jets) + 1)
    batch._num_graphs = len(jets)
    batch._slice_dict = slices
    batch._inc_dict = dict.fromkeys(slices, torch.zeros(len(jets), dtype=torch.long))
    return batch
