"""P-CNN: a residual one-dimensional CNN over the particles in order of pT."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.models.registry import register_model
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.sequences import JetSequences, RaggedConv1d, by_pt, centres, halved_sequences

__all__ = ["PCNN"]


@register_model(
    "pcnn", paper="1902.08570", year=2019, use="1-D CNN on pT-ordered particles", inputs="x and p4"
)
class PCNN(nn.Module):
    """P-CNN: a residual CNN of kernel 3 along the particles of each jet, ordered by pT.

    The model puts the particles in order itself, see :func:`~pcloud.nn.sequences.by_pt`. Beyond the
    ends of a jet are zeros, in every layer; normalisations and the mean at the end see particles
    alone. The official network normalises and averages over the padding too, which makes the score
    of a jet depend on the length to which it is padded.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_classes : int
        Classes C.
    channels : int
        Width of the first convolution.
    stages : sequence of sequence of int
        Widths of the residual units; every stage after the first begins with stride 2.
    hidden : int
        Width of the hidden layer.
    dropout : float
        After the hidden layer.

    References
    ----------
    Qu and Gouskos, ParticleNet: Jet Tagging via Particle Clouds, https://arxiv.org/abs/1902.08570,
    where the network of CMS, https://arxiv.org/abs/2004.08262, is described as P-CNN.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int = 2,
        *,
        channels: int = 32,
        stages: Sequence[Sequence[int]] = ((64, 64), (64, 64), (128, 128)),
        hidden: int = 512,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_features)
        self.conv = RaggedConv1d(in_features, channels)
        self.conv_norm = nn.BatchNorm1d(channels)
        widths = [channels, *itertools.chain.from_iterable(stages)]
        # how often the sequence has been halved, before each unit and after the last
        self.levels = [0, *(level for level, stage in enumerate(stages) for _ in stage)]
        self.units = nn.ModuleList(
            ResidualUnit(a, b, project=a != b or level != next_level)
            for (a, b), (level, next_level) in zip(
                itertools.pairwise(widths), itertools.pairwise(self.levels), strict=True
            )
        )
        self.head = nn.Sequential(
            nn.Linear(widths[-1], hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        layout = as_layout(batch, layout)
        resolutions = halved_sequences(layout, self.levels[-1])
        source = resolutions[0]
        x = self.norm(x[by_pt(p4, layout)])
        x = F.relu(self.conv_norm(self.conv(x, source, source)))
        for unit, level in zip(self.units, self.levels[1:], strict=True):
            x = unit(x, source, resolutions[level])
            source = resolutions[level]
        return self.head(source.mean(x))


class ResidualUnit(nn.Module):
    """Two convolutions, each with batch normalisation and ReLU, beside a shortcut.

    Parameters
    ----------
    in_channels, out_channels : int
        Widths.
    project : bool
        Whether the shortcut is linear: needed where widths or resolutions differ.
    """

    def __init__(self, in_channels: int, out_channels: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = RaggedConv1d(in_channels, out_channels)
        self.norm1 = nn.BatchNorm1d(out_channels)
        self.conv2 = RaggedConv1d(out_channels, out_channels)
        self.norm2 = nn.BatchNorm1d(out_channels)
        self.shortcut = (
            nn.Linear(in_channels, out_channels, bias=False) if project else nn.Identity()
        )

    def forward(self, x: Tensor, source: JetSequences, target: JetSequences) -> Tensor:
        """Entries (M', F') of `target` from ``x (M, F)`` of `source`."""
        y = F.relu(self.norm1(self.conv1(x, source, target)))
        y = F.relu(self.norm2(self.conv2(y, target, target)))
        return self.shortcut(x[centres(source, target)]) + y
