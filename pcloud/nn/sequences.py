"""Jets as sequences of particles, convolutions along them without padding, and packing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from pcloud import kinematics
from pcloud.nn.clustering import clustering_trees
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import kernel_allowed, outside_transforms
from pcloud.nn.numerics.precision import at_least_float32
from pcloud.nn.pooling import sum_by_index
from pcloud.nn.recurrent import last_packed_state, last_padded_state
from pcloud.order import stable_order

__all__ = [
    "JetSequences",
    "PackedJets",
    "RaggedConv1d",
    "by_clustering",
    "by_pt",
    "halved_sequences",
    "last_states",
    "soft_to_hard",
]


def by_pt(p4: Tensor, layout: RaggedLayout) -> Tensor:
    """Indices (N,) that sort the particles of each jet by decreasing pT.

    Particles of equal pT are sorted by decreasing energy, then by decreasing px, so that the result
    does not depend on the order of the input unless two particles coincide.

    Examples
    --------
    >>> p4 = torch.tensor([[1.0, 1.0, 0.0, 0.0], [3.0, 3.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0]])
    >>> by_pt(p4, RaggedLayout.from_batch(torch.tensor([0, 0, 0])))
    tensor([1, 2, 0])
    """
    if layout.row_length is not None:
        return _rows_by_pt(p4, layout, layout.row_length)
    order = torch.arange(len(p4), device=p4.device)
    for key in (p4[:, 1], p4[:, 0], kinematics.pt2(p4)):
        order = order[torch.argsort(key[order], descending=True, stable=True)]
    return order[torch.argsort(layout.batch[order], stable=True)]


def _rows_by_pt(p4: Tensor, layout: RaggedLayout, length: int) -> Tensor:
    """Indices (N,) that sort the rows of padded jets by decreasing pT, padding last."""
    jets = layout.num_jets - 1
    rows = torch.where(layout.batch < jets, kinematics.pt2(p4), -1.0)
    keys = [-key.view(jets, length) for key in (rows, p4[:, 0], p4[:, 1])]
    first = length * torch.arange(jets, device=p4.device).unsqueeze(1)
    return (stable_order(keys) + first).flatten()


def soft_to_hard(
    p4: Tensor, layout: RaggedLayout, own: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Indices (N,) that sort some rows of each jet by increasing pT, before its others.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    layout : RaggedLayout
        Jets of the batch.
    own : Tensor, shape (N,), optional
        True for the rows to sort; by default all.

    Returns
    -------
    indices : Tensor, shape (N,)
        The order. Rows of equal pT are sorted by increasing energy, then by increasing px.
    counts : Tensor, shape (B,)
        Number of these rows in each jet; of a padded batch without the jet of the padding.
    """
    keys = [kinematics.pt2(p4), p4[:, 0], p4[:, 1]]
    if layout.row_length is not None:
        jets, length = layout.num_jets - 1, layout.row_length
        is_entry = layout.batch < jets
        own = is_entry if own is None else is_entry & own
        keys[0] = torch.where(own, keys[0], torch.finfo(p4.dtype).max)
        order = stable_order([key.view(jets, length) for key in keys])
        first = length * torch.arange(jets, device=p4.device).unsqueeze(1)
        return (order + first).flatten(), own.view(jets, length).sum(1)
    order = torch.arange(len(p4), device=p4.device)
    for key in reversed(keys):
        order = order[torch.argsort(key[order], stable=True)]
    if own is None:
        return order[torch.argsort(layout.batch[order], stable=True)], layout.counts
    place = 2 * layout.batch + (~own).long()
    counts = sum_by_index(own.to(p4.dtype).unsqueeze(-1), layout.batch, layout.num_jets)
    return order[torch.argsort(place[order], stable=True)], counts.squeeze(-1).round().long()


@dataclass(frozen=True)
class JetSequences:
    """Sequences of different lengths, concatenated to M entries.

    Attributes
    ----------
    batch : Tensor, shape (M,)
        Jet of each entry, sorted.
    counts : Tensor, shape (B,)
        Length of each sequence.
    padded_starts : Tensor, shape (B,), or None
        First entry of each sequence in a padded batch, whose last sequence is the padding.
    """

    batch: Tensor
    counts: Tensor
    padded_starts: Tensor | None = None

    @property
    def starts(self) -> Tensor:
        """Index of the first entry of each sequence (B,)."""
        if self.padded_starts is not None:
            return self.padded_starts
        return self.counts.cumsum(0) - self.counts

    def mean(self, x: Tensor) -> Tensor:
        """Mean of ``x (M, F)`` over each sequence (B, F), at least float32; 0 for an empty sequence."""
        total = sum_by_index(x.to(at_least_float32(x)), self.batch, self.counts.shape[0])
        return total / self.counts.clamp(min=1).unsqueeze(-1)


@torch.compiler.disable
@outside_transforms
def halved_sequences(layout: RaggedLayout, times: int) -> list[JetSequences]:
    """Sequences of all particles, of every second, every fourth, ...: `times` halvings.

    A sequence of n entries keeps (n + 1) // 2. On a GPU this synchronises once, for the lengths.
    """
    if layout.row_length is not None:
        return _halved_rows(layout, layout.row_length, times)
    counts = [layout.counts]
    for _ in range(times):
        counts.append((counts[-1] + 1) // 2)
    totals = torch.stack(counts).sum(-1).tolist()
    jets = torch.arange(layout.num_jets, device=layout.batch.device)
    return [
        JetSequences(torch.repeat_interleave(jets, n, output_size=total), n)
        for n, total in zip(counts, totals, strict=True)
    ]


def _halved_rows(layout: RaggedLayout, length: int, times: int) -> list[JetSequences]:
    """Sequences of padded jets, each in rows of its own."""
    counts = layout.counts[:-1]
    jet = torch.arange(counts.shape[0], device=counts.device)
    levels = []
    for _ in range(times + 1):
        entry = torch.arange(length, device=counts.device)
        batch = torch.where(entry < counts.unsqueeze(1), jet.unsqueeze(1), counts.shape[0])
        starts = F.pad(length * jet, (0, 1))
        levels.append(JetSequences(batch.flatten(), F.pad(counts, (0, 1)), starts))
        counts, length = (counts + 1) // 2, (length + 1) // 2
    return levels


class RaggedConv1d(nn.Module):
    """Convolution with kernel size 3 along sequences, with zero padding at both ends.

    Parameters
    ----------
    in_channels, out_channels : int
        Features per entry. There is no bias, because a normalisation follows.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, source: JetSequences, target: JetSequences) -> Tensor:
        """Entries (M', F') of `target` from ``x (M, F)`` of `source`.

        The stride is 1 if `target` is `source`, and 2 if `target` has half its length.
        """
        return self.linear(F.pad(x, (0, 0, 0, 1))[windows(source, target)].flatten(1))


def windows(source: JetSequences, target: JetSequences) -> Tensor:
    """Indices (M', 3) of the entries of `source` around each of `target`; M outside a sequence."""
    offsets = torch.arange(-1, 2, device=source.batch.device)
    centre = centres(source, target).unsqueeze(-1) + offsets
    first = source.starts[target.batch].unsqueeze(-1)
    last = first + source.counts[target.batch].unsqueeze(-1)
    return torch.where((centre >= first) & (centre < last), centre, source.batch.shape[0])


def centres(source: JetSequences, target: JetSequences) -> Tensor:
    """Index (M',) of the entry of `source` that corresponds to each of `target`."""
    entry = torch.arange(target.batch.shape[0], device=target.batch.device)
    if source is target:
        return entry
    position = entry - target.starts[target.batch]
    centre = source.starts[target.batch] + 2 * position
    if source.padded_starts is None:
        return centre
    return centre.clamp(max=source.batch.shape[0] - 1)  # of padding


def by_clustering(p4: Tensor, layout: RaggedLayout, algorithm: str = "cambridge_aachen") -> Tensor:
    """Indices (N,) of the particles of each jet in the order of the leaves of its clustering tree.

    The branch of larger pT comes first, so that particles that are merged early are neighbours.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    layout : RaggedLayout
        Jets of the batch.
    algorithm : {"kt", "cambridge_aachen", "antikt"}
        Name of the algorithm, see :data:`pcloud.nn.clustering.ALGORITHMS`.
    """
    order = by_pt(p4, layout)  # so that ties do not depend on the order of the input
    trees = clustering_trees(p4[order], layout, algorithm)
    return order[trees.leaves()]


@dataclass(frozen=True)
class PackedJets:
    """Jets sorted by length, whose particles are packed place by place for a recurrent network.

    Attributes
    ----------
    rows : Tensor, shape (N,)
        Particle of each packed row: the first particles of all jets, then the second ones, ...
    sizes : Tensor, shape (P,)
        Number of jets that have a first, a second, ... particle; on the CPU.
    jets : Tensor, shape (B',)
        Jets with particles, in the order of the packed rows.
    """

    rows: Tensor
    sizes: Tensor
    jets: Tensor

    @classmethod
    @torch.compiler.disable
    @outside_transforms
    def of(cls, layout: RaggedLayout, numbers: Tensor | None = None) -> PackedJets:
        """Pack the particles of a batch. On a GPU this synchronises once, for the lengths.

        Parameters
        ----------
        layout : RaggedLayout
            Jets of the batch.
        numbers : Tensor, shape (B,), optional
            Number of particles of each jet to pack, its first ones; by default all.
        """
        wanted = layout.counts if numbers is None else numbers
        lengths, counts = np.array(torch.stack([layout.counts, wanted]).tolist(), dtype=np.int64)
        jets = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        place = np.arange(counts.max(initial=0))[:, None]
        present = place < counts[jets]  # (P, B')
        rows = (np.cumsum(lengths)[jets] - lengths[jets] + place)[present]
        parts = (torch.from_numpy(part) for part in (rows, present.sum(axis=1), jets))
        packed, sizes, order = parts
        device = layout.batch.device
        return cls(packed.to(device), sizes, order.to(device))

    @torch.compiler.disable
    def last_states(self, network: nn.RNNBase, x: Tensor, num_jets: int) -> Tensor:
        """Last state (B, D) of the top layer for ``x (N, F)``; 0 for an empty jet."""
        states = x.new_zeros(num_jets, network.hidden_size)
        if not len(self.jets):
            return states
        packed = x[self.rows]
        if kernel_allowed(packed, *network.parameters()):
            _, last = network(PackedSequence(packed, self.sizes))
            last = (last[0] if isinstance(last, tuple) else last)[-1]
        else:
            last = last_packed_state(network, packed, self.sizes.tolist())
        return states.index_copy(0, self.jets, last.to(states.dtype))


def last_states(
    network: nn.RNNBase, x: Tensor, layout: RaggedLayout, numbers: Tensor | None = None
) -> Tensor:
    """Last state (B, D) of the top layer of a recurrent network; 0 for an empty jet.

    Parameters
    ----------
    network : torch.nn.RNN, GRU or LSTM
        Layers in one direction.
    x : Tensor, shape (N, F)
        Features of the particles in their order.
    layout : RaggedLayout
        Jets of the batch.
    numbers : Tensor, shape (B,), optional
        Number of particles of each jet that are read, its first ones; by default all. Of a padded batch
        without the jet of the padding.
    """
    if layout.row_length is None:
        return PackedJets.of(layout, numbers).last_states(network, x, layout.num_jets)
    rows = x.unflatten(0, (-1, layout.row_length))  # the last jet is padding
    counts = layout.counts[:-1] if numbers is None else numbers
    return F.pad(last_padded_state(network, rows, counts), (0, 0, 0, 1))
