"""P-CNN: a residual one-dimensional CNN over the particles ordered by pT."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.models.head import mlp_head
from pcloud.models.registry import register_model
from pcloud.models.sequence_options import layer_widths, nested_widths
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.sequences import JetSequences, RaggedConv1d, by_pt, centres, halved_sequences

__all__ = ["PCNN"]


@register_model(
    "pcnn", paper="1902.08570", year=2019, use="1-D CNN on pT-ordered particles", inputs="x and p4"
)
class PCNN(nn.Module):
    """P-CNN: a residual CNN of kernel 3 along the particles of each jet, ordered by pT.

    The model sorts the particles itself, see :func:`~pcloud.nn.sequences.by_pt`. In every layer,
    entries beyond the ends of a jet are zero; normalisations and the final mean run over particles
    only. The official network normalises and averages over the padding too, so that the score of a
    jet depends on the length to which it is padded.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    width : int
        Width of the first convolution.
    stage_widths : sequence of sequence of int
        Widths of the residual units of each stage; every stage after the first begins with stride 2.
    head_widths : sequence of int
        Widths of the hidden layers of the head.
    dropout : float
        Dropout probability after each hidden layer of the head.

    References
    ----------
    Qu and Gouskos, ParticleNet: Jet Tagging via Particle Clouds, https://arxiv.org/abs/1902.08570,
    where the network of CMS, https://arxiv.org/abs/2004.08262, is described as P-CNN.

    Examples
    --------
    >>> model = PCNN(in_features=7).eval()
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0], [3.0, 2.0, 1.0, 2.0]])
    >>> model(torch.randn(3, 7), p4, torch.tensor([0, 0, 1])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 2,
        *,
        width: int = 32,
        stage_widths: Sequence[Sequence[int]] = ((64, 64), (64, 64), (128, 128)),
        head_widths: Sequence[int] = (512,),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        stage_widths = nested_widths("stage_widths", stage_widths)
        head_widths = layer_widths("head_widths", head_widths)
        self.norm = nn.BatchNorm1d(in_features)
        self.conv = RaggedConv1d(in_features, width)
        self.conv_norm = nn.BatchNorm1d(width)
        widths = [width, *itertools.chain.from_iterable(stage_widths)]
        # Number of times the sequence has been halved, before each unit and after the last.
        self.levels = [0, *(level for level, stage in enumerate(stage_widths) for _ in stage)]
        self.units = nn.ModuleList(
            ResidualUnit(a, b, project=a != b or level != next_level)
            for (a, b), (level, next_level) in zip(
                itertools.pairwise(widths), itertools.pairwise(self.levels), strict=True
            )
        )
        self.head = mlp_head([widths[-1], *head_widths], num_outputs, dropout)

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, F)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``."""
        layout = as_layout(batch, layout, x)
        resolutions = halved_sequences(layout, self.levels[-1])
        source = resolutions[0]
        x = self.norm(x[by_pt(p4, layout)])
        x = F.relu(self.conv_norm(self.conv(x, source, source)))
        for unit, level in zip(self.units, self.levels[1:], strict=True):
            x = unit(x, source, resolutions[level])
            source = resolutions[level]
        return self.head(source.mean(x))


class ResidualUnit(nn.Module):
    """Two convolutions, each with batch normalisation and ReLU, plus a shortcut.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    project : bool
        Use a linear map as shortcut: needed where widths or resolutions differ.
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
