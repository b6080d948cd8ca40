"""Ordered particles: jets as sequences, and convolutions along them without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud import kinematics
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import outside_transforms
from pcloud.nn.numerics.precision import at_least_float32

__all__ = ["JetSequences", "RaggedConv1d", "by_pt", "halved"]


def by_pt(p4: Tensor, layout: RaggedLayout) -> Tensor:
    """Order (N,) in which the particles of each jet stand by falling pT.

    Particles of equal pT stand by falling energy, then by falling px, so that the order does not
    depend on that of the input unless two particles coincide.
    """
    order = torch.arange(len(p4), device=p4.device)
    for key in (p4[:, 1], p4[:, 0], kinematics.pt2(p4)):
        order = order[torch.argsort(key[order], descending=True, stable=True)]
    return order[torch.argsort(layout.batch[order], stable=True)]


@dataclass(frozen=True)
class JetSequences:
    """Sequences one after the other, M entries in all.

    Attributes
    ----------
    batch : Tensor, shape (M,)
        Jet of each entry, sorted.
    counts : Tensor, shape (B,)
        Length of each sequence.
    """

    batch: Tensor
    counts: Tensor

    @property
    def starts(self) -> Tensor:
        """First entry of each sequence (B,)."""
        return self.counts.cumsum(0) - self.counts

    def mean(self, x: Tensor) -> Tensor:
        """Mean of ``x (M, F)`` over each sequence (B, F), in float32 at least; 0 where it is empty."""
        x = x.to(at_least_float32(x))
        total = x.new_zeros(len(self.counts), x.shape[1]).index_add(0, self.batch, x)
        return total / self.counts.clamp(min=1).unsqueeze(-1)


@torch.compiler.disable
@outside_transforms
def halved(layout: RaggedLayout, times: int) -> list[JetSequences]:
    """The jets, then every second entry of them, every second of those ..., `times` times.

    A sequence of n entries keeps (n + 1) // 2. On a GPU this waits for the lengths, once.
    """
    counts = [layout.counts]
    for _ in range(times):
        counts.append((counts[-1] + 1) // 2)
    totals = torch.stack(counts).sum(-1).tolist()
    jets = torch.arange(layout.num_jets, device=layout.batch.device)
    return [
        JetSequences(torch.repeat_interleave(jets, n, output_size=total), n)
        for n, total in zip(counts, totals, strict=True)
    ]


class RaggedConv1d(nn.Module):
    """Convolution of kernel 3 along sequences, with zeros beyond both ends of each.

    Parameters
    ----------
    in_channels, out_channels : int
        Widths. There is no bias: a normalisation follows.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, source: JetSequences, target: JetSequences) -> Tensor:
        """Entries (M', F') of `target` from ``x (M, F)`` of `source`.

        `target` is `source`, or has half its length: then the convolution has stride 2.
        """
        return self.linear(F.pad(x, (0, 0, 0, 1))[windows(source, target)].flatten(1))


def windows(source: JetSequences, target: JetSequences) -> Tensor:
    """Entries (M', 3) of `source` around those of `target`; M beyond the ends of a sequence."""
    centre = centres(source, target).unsqueeze(-1) + _offsets(source.batch, (-1, 0, 1))
    first = source.starts[target.batch].unsqueeze(-1)
    last = first + source.counts[target.batch].unsqueeze(-1)
    return torch.where((centre >= first) & (centre < last), centre, len(source.batch))


def centres(source: JetSequences, target: JetSequences) -> Tensor:
    """Entry (M',) of `source` at which each of `target` stands."""
    entry = torch.arange(len(target.batch), device=target.batch.device)
    if source is target:
        return entry
    place = entry - target.starts[target.batch]
    return source.starts[target.batch] + 2 * place


def _offsets(like: Tensor, values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)
